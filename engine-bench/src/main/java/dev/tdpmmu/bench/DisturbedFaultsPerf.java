package dev.tdpmmu.bench;

import dev.tdpmmu.DirtyLog;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
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
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.function.ToDoubleFunction;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Measures how many faults a second one vCPU makes while another thread loops over a range operation on another slot,
 * and prints the rates and their ratio to the undisturbed one for each policy as JSON.
 *
 * <p>The vCPU stores to every page of a slot of its own and zaps that slot when it is through; only the stores are in
 * the time. The other thread first makes its slot's entries again what the operation expects, as plain stores, which
 * takes a tenth of the operation's time and no lock. {@code SPIN} is the other thread in a loop that touches nothing:
 * the honest baseline, since a second busy core slows the first one down. Disturbances and policies alternate in
 * rounds.
 */
@Command(
        name = "DisturbedFaultsPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Measures faults a second beside a looping range operation.")
public final class DisturbedFaultsPerf implements Callable<Integer> {
    private static final double NANOS_PER_MILLI = 1e6;
    private static final double NANOS_PER_SECOND = 1e9;

    /** What the other thread does. */
    enum Disturbance {
        /** It does not exist. */
        IDLE,
        /** It spins. */
        SPIN,
        /** Unmaps the other slot as a host does, under the shared lock. */
        UNMAP_SHARED,
        /** Unmaps the other slot as a host does, under the exclusive lock. */
        UNMAP_EXCLUSIVE,
        /** Takes all pages of the other slot out of its dirty log, each of them dirty, and arms them again. */
        HARVEST,
        /** Takes W from all leaves of the other slot. */
        WRITE_PROTECT
    }

