package dev.tdpmmu.bench;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.slot.Backing;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.ThreadParams;

/**
 * How much dearer is a guest load or store that hits the TLB than the same access to a plain memory segment?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar TlbHitBenchmark -t 1 -prof gc}; again with {@code -t 2}. The
 * baseline has the same addresses and the same size; its segment is a field, as an application would hold it, and again
 * a constant, the best that Java can do. One access an invocation: {@code nothing} is what the measurement itself
 * costs. Each thread has pages of its own.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class TlbHitBenchmark {
    /** Pages of a thread: half of what its TLB holds. */
    private static final long PAGES = 32;

    private static final long BYTES = PAGES * Gfn.PAGE_SIZE;
    private static final long MASK = BYTES - Long.BYTES;

    /** To the next page and a little on, so that neither page nor line is that of the access before. */
    private static final long STEP = Gfn.PAGE_SIZE + 72;

    private static final int MAX_THREADS = 16;
    private static final MemorySegment CONSTANT = Arena.global().allocate(BYTES, Gfn.PAGE_SIZE);

    /** Makes the benchmark. */
    public TlbHitBenchmark() {}

    /** A small guest with bytes. */
    @State(Scope.Benchmark)
    public static class Guest {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        BenchVm bench;

        /** Makes the state. */
        public Guest() {}

        /** Makes the VM. */
        @Setup(Level.Trial)
        public void create() {
            bench = BenchVm.of(
                    BenchVm.config(policy).build(), PAGES * MAX_THREADS, Backing.anonymous(PageSize.SIZE_4K));
        }

        /** Returns all memory. */
        @TearDown(Level.Trial)
        public void close() {
            bench.close();
        }
    }

    /** One vCPU whose TLB holds all its pages, and a segment of the same size. */
    @State(Scope.Thread)
    public static class Cpu {
        Vcpu vcpu;
        MemorySegment segment;
        long base;
        long offset;

        /** Makes the state. */
        public Cpu() {}

        /**
         * Makes the vCPU and fills its TLB.
         *
         * @param guest its VM
         * @param thread which vCPU this is
         */
        @Setup(Level.Trial)
        public void create(Guest guest, ThreadParams thread) {
            segment = Arena.ofAuto().allocate(BYTES, Gfn.PAGE_SIZE);
            vcpu = guest.bench.vm().createVcpu();
            base = thread.getThreadIndex() * BYTES;
            for (long page = 0; page < PAGES; page++) {
                vcpu.putLong(base + page * Gfn.PAGE_SIZE, page);
            }
        }

        long next() {
            long now = offset;
            offset = (now + STEP) & MASK;
            return now;
        }
    }

    /**
     * Computes the address and does not use it.
     *
     * @param c vCPU
     * @return the offset
     */
    @Benchmark
    public long nothing(Cpu c) {
        return c.next();
    }

    /**
     * Loads through the vCPU.
     *
     * @param c vCPU
     * @return the value
     */
    @Benchmark
    public long load(Cpu c) {
        return c.vcpu.getLong(c.base + c.next());
    }

    /**
     * Loads from a segment in a field.
     *
     * @param c holder of the segment
     * @return the value
     */
    @Benchmark
    public long plainLoad(Cpu c) {
        return c.segment.get(ValueLayout.JAVA_LONG, c.next());
    }

    /**
     * Loads from a constant segment.
     *
     * @param c holder of the offset
     * @return the value
     */
    @Benchmark
    public long constantLoad(Cpu c) {
        return CONSTANT.get(ValueLayout.JAVA_LONG, c.next());
    }

    /**
     * Stores through the vCPU.
     *
     * @param c vCPU
     */
    @Benchmark
    public void store(Cpu c) {
        long offset = c.next();
        c.vcpu.putLong(c.base + offset, offset);
    }

    /**
     * Stores into a segment in a field.
     *
     * @param c holder of the segment
     */
    @Benchmark
    public void plainStore(Cpu c) {
        long offset = c.next();
        c.segment.set(ValueLayout.JAVA_LONG, offset, offset);
    }
}
