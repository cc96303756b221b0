package dev.tdpmmu.bench;

import dev.tdpmmu.bench.perf.PerfCommand;
import java.io.IOException;
import java.util.Arrays;

/** Start of the jar: {@code perf} and a program's name, or whatever JMH understands. */
public final class Main {
    private static final String PERF = "perf";

    private Main() {}

    /**
     * Runs a performance program, or benchmarks.
     *
     * @param args {@code perf PROGRAM [options]}, or JMH's
     * @throws IOException if JMH cannot write its results
     */
    public static void main(String[] args) throws IOException {
        if (args.length > 0 && args[0].equals(PERF)) {
            System.exit(PerfCommand.execute(Arrays.copyOfRange(args, 1, args.length)));
        }
        org.openjdk.jmh.Main.main(args);
    }
}
