package dev.tdpmmu.bench;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.ThreadParams;

/**
 * What does the first store to a write-protected page cost with the lock-free fix, and what without it?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar FastFixBenchmark -t 1 -prof gc}; again with {@code -t 2}. An
 * invocation fixes every page of a part of the guest; before each iteration all leaves are write-protected again,
 * outside the time.
 */
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 60)
@Measurement(iterations = 60)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class FastFixBenchmark {
    private static final int PAGES = 1 << 17;

    /** Makes the benchmark. */
    public FastFixBenchmark() {}

    /** A guest with every page mapped. */
    @State(Scope.Benchmark)
    public static class Guest {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        /** Whether the lock-free fix is tried. */
        @Param({"true", "false"})
        public boolean fastFix;

        BenchVm bench;

        /** Makes the state. */
        public Guest() {}

        /**
         * Maps everything.
         *
         * @param run says how many threads there are
         */
        @Setup(Level.Trial)
        public void create(BenchmarkParams run) {
            bench = BenchVm.of(
                    BenchVm.config(policy).fastFix(fastFix).build(),
                    (long) PAGES * run.getThreads(),
                    Backing.synthetic(PageSize.SIZE_4K));
            bench.populate(1);
        }

        /** Takes W from every leaf. */
        @Setup(Level.Iteration)
        public void arm() {
            bench.vm()
                    .mmu()
                    .ranges()
                    .writeProtect(bench.slot().baseGfn(), bench.slot().endGfn());
        }

        /** Returns all memory. */
        @TearDown(Level.Trial)
        public void close() {
            bench.close();
        }
    }

    /** One vCPU that stores. */
    @State(Scope.Thread)
    public static class Writer {
        FaultHandler faults;
        VcpuMmu vcpu;
        long startGfn;

        /** Makes the state. */
        public Writer() {}

        /**
         * Makes the vCPU.
         *
         * @param guest its VM
         * @param thread which vCPU this is
         */
        @Setup(Level.Trial)
        public void create(Guest guest, ThreadParams thread) {
            faults = guest.bench.vm().mmu().faults();
            vcpu = guest.bench.newVcpu();
            startGfn = (long) PAGES * thread.getThreadIndex();
        }
    }

    /**
     * Handles the violation of a first store to each page.
     *
     * @param w vCPU
     * @return pages fixed
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long fix(Writer w) {
        long fixed = 0;
        for (long gfn = w.startGfn; gfn < w.startGfn + PAGES; gfn++) {
            fixed += w.faults.handle(w.vcpu, Gfn.toGpa(gfn), Access.WRITE, true) == FaultResult.FIXED ? 1 : 0;
        }
        return fixed;
    }
}
