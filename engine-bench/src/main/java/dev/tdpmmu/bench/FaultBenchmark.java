package dev.tdpmmu.bench;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
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
 * How long does it take to map a 4 KiB page once its slot is known: stock, lock, epoch, walk, compare-and-set, unlock?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar FaultBenchmark -t 1 -prof gc}; again with {@code -t 2}. A page
 * faults once, so an invocation maps a whole guest and every iteration makes a new one, outside the time, its table
 * pages prewarmed. Read the figures as time per fault of a thread: what scales perfectly keeps its figure at two
 * threads. The GC profiler's figure contains the making of the VM, some tens of KiB for each iteration; {@link
 * NativeComparison} counts what the faults alone allocate.
 */
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 60)
@Measurement(iterations = 60)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class FaultBenchmark {
    private static final int BITS_PER_THREAD = 17;
    private static final int FAULTS = 1 << BITS_PER_THREAD;
    private static final int LEAVES_OF_TABLE = 512;
    private static final int SPARSE_FAULTS = 4096;

    /** Makes the benchmark. */
    public FaultBenchmark() {}

    /** An empty guest, of 512 MiB for each thread. */
    @State(Scope.Benchmark)
    public static class Guest {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        int bits;
        BenchVm bench;

        /** Makes the state. */
        public Guest() {}

        /**
         * Makes a new guest.
         *
         * @param run says how many threads there are
         */
        @Setup(Level.Iteration)
        public void create(BenchmarkParams run) {
            bits = BITS_PER_THREAD + bitsFor(run.getThreads());
            bench = BenchVm.synthetic(policy, 1L << bits);
        }

        /** Returns all memory. */
        @TearDown(Level.Iteration)
        public void close() {
            bench.close();
        }
    }

    /** An empty guest in which each fault of the benchmark needs a table of its own: 8 GiB for each thread. */
    @State(Scope.Benchmark)
    public static class SparseGuest {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        BenchVm bench;

        /** Makes the state. */
        public SparseGuest() {}

        /**
         * Makes a new guest.
         *
         * @param run says how many threads there are
         */
        @Setup(Level.Iteration)
        public void create(BenchmarkParams run) {
            bench = BenchVm.synthetic(policy, (long) SPARSE_FAULTS * LEAVES_OF_TABLE * run.getThreads());
        }

        /** Returns all memory. */
        @TearDown(Level.Iteration)
        public void close() {
            bench.close();
        }
    }

    /** One faulting vCPU of {@link Guest}. */
    @State(Scope.Thread)
    public static class Faulter {
        FaultHandler faults;
        VcpuMmu vcpu;
        MemSlot slot;
        int thread;
        int threads;
        int bits;

        /** Makes the state. */
        public Faulter() {}

        /**
         * Makes a vCPU in the new guest.
         *
         * @param guest the new one
         * @param params which thread this is
         */
        @Setup(Level.Iteration)
        public void create(Guest guest, ThreadParams params) {
            bits = guest.bits;
            join(guest.bench, params);
        }

        final void join(BenchVm bench, ThreadParams params) {
            faults = bench.vm().mmu().faults();
            vcpu = bench.newVcpu();
            slot = bench.slot();
            thread = params.getThreadIndex();
            threads = params.getThreadCount();
        }
    }

    /** One faulting vCPU of {@link SparseGuest}. */
    @State(Scope.Thread)
    public static class SparseFaulter {
        final Faulter faulter = new Faulter();

        /** Makes the state. */
        public SparseFaulter() {}

        /**
         * Makes a vCPU in the new guest.
         *
         * @param guest the new one
         * @param params which thread this is
         */
        @Setup(Level.Iteration)
        public void create(SparseGuest guest, ThreadParams params) {
            faulter.join(guest.bench, params);
        }
    }

    static int bitsFor(int threads) {
        return Integer.SIZE - Integer.numberOfLeadingZeros(threads - 1);
    }

    /**
     * Maps neighbours, each thread in a part of its own.
     *
     * @param f vCPU
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(FAULTS)
    public long sequential(Faulter f) {
        long start = (long) f.thread << BITS_PER_THREAD;
        return Work.faultStrided(f.faults, f.vcpu, f.slot, start, start + FAULTS, 1);
    }

    /**
     * Maps random pages; the threads share tables.
     *
     * @param f vCPU
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(FAULTS)
    public long random(Faulter f) {
        long start = (long) f.thread << BITS_PER_THREAD;
        return Work.faultRandom(f.faults, f.vcpu, f.slot, start, start + FAULTS, f.bits);
    }

    /**
     * Maps pages in turn with the other threads, so that all write the same cache lines.
     *
     * @param f vCPU
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(FAULTS)
    public long interleaved(Faulter f) {
        return Work.faultStrided(f.faults, f.vcpu, f.slot, f.thread, (long) FAULTS * f.threads, f.threads);
    }

    /**
     * Maps one page of each 2 MiB, so that each fault links a table.
     *
     * @param s vCPU
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(SPARSE_FAULTS)
    public long sparse(SparseFaulter s) {
        Faulter f = s.faulter;
        long pages = (long) SPARSE_FAULTS * LEAVES_OF_TABLE;
        return Work.faultStrided(f.faults, f.vcpu, f.slot, pages * f.thread, pages * (f.thread + 1), LEAVES_OF_TABLE);
    }
}
