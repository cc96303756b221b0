package dev.tdpmmu.bench.perf;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Runs performance programs in one process without debug checks, which those of this module's tests are. */
final class PerfProcess {
    private static final String NEXT = ";";
    private static final long TIMEOUT_SECONDS = 60;

    private PerfProcess() {}

    /**
     * Runs the programs one after the other, and waits for their end.
     *
     * @param log takes what they print
     * @param commands names and options
     * @return exit code of each
     */
    static List<Integer> run(Path log, List<List<String>> commands) throws IOException, InterruptedException {
        List<String> line = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx256m",
                // Most of the time would go into compiling what runs for a moment.
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path"),
                PerfProcess.class.getName(),
                log.resolveSibling("exit-codes").toString()));
        for (List<String> command : commands) {
            line.addAll(command);
            line.add(NEXT);
        }
        ProcessBuilder builder =
                new ProcessBuilder(line).redirectErrorStream(true).redirectOutput(log.toFile());
        builder.environment().remove("JAVA_TOOL_OPTIONS");
        builder.environment().remove("JDK_JAVA_OPTIONS");
        Process process = builder.start();
        if (!process.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS)) {
            process.destroyForcibly().waitFor();
            throw new IllegalStateException("process does not end: command=" + line);
        }
        if (process.exitValue() != 0) {
            throw new IllegalStateException(
                    "process failed: exitCode=" + process.exitValue() + ", log=" + Files.readString(log));
        }
        return Files.readAllLines(log.resolveSibling("exit-codes")).stream()
                .map(Integer::valueOf)
                .toList();
    }

    public static void main(String[] args) throws IOException {
        List<String> exitCodes = new ArrayList<>();
        int begin = 1;
        for (int i = begin; i < args.length; i++) {
            if (args[i].equals(NEXT)) {
                exitCodes.add(Integer.toString(PerfCommand.execute(Arrays.copyOfRange(args, begin, i))));
                begin = i + 1;
            }
        }
        Files.write(Path.of(args[0]), exitCodes);
    }
}
