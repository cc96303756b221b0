package dev.tdpmmu.bench;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.Backing;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Lets fleets of different size fault the same guest in, each vCPU a slice of its own, and prints as JSON what a fault
 * costs in each fleet and what a vCPU takes in memory.
 *
 * <p>Time is the wall time from the start signal to the last vCPU's end, so it contains wake-up and exit of the
 * threads; it is divided by all faults of the fleet. Fleets alternate in rounds, the first rounds only warm up. Frames
 * are synthetic, table pages prewarmed. Table pages in the vCPUs' stocks are counted in a run of its own without
 * prewarming, where the pool holds nothing that nobody took.
 */
@Command(
        name = "FleetPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Compares fleets of vCPUs that fault one guest in.")
public final class FleetPerf implements Callable<Integer> {
    /** State line pair and counters of a reader slot. */
    private static final int READER_SLOT_BYTES = 2 * CacheLines.PAIR_BYTES;

    private static final int MARGIN_OF_TABLES = 4096;

    @Option(
            names = "--vcpus",
            split = ",",
            defaultValue = "2,10000",
            description = "sizes of the fleets; the first is the baseline; default ${DEFAULT-VALUE}")
    private List<Integer> fleets;

    @Option(names = "--bits", defaultValue = "22", description = "log2 of the 4 KiB pages; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(
            names = "--policy",
            split = ",",
            defaultValue = "PARALLEL",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<LockPolicy> policies;

    @Option(
            names = "--threads",
            defaultValue = "virtual",
            description = "virtual or platform; default ${DEFAULT-VALUE}")
    private String threads;

    @Option(
            names = "--yield-every",
            defaultValue = "0",
            description = "faults after which a vCPU lets others run, 0 for never; default ${DEFAULT-VALUE}")
    private int yieldEvery;

    @Option(names = "--rounds", defaultValue = "5", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    @Option(names = "--warm-rounds", defaultValue = "2", description = "before them; default ${DEFAULT-VALUE}")
    private int warmRounds;

    private FleetPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new FleetPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("FleetPerf", parameters());
        List<Map<String, Object>> results = new ArrayList<>();
        for (LockPolicy policy : policies) {
            results.addAll(measure(policy));
        }
        report.put("runs", results);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("vcpus", fleets);
        all.put("bits", bits);
        all.put("policies", policies);
        all.put("threads", threads);
        all.put("yieldEvery", yieldEvery);
        all.put("rounds", rounds);
        all.put("warmRounds", warmRounds);
        return all;
    }

    private List<Map<String, Object>> measure(LockPolicy policy) {
        double[][] nanos = new double[fleets.size()][rounds];
        for (int round = -warmRounds; round < rounds; round++) {
            for (int fleet = 0; fleet < fleets.size(); fleet++) {
                double measured = faultIn(policy, fleets.get(fleet), true).nanosPerFault();
                if (round >= 0) {
                    nanos[fleet][round] = measured;
                }
            }
        }
        List<Map<String, Object>> results = new ArrayList<>();
        double baseline = Report.median(nanos[0]);
        for (int fleet = 0; fleet < fleets.size(); fleet++) {
            results.add(describe(policy, fleets.get(fleet), nanos[fleet], baseline));
        }
        return results;
    }

    private Map<String, Object> describe(LockPolicy policy, int vcpus, double[] nanos, double baseline) {
        Outcome cold = faultIn(policy, vcpus, false);
        double heap = heapBytesOfVcpu(policy, vcpus);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("policy", policy);
        row.put("vcpus", vcpus);
        row.put("nsPerFault", Report.median(nanos));
        row.put("nsPerFaultOfRounds", nanos);
        row.put("timesBaseline", Report.median(nanos) / baseline);
        row.put("faults", cold.stats().pfFixed());
        row.put("retries", cold.stats().pfRetry());
        row.put("tablePages", cold.stats().tablePages());
        row.put("cachedTablePages", cold.cachedPages());
        row.put("cachedTableBytes", TablePool.bytesOf(cold.cachedPages()));
        row.put("cachedTablePagesPerVcpu", (double) cold.cachedPages() / vcpus);
        row.put("heapBytesPerVcpu", heap);
        row.put("readerSlotBytesPerVcpu", READER_SLOT_BYTES);
        row.put("bytesPerVcpu", heap + READER_SLOT_BYTES);
        System.err.printf(
                Locale.ROOT,
                "# %s, %d vCPUs: %.2f ns a fault, %.2f x the baseline, %.0f bytes a vCPU, %d pages in stocks%n",
                policy,
                vcpus,
                Report.median(nanos),
                Report.median(nanos) / baseline,
                heap + READER_SLOT_BYTES,
                cold.cachedPages());
        return row;
    }

    /**
     * What one run has shown.
     *
     * @param nanosPerFault wall time divided by faults
     * @param cachedPages table pages that are charged but not linked; those in stocks, if nothing was prewarmed
     * @param stats of the VM at its end
     */
    private record Outcome(double nanosPerFault, long cachedPages, VmStats stats) {}

    private Outcome faultIn(LockPolicy policy, int count, boolean prewarm) {
        long pages = 1L << bits;
        try (Vm vm = newVm(policy)) {
            if (prewarm) {
                long stocks = (long) count * vm.config().pagingMode().levels();
                vm.prewarmTables(Math.toIntExact(BenchVm.tablesOf(pages) + stocks + MARGIN_OF_TABLES));
            }
            CountDownLatch start = new CountDownLatch(1);
            CountDownLatch end = new CountDownLatch(count);
            Thread[] fleet = new Thread[count];
            for (int i = 0; i < count; i++) {
                long first = pages * i / count;
                long last = pages * (i + 1) / count;
                Vcpu vcpu = vm.createVcpu();
                fleet[i] = newThread(() -> {
                    try {
                        start.await();
                        touch(vcpu, first, last);
                    } catch (InterruptedException stop) {
                        Thread.currentThread().interrupt();
                    } finally {
                        end.countDown();
                    }
                });
            }
            long begin = System.nanoTime();
            start.countDown();
            await(end);
            long nanos = System.nanoTime() - begin;
            for (Thread thread : fleet) {
                join(thread);
            }
            VmStats stats = vm.stats();
            if (stats.pages4k() != pages) {
                throw new IllegalStateException("pages are missing: mapped=" + stats.pages4k() + ", expected=" + pages);
            }
            long charged = stats.memoryUsedInBytes() / TablePool.bytesOf(1);
            return new Outcome((double) nanos / pages, charged - stats.tablePages(), stats);
        }
    }

    private void touch(Vcpu vcpu, long first, long last) {
        long untilYield = yieldEvery;
        for (long gfn = first; gfn < last; gfn++) {
            vcpu.touch(Gfn.toGpa(gfn), Access.WRITE);
            if (--untilYield == 0) {
                untilYield = yieldEvery;
                Thread.yield();
            }
        }
    }

    private Vm newVm(LockPolicy policy) {
        VmConfig config = BenchVm.config(policy).build();
        Vm vm = new Vm(config);
        vm.addSlot(0, 0, Gfn.toGpa(1L << bits), Backing.synthetic(PageSize.SIZE_4K));
        return vm;
    }

    private Thread newThread(Runnable body) {
        return switch (threads) {
            case "virtual" -> Thread.ofVirtual().start(body);
            case "platform" -> Thread.ofPlatform().start(body);
            default ->
                throw new IllegalArgumentException(
                        "unknown kind of thread: threads=" + threads + ", expected=virtual|platform");
        };
    }

    /** Heap that each vCPU keeps alive after its first fault; its thread is not contained. */
    private double heapBytesOfVcpu(LockPolicy policy, int count) {
        try (Vm vm = newVm(policy)) {
            Vcpu[] vcpus = new Vcpu[count];
            long before = Heap.usedBytes();
            for (int i = 0; i < count; i++) {
                vcpus[i] = vm.createVcpu();
                vcpus[i].touch(0, Access.READ);
            }
            return (double) (Heap.usedBytes() - before) / vcpus.length;
        }
    }

    private static void await(CountDownLatch end) {
        try {
            end.await();
        } catch (InterruptedException stop) {
            throw new IllegalStateException("measurement was stopped", stop);
        }
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException stop) {
            throw new IllegalStateException("measurement was stopped", stop);
        }
    }
}
