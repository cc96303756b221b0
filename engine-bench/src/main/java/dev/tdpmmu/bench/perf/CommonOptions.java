package dev.tdpmmu.bench.perf;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.sim.FleetThreads;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Options that every program has, and the course that every program takes. */
final class CommonOptions {
    /** What a program does once, in a VM of its own. */
    interface Workload {
        /**
         * Runs through all phases.
         *
         * @param policy lock policy of the VM
         * @param timer books the phases
         */
        void run(LockPolicy policy, PhaseTimer timer);
    }

    @Spec(Spec.Target.MIXEE)
    private CommandSpec program;

    @Option(
            names = {"-l", "--policy"},
            split = ",",
            defaultValue = "EXCLUSIVE,STAMPED,PARALLEL",
            description = "Lock policies, side by side; the first is the baseline. Of ${COMPLETION-CANDIDATES}; default"
                    + " ${DEFAULT-VALUE}.")
    private List<LockPolicy> policies;

    @Option(names = "--repetitions", defaultValue = "7", description = "That count; default ${DEFAULT-VALUE}.")
    private int repetitions;

    @Option(names = "--warm", defaultValue = "2", description = "Repetitions before them; default ${DEFAULT-VALUE}.")
    private int warmRepetitions;

    @Option(
            names = "--threads",
            defaultValue = "PLATFORM",
            description = "Kind of thread that runs a vCPU, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private FleetThreads threads;

    @Option(
            names = "--paging",
            defaultValue = "EPT4",
            description = "Format and depth of the tables, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private PagingMode paging;

    @Option(
            names = "--accessed-dirty",
            defaultValue = "ON",
            description = "Whether the hardware sets A and D bits, of ${COMPLETION-CANDIDATES}; default"
                    + " ${DEFAULT-VALUE}.")
    private AccessedDirty accessedDirty;

    @Option(
            names = "--out",
            paramLabel = "DIR",
            defaultValue = "target/perf",
            description = "Where the JSON and CSV files are put; default ${DEFAULT-VALUE}.")
    private Path out;

    FleetThreads threads() {
        return threads;
    }

    /** A configuration of what these options say. */
    VmConfig.Builder config(LockPolicy policy) {
        return VmConfig.builder()
                .lockPolicy(policy)
                .pagingMode(paging)
                .accessedDirty(accessedDirty)
                .name("perf");
    }

    /**
     * Runs a workload in each repetition under each policy in turn, so that what changes in the machine meanwhile meets
     * all policies alike; prints and writes what came out.
     *
     * @return exit code 0
     */
    int measure(Workload workload) throws IOException {
        require(repetitions > 0, "too few repetitions: --repetitions=" + repetitions + ", min=1");
        require(warmRepetitions >= 0, "too few repetitions: --warm=" + warmRepetitions + ", min=0");
        String name = program.userObject().getClass().getSimpleName();
        PerfResults results = new PerfResults(policies);
        for (int repetition = -warmRepetitions; repetition < repetitions; repetition++) {
            for (LockPolicy policy : policies) {
                System.err.println("# " + name + " " + policy + ", "
                        + (repetition < 0 ? "warm-up" : "repetition " + (repetition + 1) + " of " + repetitions));
                PhaseTimer timer = new PhaseTimer();
                workload.run(policy, timer);
                if (repetition >= 0) {
                    results.add(policy, timer);
                }
            }
        }
        PrintWriter console = program.commandLine().getOut();
        console.println(name + " " + parameters());
        new ResultTable(results).print(console);
        console.println("Written: " + new PerfReport(name, parameters(), results).write(out));
        console.flush();
        return 0;
    }

    /** Refuses wrong options as the command line does, with exit code 2. */
    void require(boolean condition, String message) {
        if (!condition) {
            throw new ParameterException(program.commandLine(), message);
        }
    }

    /** All options with their values, by their long names. */
    private Map<String, String> parameters() {
        Map<String, String> all = new LinkedHashMap<>();
        for (OptionSpec option : program.options()) {
            if (!option.usageHelp() && !option.versionHelp()) {
                Object value = option.getValue();
                all.put(option.longestName().replaceFirst("^-+", ""), String.valueOf(value));
            }
        }
        return all;
    }
}
