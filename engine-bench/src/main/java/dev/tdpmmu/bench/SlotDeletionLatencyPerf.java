package dev.tdpmmu.bench;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.ToDoubleFunction;
import org.HdrHistogram.Histogram;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Measures how long faults take while another thread adds, fills and removes a slot in a loop, and prints the
 * percentiles for each policy and way to zap as JSON.
 *
 * <p>Every vCPU is a virtual thread and stores to one new page of a slice of its own, then loads from some that it
 * knows; after some stores it rests, so that the fleet does not need all processors. (Yielding instead would measure
 * the scheduler of virtual threads: who yields goes on before those that another thread woke.) A latency is that of the
 * whole exit, from the violation to the next entry, with what the thread waited for its turn after a lock was free
 * again. {@code NONE} adds no slot and removes none: what the fleet does to itself. Everything alternates in rounds; a
 * figure is the median of the rounds'.
 *
 * <p>A vCPU that waits makes no other faults meanwhile, so a policy that lets few vCPUs run while all others wait for
 * seconds shows good percentiles. Those of visits are what somebody would have met who came to each vCPU at fixed
 * intervals.
 */
@Command(
        name = "SlotDeletionLatencyPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Measures fault latencies while slots come and go.")
public final class SlotDeletionLatencyPerf implements Callable<Integer> {
    private static final double NANOS_PER_MICRO = 1e3;
    private static final long MAX_NANOS = TimeUnit.MINUTES.toNanos(1);
    private static final int DIGITS = 2;
    private static final double P99 = 99;
    private static final double P999 = 99.9;
    private static final double MEDIAN = 50;

    /** How the other slot goes. */
    enum Deletion {
        /** There is none. */
        NONE,
        /** All roots are replaced. */
        ALL_ROOTS,
        /** Its range is zapped. */
        RANGE
    }

    @Option(names = "--vcpus", defaultValue = "1000", description = "that count; default ${DEFAULT-VALUE}")
    private int vcpus;

