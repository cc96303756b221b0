package dev.tdpmmu.bench;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.mmu.RangeKernels;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.function.ToDoubleFunction;
import org.HdrHistogram.Histogram;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Measures how long somebody waits for the exclusive MMU lock while a range operation runs over all of a large guest of
 * 4 KiB leaves, for each operation, and prints it as JSON.
 *
 * <p>The waiter takes the lock, leaves it, spins for a while, and begins again, all through the operation. A figure is
 * the median over the rounds of each round's longest, and of each round's median wait. The wait contains the hand-over.
 * Between operations the entries are made again what the next one expects, as plain stores. The tables of a guest of 1
 * TiB need more room than there is by default: {@code -Dtdpmmu.memory.tables=4294967296}.
 */
@Command(
        name = "LockHoldPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Measures the wait for the exclusive MMU lock behind each range operation.")
public final class LockHoldPerf implements Callable<Integer> {
    private static final double NANOS_PER_MICRO = 1e3;
    private static final double NANOS_PER_MILLI = 1e6;
    private static final long MAX_NANOS = TimeUnit.MINUTES.toNanos(1);
    private static final int DIGITS = 3;
    private static final double MEDIAN = 50;
    private static final double P99 = 99;
    private static final double P999 = 99.9;

    @Option(names = "--gib", defaultValue = "1024", description = "size of the guest; default ${DEFAULT-VALUE}")
    private long gib;

    @Option(
            names = "--policy",
            split = ",",
            defaultValue = "PARALLEL",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<LockPolicy> policies;

    @Option(
            names = "--pause-micros",
            defaultValue = "100",
            description = "from one wait to the next; default ${DEFAULT-VALUE}")
    private long pauseMicros;

    @Option(names = "--rounds", defaultValue = "5", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    @Option(names = "--warm-rounds", defaultValue = "1", description = "before them; default ${DEFAULT-VALUE}")
    private int warmRounds;

    private LockHoldPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new LockHoldPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("LockHoldPerf", parameters());
        List<Map<String, Object>> runs = new ArrayList<>();
        for (LockPolicy policy : policies) {
            Map<String, List<Outcome>> outcomes = measure(policy);
            outcomes.forEach((operation, rows) -> runs.add(describe(policy, operation, rows)));
        }
        report.put("runs", runs);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("gib", gib);
        all.put("policies", policies);
        all.put("pauseMicros", pauseMicros);
        all.put("rounds", rounds);
        all.put("warmRounds", warmRounds);
        return all;
    }

    /**
     * What one operation has shown in one round, in ns.
     *
     * @param whole time of the operation
     * @param waits how many waits it met
     * @param p50 of the waits
     * @param p99 of the waits
     * @param p999 of the waits
     * @param max of the waits
     */
    private record Outcome(double whole, double waits, double p50, double p99, double p999, double max) {}

    private static double median(List<Outcome> outcomes, ToDoubleFunction<Outcome> figure) {
        return Report.median(outcomes.stream().mapToDouble(figure).toArray());
    }

    private static Map<String, Object> describe(LockPolicy policy, String operation, List<Outcome> outcomes) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("policy", policy);
        row.put("operation", operation);
        row.put("wholeMillis", median(outcomes, Outcome::whole) / NANOS_PER_MILLI);
        row.put("waits", median(outcomes, Outcome::waits));
        row.put("p50Micros", median(outcomes, Outcome::p50) / NANOS_PER_MICRO);
        row.put("p99Micros", median(outcomes, Outcome::p99) / NANOS_PER_MICRO);
        row.put("p999Micros", median(outcomes, Outcome::p999) / NANOS_PER_MICRO);
        row.put("medianOfMaximaMicros", median(outcomes, Outcome::max) / NANOS_PER_MICRO);
        row.put(
                "maximaMicros",
                outcomes.stream().mapToDouble(o -> o.max() / NANOS_PER_MICRO).toArray());
        System.err.printf(
                Locale.ROOT,
                "# %-9s %-17s %8.1f ms, %6.0f waits: p50 %.1f us, p99 %.1f us, p99.9 %.1f us, median of maxima %.1f us%n",
                policy,
                operation,
                row.get("wholeMillis"),
                row.get("waits"),
                row.get("p50Micros"),
                row.get("p99Micros"),
                row.get("p999Micros"),
                row.get("medianOfMaximaMicros"));
        return row;
    }

    private Map<String, List<Outcome>> measure(LockPolicy policy) {
        Map<String, List<Outcome>> all = new LinkedHashMap<>();
        long pages = Gfn.of(gib << 30);
        try (BenchVm bench = BenchVm.of(
                BenchVm.config(policy).hugePages(PageSize.SIZE_2M).build(),
                pages,
                Backing.synthetic(PageSize.SIZE_2M))) {
            Guest guest = new Guest(bench);
            for (int round = -warmRounds; round < rounds; round++) {
                System.err.println("# " + policy + ", round " + round);
                Map<String, Outcome> outcomes = guest.round();
                if (round >= 0) {
                    outcomes.forEach((operation, outcome) -> all.computeIfAbsent(operation, unseen -> new ArrayList<>())
                            .add(outcome));
                }
            }
        }
        return all;
    }

