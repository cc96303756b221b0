package dev.tdpmmu.bench;

import dev.tdpmmu.config.LockPolicy;
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
 * What does it cost to enter and leave an epoch, that is, one reader slot with its full fence?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar EpochBenchmark -t 1 -prof gc}; again with {@code -t 2}: the figure
 * must stay, since no reader writes another one's line. An epoch takes no lock, so the policies must not differ either.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class EpochBenchmark {
    private static final long PAGES = 512;

    /** Makes the benchmark. */
    public EpochBenchmark() {}

    /** A VM whose epoch is entered. */
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

    /** One reader. */
    @State(Scope.Thread)
    public static class Reader {
        ReaderSlot slot;

        /** Makes the state. */
        public Reader() {}

        /**
         * Takes a slot.
         *
         * @param guest its VM
         */
        @Setup(Level.Trial)
        public void create(Guest guest) {
            slot = guest.bench.newVcpu().slot();
        }
    }

    /** Does nothing: what the measurement itself costs. */
    @Benchmark
    public void nothing() {
        // Empty on purpose.
    }

    /**
     * Enters and leaves.
     *
     * @param r reader
     */
    @Benchmark
    public void enterAndLeave(Reader r) {
        r.slot.enter(ReaderSlot.WALKING);
        r.slot.leave(ReaderSlot.OUTSIDE);
    }
}
