package dev.tdpmmu.bench;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.TdpWalk;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.sync.ReaderSlot;
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
import org.openjdk.jmh.infra.ThreadParams;

/**
 * How long does a walk from the root to a 4 KiB leaf take, as the MMU does it and as the hardware does it?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar WalkBenchmark -t 1 -prof gc -p policy=PARALLEL}; again with {@code
 * -t 2}. No walk takes the MMU lock, so the policies must not differ. The hardware walk starts at the tables that the
 * TLB remembers, as a processor does.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class WalkBenchmark {
    private static final int BATCH = 1024;

    /** Makes the benchmark. */
    public WalkBenchmark() {}

    /** A guest with every page mapped. */
    @State(Scope.Benchmark)
    public static class Guest {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        /** Binary logarithm of the guest's 4 KiB pages. */
        @Param("18")
        public int bits;

        BenchVm bench;

        /** Makes the state. */
        public Guest() {}

        /** Maps everything. */
        @Setup(Level.Trial)
        public void create() {
            bench = BenchVm.synthetic(policy, 1L << bits);
            bench.populate(1);
        }

        /** Returns all memory. */
        @TearDown(Level.Trial)
        public void close() {
            bench.close();
        }
    }

    /** One reader, in a part of the guest of its own. */
    @State(Scope.Thread)
    public static class Reader {
        final Tlb tlb = new Tlb();
        final WalkResult result = new WalkResult();
        int bits;
        TdpWalk walk;
        TdpRoot root;
        ReaderSlot slot;
        HardwareWalker walker;
        long rootPointer;
        long next;

        /** Makes the state. */
        public Reader() {}

        /**
         * Loads the root.
         *
         * @param guest whose tables are walked
         * @param thread which of the readers this is
         */
        @Setup(Level.Trial)
        public void create(Guest guest, ThreadParams thread) {
            VcpuMmu vcpu = guest.bench.newVcpu();
            bits = guest.bits;
            walk = guest.bench.vm().mmu().walk();
            root = vcpu.root();
            slot = vcpu.slot();
            walker = guest.bench.newWalker();
            rootPointer = walker.makeRootPointer(root.hpa());
            next = (1L << bits) / thread.getThreadCount() * thread.getThreadIndex();
        }

        long advance() {
            long start = next;
            next = (start + BATCH) & ((1L << bits) - 1);
            return start;
        }
    }

    /**
     * Walks neighbours in turn.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long translateSequential(Reader r) {
        long start = r.advance();
        return Work.translateSequential(r.walk, r.root, start, start + BATCH);
    }

    /**
     * Walks random frames.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long translateRandom(Reader r) {
        long start = r.advance();
        return Work.translateRandom(r.walk, r.root, start, start + BATCH, r.bits);
    }

    /**
     * Walks neighbours, each in a reader section.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long translateSequentialInSection(Reader r) {
        long start = r.advance();
        return Work.translateSequentialInSections(r.walk, r.root, r.slot, start, start + BATCH);
    }

    /**
     * Walks random frames, each in a reader section.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long translateRandomInSection(Reader r) {
        long start = r.advance();
        return Work.translateRandomInSections(r.walk, r.root, r.slot, start, start + BATCH, r.bits);
    }

    /**
     * Lets the hardware walk neighbours for a load.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long hardwareSequential(Reader r) {
        long start = r.advance();
        long sum = 0;
        for (long gfn = start; gfn < start + BATCH; gfn++) {
            sum += hardwareWalk(r, gfn);
        }
        return sum;
    }

    /**
     * Lets the hardware walk random frames for a load.
     *
     * @param r reader
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long hardwareRandom(Reader r) {
        long start = r.advance();
        long sum = 0;
        for (long i = start; i < start + BATCH; i++) {
            sum += hardwareWalk(r, Work.mix(i, r.bits));
        }
        return sum;
    }

    private static long hardwareWalk(Reader r, long gfn) {
        r.slot.enter(ReaderSlot.WALKING);
        int outcome = r.walker.walk(r.tlb, r.rootPointer, Gfn.toGpa(gfn), Access.READ, r.result);
        r.slot.leave(ReaderSlot.OUTSIDE);
        return outcome + r.result.frame;
    }
}
