package dev.tdpmmu.testkit;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;

/**
 * Measures how many bytes of heap a piece of code allocates on the calling thread.
 *
 * <p>The body is run until the compiler had its chance, then measured in several rounds, of which the smallest
 * counts: what the compiler's switches and class loading allocate on the way is not the body's. A body that allocates
 * in each call allocates in each round, so nothing of it is missed.
 */
public final class AllocationProbe {
    private static final int ROUNDS = 5;

    private static final ThreadMXBean THREADS = threads();

    /** What is measured. */
    @FunctionalInterface
    public interface Body {
        /**
         * Runs once.
         *
         * @param iteration number of the call since the start of the warm-up, from 0
         */
        void run(long iteration);
    }

    private AllocationProbe() {}

    /**
     * Returns the bytes that the calls of one round allocate together.
     *
     * @param warmUpCalls calls before the measurement, 0 or more; 20,000 are enough for a small body to be compiled
     * @param callsPerRound calls of a round, above 0
     * @param body what is measured; should keep its results from being optimised away
     * @return bytes of the smallest round; 0 if the body allocates nothing
     */
    public static long bytesPerRound(int warmUpCalls, int callsPerRound, Body body) {
        if (warmUpCalls < 0 || callsPerRound <= 0) {
            throw new IllegalArgumentException(
                    "calls are out of range: warmUpCalls=" + warmUpCalls + ", callsPerRound=" + callsPerRound);
        }
        long iteration = run(body, 0, warmUpCalls);
        long overhead = measureNothing();
        long smallest = Long.MAX_VALUE;
        for (int round = 0; round < ROUNDS; round++) {
            long before = THREADS.getCurrentThreadAllocatedBytes();
            iteration = run(body, iteration, callsPerRound);
            long after = THREADS.getCurrentThreadAllocatedBytes();
            smallest = Math.min(smallest, after - before);
        }
        return Math.max(0, smallest - overhead);
    }

    /**
     * Demands that a body allocates nothing.
     *
     * @param what name for the message
     * @param warmUpCalls as above
     * @param callsPerRound as above
     * @param body what is measured
     * @throws AssertionError if it allocates
     */
    public static void requireNone(String what, int warmUpCalls, int callsPerRound, Body body) {
        long bytes = bytesPerRound(warmUpCalls, callsPerRound, body);
        if (bytes != 0) {
            throw new AssertionError("allocates: what=" + what + ", bytes=" + bytes + ", calls=" + callsPerRound
                    + ", bytesPerCall=" + (double) bytes / callsPerRound);
        }
    }

    private static long run(Body body, long start, int calls) {
        for (long i = start; i < start + calls; i++) {
            body.run(i);
        }
        return start + calls;
    }

    private static long measureNothing() {
        long smallest = Long.MAX_VALUE;
        for (int round = 0; round < ROUNDS; round++) {
            long before = THREADS.getCurrentThreadAllocatedBytes();
            long after = THREADS.getCurrentThreadAllocatedBytes();
            smallest = Math.min(smallest, after - before);
        }
        return smallest;
    }

    private static ThreadMXBean threads() {
        if (ManagementFactory.getThreadMXBean() instanceof ThreadMXBean threads
                && threads.isThreadAllocatedMemorySupported()) {
            threads.setThreadAllocatedMemoryEnabled(true);
            return threads;
        }
        throw new IllegalStateException("this virtual machine does not count allocated bytes by thread: vm="
                + System.getProperty("java.vm.name"));
    }
}