    /** Takes the lock again and again on a thread of its own until it is told to stop. */
    private final class Waiter {
        private final MmuLock lock;
        private final ReaderSlot slot;
        private final Histogram waits = new Histogram(MAX_NANOS, DIGITS);
        private final Thread thread;
        private volatile boolean stop;

        Waiter(MmuLock lock, ReaderSlot slot) {
            this.lock = lock;
            this.slot = slot;
            this.thread = Thread.ofPlatform().name("waiter").start(this::run);
        }

        private void run() {
            while (!stop) {
                long begin = System.nanoTime();
                lock.lock(slot, LockMode.EXCLUSIVE);
                long end = System.nanoTime();
                lock.unlock(slot, LockMode.EXCLUSIVE);
                waits.recordValue(Math.min(end - begin, MAX_NANOS));
                long next = end + TimeUnit.MICROSECONDS.toNanos(pauseMicros);
                while (System.nanoTime() < next && !stop) {
                    Thread.onSpinWait();
                }
            }
        }

        Histogram stop() {
            stop = true;
            try {
                thread.join();
            } catch (InterruptedException interrupted) {
                throw new IllegalStateException("measurement was stopped", interrupted);
            }
            return waits;
        }
    }

    /** A guest that goes through all operations in each round. */
    private final class Guest {
        private final BenchVm bench;
        private final MemSlot slot;
        private final RangeOperations ranges;
        private final DirtyPages everyPage;
        private Map<String, Outcome> outcomes;
        private RangeKernels kernels;
        private ReaderSlot waiting;
        private long firstSpte;

        Guest(BenchVm bench) {
            this.bench = bench;
            this.slot = bench.slot();
            this.ranges = bench.vm().mmu().ranges();
            this.everyPage = new DirtyPages(slot.pages());
            for (long page = 0; page < slot.pages(); page++) {
                everyPage.add(page);
            }
        }

        Map<String, Outcome> round() {
            outcomes = new LinkedHashMap<>();
            populate();
            long start = slot.baseGfn();
            long end = slot.endGfn();
            time("split", () -> ranges.split(start, end, PagingLevel.L4K), huge());
            SpteFormat format = bench.vm().mmu().format();
            firstSpte = kernels.leaf(start) | format.accessedBit() | format.dirtyBit();
            fill(false);
            time("write-protect", () -> ranges.writeProtect(start, end) ? 1 : 0, 1);
            fill(false);
            time("clear dirty", () -> ranges.clearDirty(start, end), slot.pages());
            time("clear dirty, clean", () -> ranges.clearDirty(start, end), 0);
            time("age", () -> ranges.age(start, end), slot.pages());
            fill(false);
            timeArm("arm shared", OperationLock.SHARED);
            fill(false);
            timeArm("arm exclusive", OperationLock.EXCLUSIVE);
            fill(false);
            time("unmap shared", () -> ranges.unmap(start, end, OperationLock.SHARED, true), slot.pages());
            fill(true);
            time("unmap exclusive", () -> ranges.unmap(start, end, OperationLock.EXCLUSIVE, true), slot.pages());
            fill(true);
            time("recover", () -> ranges.recover(slot), huge());
            bench.vm().barrier();
            ranges.split(start, end, PagingLevel.L4K);
            fill(false);
            time("zap all roots", this::zapAll, 0);
            return outcomes;
        }

        private long huge() {
            return slot.pages() / PagingLevel.pages(PagingLevel.L2M);
        }

        private void timeArm(String name, OperationLock how) {
            time(
                    name,
                    () -> {
                        ranges.arm(slot, everyPage, how);
                        return 0;
                    },
                    0);
        }

        private long zapAll() {
            bench.vm().mmu().zapAllFast(slot.baseGfn(), slot.endGfn());
            return 0;
        }

        private void populate() {
            bench.empty();
            VcpuMmu worker = bench.newVcpu();
            waiting = bench.newVcpu().slot();
            kernels = new RangeKernels(bench.vm().mmu(), worker);
            bench.populate(PagingLevel.pages(PagingLevel.L2M));
        }

        private void fill(boolean absent) {
            kernels.fill(firstSpte, slot.baseGfn(), slot.endGfn(), absent);
        }

        private void time(String name, LongSupplier operation, long expected) {
            Waiter waiter = new Waiter(bench.vm().mmu().lock(), waiting);
            long begin = System.nanoTime();
            long done = operation.getAsLong();
            long whole = System.nanoTime() - begin;
            Histogram waits = waiter.stop();
            if (done != expected) {
                throw new IllegalStateException(
                        "not everything was done: operation=" + name + ", done=" + done + ", expected=" + expected);
            }
            outcomes.put(
                    name,
                    new Outcome(
                            whole,
                            waits.getTotalCount(),
                            waits.getValueAtPercentile(MEDIAN),
                            waits.getValueAtPercentile(P99),
                            waits.getValueAtPercentile(P999),
                            waits.getMaxValue()));
        }
    }
}
