package dev.tdpmmu.bench;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Measures how long somebody waits who wants the MMU lock exclusively while others take and leave it shared in a loop,
 * and prints the percentiles for each policy and kind of thread as JSON.
 *
 * <p>The holders do nothing but lock and unlock, which is the worst that a fleet of faulting vCPUs can do to a writer.
 * The waiter is a platform thread of its own.
 */
@Command(
        name = "WriterLatencyPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Measures the wait for the exclusive MMU lock against looping shared holders.")
public final class WriterLatencyPerf implements Callable<Integer> {
    private static final long PAGES = 512;
    private static final double NANOS_PER_MICRO = 1e3;
    private static final double MEDIAN = 0.5;
    private static final double P99 = 0.99;

    @Option(names = "--holders", defaultValue = "64", description = "looping threads; default ${DEFAULT-VALUE}")
    private int holders;

    @Option(
            names = "--policy",
            split = ",",
            defaultValue = "EXCLUSIVE,STAMPED,PARALLEL",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<LockPolicy> policies;

    @Option(
            names = "--threads",
            split = ",",
            defaultValue = "virtual,platform",
            description = "kinds of thread; default ${DEFAULT-VALUE}")
    private List<String> kinds;

    @Option(names = "--samples", defaultValue = "300", description = "waits that count; default ${DEFAULT-VALUE}")
    private int samples;

    @Option(
            names = "--seconds",
            defaultValue = "15",
            description = "after which a run ends with the samples that it has; default ${DEFAULT-VALUE}")
    private int seconds;

    @Option(
            names = "--faults",
            description =
                    "holders lock as faults do (exclusively under EXCLUSIVE) instead of as shared range operations")
    private boolean faults;

    private volatile boolean stop;

    private WriterLatencyPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new WriterLatencyPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("WriterLatencyPerf", parameters());
        List<Map<String, Object>> runs = new ArrayList<>();
        for (LockPolicy policy : policies) {
            for (String kind : kinds) {
                runs.add(measure(policy, kind));
            }
        }
        report.put("runs", runs);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("holders", holders);
        all.put("policies", policies);
        all.put("threads", kinds);
        all.put("samples", samples);
        all.put("seconds", seconds);
        all.put("faults", faults);
        return all;
    }

    private Map<String, Object> measure(LockPolicy policy, String kind) {
        try (BenchVm bench = BenchVm.synthetic(policy, PAGES)) {
            MmuLock lock = bench.vm().mmu().lock();
            ReaderSlot waiter = bench.newVcpu().slot();
            long[] taken = new long[holders];
            stop = false;
            Thread[] threads = new Thread[holders];
            for (int i = 0; i < holders; i++) {
                int holder = i;
                VcpuMmu vcpu = bench.newVcpu();
                threads[i] = newThread(kind, () -> taken[holder] = hold(lock, vcpu.slot()));
            }
            double[] waits = waitExclusively(lock, waiter);
            stop = true;
            for (Thread thread : threads) {
                join(thread);
            }
            return describe(policy, kind, waits, Arrays.stream(taken).sum());
        }
    }

    private long hold(MmuLock lock, ReaderSlot slot) {
        long count = 0;
        while (!stop) {
            if (faults) {
                lock.lockForFault(slot);
                lock.unlockForFault(slot);
            } else {
                lock.lock(slot, LockMode.SHARED);
                lock.unlock(slot, LockMode.SHARED);
            }
            count++;
        }
        slot.leave(ReaderSlot.OUTSIDE);
        return count;
    }

    /** Waits in ns, sorted; the first tenth, in which the holders start, is not among them. */
    private double[] waitExclusively(MmuLock lock, ReaderSlot slot) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        int warm = samples / 10;
        double[] waits = new double[samples + warm];
        int count = 0;
        while (count < waits.length && System.nanoTime() < deadline) {
            long start = System.nanoTime();
            lock.lock(slot, LockMode.EXCLUSIVE);
            waits[count++] = System.nanoTime() - start;
            lock.unlock(slot, LockMode.EXCLUSIVE);
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(1));
        }
        double[] counted = Arrays.copyOfRange(waits, Math.min(warm, count - 1), count);
        Arrays.sort(counted);
        return counted;
    }

    private Map<String, Object> describe(LockPolicy policy, String kind, double[] waits, long taken) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("policy", policy);
        row.put("threads", kind);
        row.put("samples", waits.length);
        row.put("sharedAcquisitions", taken);
        row.put("medianMicros", Report.quantile(waits, MEDIAN) / NANOS_PER_MICRO);
        row.put("p99Micros", Report.quantile(waits, P99) / NANOS_PER_MICRO);
        row.put("maxMicros", waits[waits.length - 1] / NANOS_PER_MICRO);
        System.err.printf(
                Locale.ROOT,
                "# %s, %d %s holders: median %.1f us, p99 %.1f us, max %.1f us of %d waits, %d shared acquisitions%n",
                policy,
                holders,
                kind,
                row.get("medianMicros"),
                row.get("p99Micros"),
                row.get("maxMicros"),
                waits.length,
                taken);
        return row;
    }

    private static Thread newThread(String kind, Runnable body) {
        return switch (kind) {
            case "virtual" -> Thread.ofVirtual().start(body);
            case "platform" -> Thread.ofPlatform().start(body);
            default ->
                throw new IllegalArgumentException(
                        "unknown kind of thread: threads=" + kind + ", expected=virtual|platform");
        };
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException("measurement was stopped", interrupted);
        }
    }
}
