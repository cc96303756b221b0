package dev.tdpmmu.bench;

import dev.tdpmmu.bench.ViolationSteps.Preparation;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.memory.FrameRun;
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

/**
 * How long does a whole violation take, from the access that misses to the access done, and which step takes what?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar ViolationBenchmark -t 1 -prof gc}; again with {@code -t 2}. An
 * invocation does one step, or all, for each page of a VM that every iteration makes anew; each thread has a VM of its
 * own. {@link ViolationSharesPerf} prints the same as one table of shares.
 */
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 60)
@Measurement(iterations = 60)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class ViolationBenchmark {
    static final int PAGES = 1 << 16;

    /** Makes the benchmark. */
    public ViolationBenchmark() {}

    /** Nothing is mapped. */
    @State(Scope.Thread)
    public static class Empty {
        /** How faults share the MMU lock. */
        @Param({"EXCLUSIVE", "STAMPED", "PARALLEL"})
        public LockPolicy policy;

        ViolationSteps steps;
        private FrameRun frames;

        /** Makes the state. */
        public Empty() {}

        /** Touches the frames. */
        @Setup(Level.Trial)
        public void warm() {
            frames = ViolationSteps.warmFrames(PAGES);
        }

        /** Makes a VM. */
        @Setup(Level.Iteration)
        public void create() {
            steps = new ViolationSteps(policy, frames, preparation());
        }

        /** Returns the VM's memory. */
        @TearDown(Level.Iteration)
        public void close() {
            steps.close();
        }

        /** Returns the frames. */
        @TearDown(Level.Trial)
        public void release() {
            frames.close();
        }

        Preparation preparation() {
            return Preparation.NONE;
        }
    }

    /** Tables are there, and one leaf in each. */
    @State(Scope.Thread)
    public static class WithTables extends Empty {
        /** Makes the state. */
        public WithTables() {}

        @Override
        Preparation preparation() {
            return Preparation.TABLES;
        }
    }

    /** Every page is mapped. */
    @State(Scope.Thread)
    public static class WithLeaves extends Empty {
        /** Makes the state. */
        public WithLeaves() {}

        @Override
        Preparation preparation() {
            return Preparation.LEAVES;
        }
    }

    /**
     * Does everything but the store itself.
     *
     * @param s steps
     * @return pages done
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long whole(Empty s) {
        return s.steps.whole();
    }

    /**
     * Does everything with the store, to a frame that is warm but seldom in a cache.
     *
     * @param s steps
     * @return pages done
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long wholeStore(Empty s) {
        return s.steps.wholeStore();
    }

    /**
     * Looks up in the TLB in vain.
     *
     * @param s steps
     * @return a sum
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step1TlbMiss(Empty s) {
        return s.steps.tlbMiss();
    }

    /**
     * Walks to an entry that is not present.
     *
     * @param s steps
     * @return a sum
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step2FirstWalk(WithTables s) {
        return s.steps.firstWalk();
    }

    /**
     * Handles the violation, without a try of the fast fix.
     *
     * @param s steps
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long steps4To11Handle(Empty s) {
        return s.steps.handle();
    }

    /**
     * Handles the violation after the fast fix was tried in vain.
     *
     * @param s steps
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long steps4To11HandleProbed(Empty s) {
        return s.steps.handleProbed();
    }

    /**
     * Finds the slot.
     *
     * @param s steps
     * @return a sum
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step6SlotLookUp(Empty s) {
        return s.steps.slotLookUp();
    }

    /**
     * Looks after the stock of table pages.
     *
     * @param s steps
     * @return a sum
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step7TopUp(Empty s) {
        return s.steps.topUp();
    }

    /**
     * Locks and unlocks.
     *
     * @param s steps
     * @return a count
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step8Lock(Empty s) {
        return s.steps.lock();
    }

    /**
     * Maps, with stock and lock.
     *
     * @param s steps
     * @return pages installed
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long steps7To11Map(Empty s) {
        return s.steps.map();
    }

    /**
     * Walks again, sets A and D, fills the TLB.
     *
     * @param s steps
     * @return a sum
     */
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public long step12SecondWalk(WithLeaves s) {
        return s.steps.secondWalk();
    }
}
