package dev.tdpmmu.bench;

import dev.tdpmmu.bench.ViolationSteps.Preparation;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.memory.FrameRun;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.ToLongFunction;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Prints which step of a whole violation takes what, as a Markdown table and as JSON.
 *
 * <p>Each step runs by itself over the pages of a new VM, by the method of {@link NativeComparison}; what the steps
 * leave unexplained of the whole stands in a row of its own. Steps that contain others (handling, mapping) appear as
 * what is left of them without those. A difference of two noisy figures can come out below zero: read it as nothing.
 */
@Command(
        name = "ViolationSharesPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Times a whole violation and each of its steps.")
public final class ViolationSharesPerf implements Callable<Integer> {
    private static final double PERCENT = 100;

    @Option(names = "--policy", defaultValue = "PARALLEL", description = "lock policy; default ${DEFAULT-VALUE}")
    private LockPolicy policy;

    @Option(names = "--bits", defaultValue = "16", description = "log2 of the 4 KiB pages; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(names = "--repetitions", defaultValue = "25", description = "of each step; default ${DEFAULT-VALUE}")
    private int repetitions;

    @Option(names = "--warm-millis", defaultValue = "600", description = "before them; default ${DEFAULT-VALUE}")
    private long warmMillis;

    private FrameRun frames;

    private ViolationSharesPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new ViolationSharesPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        frames = ViolationSteps.warmFrames(1L << bits);
        try {
            Report report = new Report("ViolationSharesPerf", parameters());
            Map<String, Double> steps = measureSteps();
            report.put("stepNanos", steps);
            report.put("table", table(steps));
            report.print();
        } finally {
            frames.close();
        }
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("policy", policy);
        all.put("bits", bits);
        all.put("repetitions", repetitions);
        all.put("warmMillis", warmMillis);
        return all;
    }

    private Map<String, Double> measureSteps() {
        Map<String, Double> steps = new LinkedHashMap<>();
        // The whole first: it is what counts, and the compiler has seen nothing else then.
        steps.put("whole", measure(Preparation.NONE, ViolationSteps::whole));
        steps.put("wholeStore", measure(Preparation.NONE, ViolationSteps::wholeStore));
        steps.put("tlbMiss", measure(Preparation.NONE, ViolationSteps::tlbMiss));
        steps.put("firstWalk", measure(Preparation.TABLES, ViolationSteps::firstWalk));
        steps.put("handle", measure(Preparation.NONE, ViolationSteps::handle));
        steps.put("handleProbed", measure(Preparation.NONE, ViolationSteps::handleProbed));
        steps.put("slotLookUp", measure(Preparation.NONE, ViolationSteps::slotLookUp));
        steps.put("topUp", measure(Preparation.NONE, ViolationSteps::topUp));
        steps.put("lock", measure(Preparation.NONE, ViolationSteps::lock));
        steps.put("map", measure(Preparation.NONE, ViolationSteps::map));
        steps.put("secondWalk", measure(Preparation.LEAVES, ViolationSteps::secondWalk));
        return steps;
    }

    private double measure(Preparation preparation, ToLongFunction<ViolationSteps> step) {
        try (Run run = new Run(preparation, step)) {
            return new Repetitions(1)
                    .measure(run, true, 1L << bits, repetitions, warmMillis)
                    .median();
        }
    }

    private static Map<String, String> table(Map<String, Double> steps) {
        double whole = steps.get("whole");
        Map<String, Double> rows = new LinkedHashMap<>();
        rows.put("1 enter the guest, TLB look-up misses, leave", steps.get("tlbMiss"));
        rows.put("2 first hardware walk ends in a violation", steps.get("firstWalk"));
        rows.put("4 fast-fix probe, only if an entry was seen", steps.get("handleProbed") - steps.get("handle"));
        rows.put("6 slot look-up", steps.get("slotLookUp"));
        rows.put("7 top-up of table pages", steps.get("topUp"));
        rows.put("8, 11 lock and unlock with the epoch", steps.get("lock"));
        rows.put("9, 10 staleness, walk, exchange", steps.get("map") - steps.get("topUp") - steps.get("lock"));
        rows.put("3, 5 reset, snapshot, counters", steps.get("handle") - steps.get("map") - steps.get("slotLookUp"));
        rows.put("second hardware walk sets A and D, TLB insertion", steps.get("secondWalk"));
        double explained =
                steps.get("tlbMiss") + steps.get("firstWalk") + steps.get("handle") + steps.get("secondWalk");
        rows.put("rest: exit, entry, requests", whole - explained);
        rows.put("whole violation", whole);
        System.out.println("| step | ns | share |\n|---|---|---|");
        Map<String, String> shares = new LinkedHashMap<>();
        rows.forEach((step, nanos) -> {
            String share = String.format(Locale.ROOT, "%.1f %%", nanos / whole * PERCENT);
            System.out.printf(Locale.ROOT, "| %s | %.2f | %s |%n", step, nanos, share);
            shares.put(step, share);
        });
        return shares;
    }

    /** One step, on a VM that is replaced by each preparation. */
    private final class Run implements Repetitions.Trial, AutoCloseable {
        private final Preparation preparation;
        private final ToLongFunction<ViolationSteps> step;
        private ViolationSteps steps;

        Run(Preparation preparation, ToLongFunction<ViolationSteps> step) {
            this.preparation = preparation;
            this.step = step;
        }

        @Override
        public void prepare() {
            close();
            steps = new ViolationSteps(policy, frames, preparation);
        }

        @Override
        public long run(int thread) {
            return step.applyAsLong(steps);
        }

        @Override
        public void close() {
            if (steps != null) {
                steps.close();
            }
        }
    }
}