    @Option(
            names = "--policy",
            split = ",",
            defaultValue = "EXCLUSIVE,STAMPED,PARALLEL",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<LockPolicy> policies;

    @Option(
            names = "--deletion",
            split = ",",
            defaultValue = "NONE,ALL_ROOTS,RANGE",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Deletion> deletions;

    @Option(names = "--gib", defaultValue = "256", description = "size of the fleet's slot; default ${DEFAULT-VALUE}")
    private long gib;

    @Option(
            names = "--slot-bits",
            defaultValue = "16",
            description = "log2 of the 4 KiB pages of the slot that comes and goes; default ${DEFAULT-VALUE}")
    private int slotBits;

    @Option(
            names = "--loads",
            defaultValue = "3",
            description = "loads from known pages after each store to a new one; default ${DEFAULT-VALUE}")
    private int loads;

    @Option(
            names = "--rest-every",
            defaultValue = "16",
            description = "stores after which a vCPU rests; default ${DEFAULT-VALUE}")
    private int restEvery;

    @Option(
            names = "--rest-micros",
            defaultValue = "10000",
            description = "how long, 0 for a yield; default ${DEFAULT-VALUE}")
    private long restMicros;

    @Option(
            names = "--pause-micros",
            defaultValue = "0",
            description = "from one removal to the next slot; default ${DEFAULT-VALUE}")
    private long pauseMicros;

    @Option(
            names = "--visit-micros",
            defaultValue = "1000",
            description = "interval of the visits; default ${DEFAULT-VALUE}")
    private long visitMicros;

    @Option(names = "--millis", defaultValue = "3000", description = "of each run; default ${DEFAULT-VALUE}")
    private long millis;

    @Option(
            names = "--warm-millis",
            defaultValue = "1000",
            description = "before them, in each run; default ${DEFAULT-VALUE}")
    private long warmMillis;

    @Option(names = "--rounds", defaultValue = "3", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    private volatile boolean stop;
    private volatile boolean recording;

    private SlotDeletionLatencyPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new SlotDeletionLatencyPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("SlotDeletionLatencyPerf", parameters());
        Map<String, List<Outcome>> all = new LinkedHashMap<>();
        for (int round = 0; round < rounds; round++) {
            for (Deletion deletion : deletions) {
                for (LockPolicy policy : policies) {
                    all.computeIfAbsent(deletion + " " + policy, unseen -> new ArrayList<>())
                            .add(measure(policy, deletion));
                }
            }
        }
        List<Map<String, Object>> runs = new ArrayList<>();
        for (Deletion deletion : deletions) {
            List<Outcome> baseline = all.get(deletion + " " + LockPolicy.EXCLUSIVE);
            for (LockPolicy policy : policies) {
                runs.add(describe(policy, deletion, all.get(deletion + " " + policy), baseline));
            }
        }
        report.put("runs", runs);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("vcpus", vcpus);
        all.put("policies", policies);
        all.put("deletions", deletions);
        all.put("gib", gib);
        all.put("slotBits", slotBits);
        all.put("loads", loads);
        all.put("restEvery", restEvery);
        all.put("restMicros", restMicros);
        all.put("pauseMicros", pauseMicros);
        all.put("visitMicros", visitMicros);
        all.put("millis", millis);
        all.put("warmMillis", warmMillis);
        all.put("rounds", rounds);
        return all;
    }

    /**
     * What one run has shown, times in ns.
     *
     * @param p50 of the faults' latencies
     * @param p99 of the same
     * @param p999 of the same
     * @param max of the same
     * @param visitP99 of what visits at fixed intervals would have met
     * @param visitP999 of the same
     * @param faults that were measured
     * @param deletions of the slot that began and ended meanwhile; none if one takes longer
     * @param deletionMedian how long one took
     */
    private record Outcome(
            double p50,
            double p99,
            double p999,
            double max,
            double visitP99,
            double visitP999,
            double faults,
            double deletions,
            double deletionMedian) {}

    private static double median(List<Outcome> outcomes, ToDoubleFunction<Outcome> figure) {
        return Report.median(outcomes.stream().mapToDouble(figure).toArray());
    }

    private static Map<String, Object> describe(
            LockPolicy policy, Deletion deletion, List<Outcome> outcomes, List<Outcome> baseline) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("policy", policy);
        row.put("deletion", deletion);
        row.put("p50Micros", median(outcomes, Outcome::p50) / NANOS_PER_MICRO);
        row.put("p99Micros", median(outcomes, Outcome::p99) / NANOS_PER_MICRO);
        row.put("p999Micros", median(outcomes, Outcome::p999) / NANOS_PER_MICRO);
        row.put("ofVisitsP99Micros", median(outcomes, Outcome::visitP99) / NANOS_PER_MICRO);
        row.put("ofVisitsP999Micros", median(outcomes, Outcome::visitP999) / NANOS_PER_MICRO);
        row.put("worstMicros", median(outcomes, Outcome::max) / NANOS_PER_MICRO);
        row.put(
                "p999MicrosOfRounds",
                outcomes.stream().mapToDouble(o -> o.p999() / NANOS_PER_MICRO).toArray());
        row.put("faults", median(outcomes, Outcome::faults));
        row.put("deletions", median(outcomes, Outcome::deletions));
        row.put("deletionMicros", median(outcomes, Outcome::deletionMedian) / NANOS_PER_MICRO);
        if (baseline != null) {
            row.put("p999ToExclusive", median(outcomes, Outcome::p999) / median(baseline, Outcome::p999));
            row.put(
                    "ofVisitsP999ToExclusive",
                    median(outcomes, Outcome::visitP999) / median(baseline, Outcome::visitP999));
        }
        System.err.printf(
                Locale.ROOT,
                "# %-9s %-9s p50 %.1f us, p99 %.1f us, p99.9 %.1f us, worst %.0f us; of visits: p99 %.0f us, p99.9 %.0f"
                        + " us; %.0f faults, %.0f deletions of %.0f us; p99.9 to EXCLUSIVE: %s, of visits %s%n",
                policy,
                deletion,
                row.get("p50Micros"),
                row.get("p99Micros"),
                row.get("p999Micros"),
                row.get("worstMicros"),
                row.get("ofVisitsP99Micros"),
                row.get("ofVisitsP999Micros"),
                row.get("faults"),
                row.get("deletions"),
                row.get("deletionMicros"),
                row.get("p999ToExclusive"),
                row.get("ofVisitsP999ToExclusive"));
        return row;
    }

    private Outcome measure(LockPolicy policy, Deletion deletion) {
        long bytes = gib << 30;
        stop = false;
        recording = false;
        try (Vm vm = new Vm(BenchVm.config(policy)
                .backgroundReclaim(true)
                .maxVcpus(vcpus + 1)
                .slotZap(deletion == Deletion.RANGE ? SlotZap.RANGE : SlotZap.ALL_ROOTS)
                .build())) {
            vm.addSlot(0, 0, bytes, Backing.synthetic(PageSize.SIZE_4K));
            Histogram[] latencies = new Histogram[vcpus];
            Thread[] fleet = new Thread[vcpus];
            long slice = Gfn.of(bytes) / vcpus;
            for (int i = 0; i < vcpus; i++) {
                Histogram histogram = new Histogram(MAX_NANOS, DIGITS);
                latencies[i] = histogram;
                Vcpu vcpu = vm.createVcpu();
                vcpu.observe(nanos -> record(histogram, nanos));
                long first = slice * i;
                fleet[i] = Thread.ofVirtual().unstarted(() -> run(vcpu, first, slice));
            }
            for (Thread thread : fleet) {
                thread.start();
            }
            double[][] removals = {{}};
            Thread remover = Thread.ofPlatform().name("remover").start(() -> {
                if (deletion != Deletion.NONE) {
                    removals[0] = removeSlots(vm, bytes);
                }
            });
            rest(warmMillis);
            recording = true;
            rest(millis);
            recording = false;
            stop = true;
            for (Thread thread : fleet) {
                join(thread);
            }
            join(remover);
            Histogram sum = new Histogram(MAX_NANOS, DIGITS);
            for (Histogram histogram : latencies) {
                sum.add(histogram);
            }
            Histogram visits = sum.copyCorrectedForCoordinatedOmission(TimeUnit.MICROSECONDS.toNanos(visitMicros));
            return new Outcome(
                    sum.getValueAtPercentile(MEDIAN),
                    sum.getValueAtPercentile(P99),
                    sum.getValueAtPercentile(P999),
                    sum.getMaxValue(),
                    visits.getValueAtPercentile(P99),
                    visits.getValueAtPercentile(P999),
                    sum.getTotalCount(),
                    removals[0].length,
                    removals[0].length == 0 ? Double.NaN : Report.median(removals[0]));
        }
    }

    private void record(Histogram histogram, long nanos) {
        if (recording) {
            histogram.recordValue(Math.min(nanos, MAX_NANOS));
        }
    }

    private void run(Vcpu vcpu, long first, long pages) {
        long page = 0;
        int untilRest = restEvery;
        while (!stop) {
            vcpu.touch(Gfn.toGpa(first + page), Access.WRITE);
            for (int i = 1; i <= loads; i++) {
                vcpu.touch(Gfn.toGpa(first + Math.max(0, page - i)), Access.READ);
            }
            page = page + 1 == pages ? 0 : page + 1;
            if (--untilRest <= 0) {
                untilRest = restEvery;
                rest();
            }
        }
    }

    private void rest() {
        if (restMicros == 0) {
            Thread.yield();
        } else {
            LockSupport.parkNanos(TimeUnit.MICROSECONDS.toNanos(restMicros));
        }
    }

    /** Adds, fills and removes the slot until the end; returns the time of each removal that came to its end, in ns. */
    private double[] removeSlots(Vm vm, long gpa) {
        long pages = 1L << slotBits;
        double[] removals = new double[1 << 10];
        int count = 0;
        Vcpu vcpu = vm.createVcpu();
        while (!stop) {
            MemSlot slot = vm.addSlot(1, gpa, Gfn.toGpa(pages), Backing.synthetic(PageSize.SIZE_4K));
            for (long page = 0; page < pages && !stop; page++) {
                vcpu.touch(gpa + Gfn.toGpa(page), Access.WRITE);
            }
            long begin = System.nanoTime();
            boolean counts = recording;
            vm.removeSlot(slot);
            if (counts && recording) {
                removals = count == removals.length ? Arrays.copyOf(removals, 2 * count) : removals;
                removals[count++] = System.nanoTime() - begin;
            }
            LockSupport.parkNanos(TimeUnit.MICROSECONDS.toNanos(pauseMicros));
        }
        vcpu.close();
        return Arrays.copyOf(removals, count);
    }

    private static void rest(long millis) {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
        for (long left = deadline - System.nanoTime(); left > 0; left = deadline - System.nanoTime()) {
            LockSupport.parkNanos(left);
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
