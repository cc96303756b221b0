package dev.tdpmmu.base;

import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.agrona.concurrent.Agent;
import org.jctools.queues.MessagePassingQueue;
import org.jctools.queues.varhandle.MpscUnboundedVarHandleArrayQueue;

/** Runs a main class of the tests in a process of its own, for what a process decides once. */
public final class ForkedJava {
    private static final long TIMEOUT_SECONDS = 60;

    /**
     * What became of the process.
     *
     * @param exitCode its exit code
     * @param out all of its standard output
     * @param err all of its standard error
     */
    public record Result(int exitCode, String out, String err) {}

    private ForkedJava() {}

    /**
     * Runs {@code java} of this JDK with the engine, its libraries and its tests on the class path, and waits for its
     * end.
     *
     * @param options for the virtual machine
     * @param main class with a main method
     * @param arguments for the main method
     * @return what it printed
     * @throws IOException if it cannot be started
     * @throws InterruptedException if this thread is interrupted
     */
    public static Result run(List<String> options, Class<?> main, String... arguments)
            throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("-Xmx256m");
        command.addAll(options);
        command.add("-cp");
        command.add(Stream.of(
                        Debug.class,
                        main,
                        Agent.class,
                        MpscUnboundedVarHandleArrayQueue.class,
                        MessagePassingQueue.class)
                .map(ForkedJava::placeOf)
                .collect(Collectors.joining(System.getProperty("path.separator"))));
        command.add(main.getName());
        command.addAll(List.of(arguments));
        Path out = Files.createTempFile("forked", ".out");
        Path err = Files.createTempFile("forked", ".err");
        try {
            ProcessBuilder builder = new ProcessBuilder(command);
            // The launcher reports these on standard error, which must show what the engine prints and nothing else.
            builder.environment().remove("JAVA_TOOL_OPTIONS");
            builder.environment().remove("JDK_JAVA_OPTIONS");
            Process process = builder.redirectOutput(out.toFile())
                    .redirectError(err.toFile())
                    .start();
            if (!process.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
                throw new IllegalStateException("process does not end: command=" + command);
            }
            return new Result(process.exitValue(), text(out), text(err));
        } finally {
            Files.delete(out);
            Files.delete(err);
        }
    }

    private static String text(Path file) throws IOException {
        return Files.readString(file, StandardCharsets.UTF_8);
    }

    /** Where a class was loaded from: the class path of a test runner may hide it behind a manifest. */
    private static String placeOf(Class<?> type) {
        try {
            return Path.of(type.getProtectionDomain()
                            .getCodeSource()
                            .getLocation()
                            .toURI())
                    .toString();
        } catch (URISyntaxException noPath) {
            throw new IllegalStateException("class has no place: class=" + type, noPath);
        }
    }
}
