package dev.tdpmmu.bench;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;

/**
 * Times repetitions as the native reference does: the time of one is that of its slowest thread, and one in which a
 * thread was preempted (wall time above 1.02 times its CPU time) is thrown away and repeated, up to six times as often
 * as asked for. Dirty ones fill up what is missing then, and the result says how many were clean.
 */
final class Repetitions {
    private static final double PREEMPTED_FACTOR = 1.02;
    private static final double PREEMPTED_SLACK_NANOS = 5000;
    private static final int MAX_TRIES_FACTOR = 6;
    private static final int MIN_WARM_RUNS = 3;
    private static final double NANOS_PER_MILLI = 1e6;

    /** What is measured. */
    interface Trial {
        /** Makes ready what the next {@link #run} consumes. Not timed. */
        void prepare();

        /**
         * Does the work of one thread.
         *
         * @param thread 0 to threads - 1
         * @return anything that depends on the work
         */
        long run(int thread);
    }

    /**
     * Figures in ns for one operation of a thread.
     *
     * @param median of the repetitions
     * @param min best repetition
     * @param max worst repetition
     * @param clean repetitions in which nobody was preempted
     * @param bytes heap that an operation allocates, in the repetition that allocated least
     */
    record Figures(double median, double min, double max, int clean, double bytes) {}

    private final ThreadMXBean clock = ManagementFactory.getPlatformMXBean(ThreadMXBean.class);
    private final int threads;
    private final double[] wall;
    private final double[] cpu;
    private final long[] allocated;

    /** Read by nobody: keeps the work alive. */
    private volatile long sink;

    Repetitions(int threads) {
        this.threads = threads;
        this.wall = new double[threads];
        this.cpu = new double[threads];
        this.allocated = new long[threads];
        if (!clock.isCurrentThreadCpuTimeSupported()) {
            throw new IllegalStateException("this JVM cannot tell the CPU time of a thread");
        }
    }

    /**
     * Warms up and measures.
     *
     * @param trial the work
     * @param prepareEach whether each repetition needs a preparation of its own
     * @param operations done by each thread in one run
     * @param count repetitions, above 0
     * @param warmMillis time of runs before the first that counts; also at least three runs
     * @return figures
     */
    Figures measure(Trial trial, boolean prepareEach, double operations, int count, long warmMillis) {
        trial.prepare();
        double warmed = once(trial);
        for (int runs = 1; runs < MIN_WARM_RUNS || warmed < warmMillis * NANOS_PER_MILLI; runs++) {
            if (prepareEach) {
                trial.prepare();
            }
            warmed += once(trial);
        }
        double[] clean = new double[count];
        double[] dirty = new double[count * MAX_TRIES_FACTOR];
        int cleans = 0;
        int dirties = 0;
        double leastBytes = Double.MAX_VALUE;
        while (cleans < count && cleans + dirties < count * MAX_TRIES_FACTOR) {
            if (prepareEach) {
                trial.prepare();
            }
            double nanos = once(trial) / operations;
            leastBytes = Math.min(leastBytes, Arrays.stream(allocated).sum() / (operations * threads));
            if (wasPreempted()) {
                dirty[dirties++] = nanos;
            } else {
                clean[cleans++] = nanos;
            }
        }
        System.arraycopy(dirty, 0, clean, cleans, count - cleans);
        Arrays.sort(clean);
        return new Figures(clean[count / 2], clean[0], clean[count - 1], cleans, leastBytes);
    }

    private boolean wasPreempted() {
        for (int i = 0; i < threads; i++) {
            if (wall[i] > cpu[i] * PREEMPTED_FACTOR + PREEMPTED_SLACK_NANOS) {
                return true;
            }
        }
        return false;
    }

    /**
     * Wall time of the slowest thread, in ns. Thread 0 is the caller, which prepared: the tables are in its processor's
     * caches, as they are in the reference, whose threads are pinned and use the same pages each time.
     */
    private double once(Trial trial) {
        CyclicBarrier together = new CyclicBarrier(threads);
        Thread[] workers = new Thread[threads];
        Throwable[] failures = new Throwable[threads];
        for (int i = 1; i < threads; i++) {
            int thread = i;
            workers[i] = Thread.ofPlatform().name("worker " + i).start(() -> {
                try {
                    timed(trial, thread, together);
                } catch (RuntimeException | Error failure) {
                    failures[thread] = failure;
                }
            });
        }
        timed(trial, 0, together);
        double slowest = wall[0];
        for (int i = 1; i < threads; i++) {
            join(workers[i]);
            if (failures[i] != null) {
                throw new IllegalStateException("worker failed: thread=" + i, failures[i]);
            }
            slowest = Math.max(slowest, wall[i]);
        }
        return slowest;
    }

    private void timed(Trial trial, int thread, CyclicBarrier together) {
        try {
            together.await();
        } catch (InterruptedException | BrokenBarrierException stop) {
            throw new IllegalStateException("worker was stopped: thread=" + thread, stop);
        }
        long bytesStart = clock.getCurrentThreadAllocatedBytes();
        long start = System.nanoTime();
        long cpuStart = clock.getCurrentThreadCpuTime();
        sink = trial.run(thread);
        cpu[thread] = clock.getCurrentThreadCpuTime() - cpuStart;
        wall[thread] = System.nanoTime() - start;
        allocated[thread] = clock.getCurrentThreadAllocatedBytes() - bytesStart;
    }

    private static void join(Thread worker) {
        try {
            worker.join();
        } catch (InterruptedException stop) {
            throw new IllegalStateException("measurement was stopped", stop);
        }
    }
}
