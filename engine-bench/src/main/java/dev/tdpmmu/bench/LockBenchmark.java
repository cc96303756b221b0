package dev.tdpmmu.bench;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
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

/**
 * What does a fault pay for the MMU lock under each policy, alone and against another fault?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar LockBenchmark -t 1 -prof gc}; again with {@code -t 2}, where {@code
 * EXCLUSIVE} and {@code STAMPED} fight for one word and {@code PARALLEL} must not.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class LockBenchmark {
    private static final long PAGES = 512;

    /** Makes the benchmark. */
    public LockBenchmark() {}

    /** A VM whose lock is taken. */
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
            bench = BenchVm.synthetic(policy, PAGES);
        }

        /** Returns all memory. */
        @TearDown(Level.Trial)
        public void close() {
            bench.close();
        }
    }

    /** One contender. */
    @State(Scope.Thread)
    public static class Contender {
        MmuLock lock;
        ReaderSlot slot;

        /** Makes the state. */
        public Contender() {}

        /**
         * Takes a slot.
         *
         * @param guest its VM
         */
        @Setup(Level.Trial)
        public void create(Guest guest) {
            lock = guest.bench.vm().mmu().lock();
            slot = guest.bench.newVcpu().slot();
        }
    }

    /**
     * Locks and unlocks as a fault does.
     *
     * @param c contender
     */
    @Benchmark
    public void fault(Contender c) {
        c.lock.lockForFault(c.slot);
        c.lock.unlockForFault(c.slot);
    }

    /**
     * Locks and unlocks as a shared operation over a range does.
     *
     * @param c contender
     */
    @Benchmark
    public void shared(Contender c) {
        c.lock.lock(c.slot, LockMode.SHARED);
        c.lock.unlock(c.slot, LockMode.SHARED);
    }

    /**
     * Locks and unlocks exclusively.
     *
     * @param c contender
     */
    @Benchmark
    public void exclusive(Contender c) {
        c.lock.lock(c.slot, LockMode.EXCLUSIVE);
        c.lock.unlock(c.slot, LockMode.EXCLUSIVE);
    }
}