    @Option(
            names = "--policy",
            split = ",",
            defaultValue = "EXCLUSIVE,STAMPED,PARALLEL",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<LockPolicy> policies;

    @Option(
            names = "--disturbance",
            split = ",",
            defaultValue = "IDLE,SPIN,UNMAP_SHARED,UNMAP_EXCLUSIVE,HARVEST,WRITE_PROTECT",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Disturbance> disturbances;

    @Option(
            names = "--bits",
            defaultValue = "16",
            description = "log2 of the 4 KiB pages that fault; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(
            names = "--other-bits",
            defaultValue = "18",
            description = "log2 of the 4 KiB pages of the other slot; default ${DEFAULT-VALUE}")
    private int otherBits;

    @Option(names = "--millis", defaultValue = "1000", description = "of each run; default ${DEFAULT-VALUE}")
    private long millis;

    @Option(names = "--rounds", defaultValue = "5", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    private volatile boolean stop;

    /** Read by nobody. */
    private volatile long sink;

    private DisturbedFaultsPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new DisturbedFaultsPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("DisturbedFaultsPerf", parameters());
        Map<LockPolicy, Map<Disturbance, List<Outcome>>> all = new EnumMap<>(LockPolicy.class);
        for (int round = -1; round < rounds; round++) {
            for (LockPolicy policy : policies) {
                for (Disturbance disturbance : disturbances) {
                    Outcome outcome = measure(policy, disturbance);
                    if (round >= 0) {
                        all.computeIfAbsent(policy, unseen -> new EnumMap<>(Disturbance.class))
                                .computeIfAbsent(disturbance, unseen -> new ArrayList<>())
                                .add(outcome);
                    }
                }
            }
        }
        List<Map<String, Object>> runs = new ArrayList<>();
        all.forEach((policy, outcomes) ->
                outcomes.forEach((disturbance, rates) -> runs.add(describe(policy, disturbance, rates, outcomes))));
        report.put("runs", runs);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("policies", policies);
        all.put("disturbances", disturbances);
        all.put("bits", bits);
        all.put("otherBits", otherBits);
        all.put("millis", millis);
        all.put("rounds", rounds);
        return all;
    }

    /**
     * What one run has shown.
     *
     * @param faultsPerSecond of the vCPU, its own zaps left out
     * @param operations of the other thread
     * @param busyShare part of the other thread's time that its operations took
     * @param entriesPerSecond of the other thread while its operations ran
     */
    private record Outcome(double faultsPerSecond, double operations, double busyShare, double entriesPerSecond) {}

    private static double median(List<Outcome> outcomes, ToDoubleFunction<Outcome> figure) {
        return Report.median(outcomes.stream().mapToDouble(figure).toArray());
    }

    private Map<String, Object> describe(
            LockPolicy policy,
            Disturbance disturbance,
            List<Outcome> outcomes,
            Map<Disturbance, List<Outcome>> ofPolicy) {
        double rate = median(outcomes, Outcome::faultsPerSecond);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("policy", policy);
        row.put("disturbance", disturbance);
        row.put("faultsPerSecond", rate);
        row.put(
                "faultsPerSecondOfRounds",
                outcomes.stream().mapToDouble(Outcome::faultsPerSecond).toArray());
        putRatio(row, "ratioToSpin", rate, ofPolicy.get(Disturbance.SPIN));
        putRatio(row, "ratioToIdle", rate, ofPolicy.get(Disturbance.IDLE));
        row.put("operations", median(outcomes, Outcome::operations));
        row.put("busyShare", median(outcomes, Outcome::busyShare));
        row.put("entriesPerSecond", median(outcomes, Outcome::entriesPerSecond));
        System.err.printf(
                Locale.ROOT,
                "# %-9s %-15s %6.2f M faults/s, %s x spin, %s x idle; %.0f operations, busy %.2f, %.0f M entries/s%n",
                policy,
                disturbance,
                rate / 1e6,
                row.get("ratioToSpin"),
                row.get("ratioToIdle"),
                row.get("operations"),
                row.get("busyShare"),
                median(outcomes, Outcome::entriesPerSecond) / 1e6);
        return row;
    }

    private static void putRatio(Map<String, Object> row, String name, double rate, List<Outcome> baseline) {
        if (baseline != null) {
            row.put(name, Math.round(100 * rate / median(baseline, Outcome::faultsPerSecond)) / 100.0);
        }
    }

    private Outcome measure(LockPolicy policy, Disturbance disturbance) {
        try (Guest guest = new Guest(policy, disturbance)) {
            stop = false;
            Thread other = disturbance == Disturbance.IDLE
                    ? null
                    : Thread.ofPlatform().name("other").start(guest::disturb);
            double rate = guest.fault();
            stop = true;
            if (other != null) {
                join(other);
            }
            return new Outcome(
                    rate,
                    guest.operations,
                    guest.operationNanos / Math.max(1, guest.otherNanos),
                    guest.operations * guest.otherPages * NANOS_PER_SECOND / Math.max(1, guest.operationNanos));
        }
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException stop) {
            throw new IllegalStateException("measurement was stopped", stop);
        }
    }

    /** A VM with a slot that faults and a slot that is worked on. */
    private final class Guest implements AutoCloseable {
        private final Disturbance disturbance;
        private final long pages = 1L << bits;
        private final long otherPages = 1L << otherBits;
        private final Vm vm;
        private final MemSlot own;
        private final MemSlot other;
        private final Vcpu vcpu;
        private final VcpuMmu worker;
        private final RangeKernels kernels;
        private final DirtyLog log;
        private final DirtyPages dirty;
        private final long firstSpte;

        /** Of the other thread; read after its end. */
        private double operations;

        private double operationNanos;
        private double otherNanos;

        Guest(LockPolicy policy, Disturbance disturbance) {
            this.disturbance = disturbance;
            this.vm = new Vm(BenchVm.config(policy).pml(false).build());
            vm.prewarmTables(Math.toIntExact(2 * (BenchVm.tablesOf(pages) + BenchVm.tablesOf(otherPages)) + 64));
            long otherGpa = Gfn.toGpa(Math.max(pages, otherPages));
            own = vm.addSlot(0, 0, Gfn.toGpa(pages), Backing.synthetic(PageSize.SIZE_4K));
            other = vm.addSlot(1, otherGpa, Gfn.toGpa(otherPages), Backing.synthetic(PageSize.SIZE_4K));
            vcpu = vm.createVcpu();
            worker = vm.mmu().createVcpu("other");
            vm.mmu().loadRoot(worker);
            kernels = new RangeKernels(vm.mmu(), worker);
            Work.faultStrided(vm.mmu().faults(), worker, other, other.baseGfn(), other.endGfn(), 1);
            SpteFormat format = vm.mmu().format();
            firstSpte = kernels.leaf(other.baseGfn()) | format.accessedBit() | format.dirtyBit();
            log = disturbance == Disturbance.HARVEST ? vm.startDirtyLog(other) : null;
            dirty = new DirtyPages(otherPages);
        }

        /** Faults a second. */
        double fault() {
            long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
            long nanos = 0;
            long faults = 0;
            vm.zap(own.gpa(), own.bytes());
            while (System.nanoTime() < deadline) {
                long before = vcpu.exits();
                long begin = System.nanoTime();
                for (long gfn = own.baseGfn(); gfn < own.endGfn(); gfn++) {
                    vcpu.touch(Gfn.toGpa(gfn), Access.WRITE);
                }
                nanos += System.nanoTime() - begin;
                faults += vcpu.exits() - before;
                vm.zap(own.gpa(), own.bytes());
            }
            return faults * NANOS_PER_SECOND / nanos;
        }

        void disturb() {
            long begin = System.nanoTime();
            while (!stop) {
                if (disturbance == Disturbance.SPIN) {
                    sink = spin();
                    continue;
                }
                prepare();
                long start = System.nanoTime();
                operate();
                operationNanos += System.nanoTime() - start;
                operations++;
            }
            otherNanos = System.nanoTime() - begin;
        }

        private long spin() {
            long x = sink;
            for (int i = 0; i < NANOS_PER_MILLI / 10; i++) {
                x = x * 31 + i;
            }
            return x;
        }

        private void prepare() {
            boolean absent = operations > 0
                    && (disturbance == Disturbance.UNMAP_SHARED || disturbance == Disturbance.UNMAP_EXCLUSIVE);
            kernels.fill(firstSpte, other.baseGfn(), other.endGfn(), absent);
            if (disturbance == Disturbance.HARVEST) {
                log.slot().dirtyBitmap().fill();
            }
        }

        private void operate() {
            RangeOperations ranges = vm.mmu().ranges();
            long done = switch (disturbance) {
                case UNMAP_SHARED -> ranges.unmap(other.baseGfn(), other.endGfn(), OperationLock.SHARED, true);
                case UNMAP_EXCLUSIVE -> ranges.unmap(other.baseGfn(), other.endGfn(), OperationLock.EXCLUSIVE, true);
                case HARVEST -> log.harvest(dirty);
                case WRITE_PROTECT -> ranges.writeProtect(other.baseGfn(), other.endGfn()) ? otherPages : 0;
                case IDLE, SPIN -> otherPages;
            };
            if (done != otherPages) {
                throw new IllegalStateException("not everything was done: disturbance=" + disturbance + ", done=" + done
                        + ", expected=" + otherPages);
            }
        }

        @Override
        public void close() {
            vcpu.close();
            vm.mmu().closeVcpu(worker);
            vm.close();
        }
    }
}
