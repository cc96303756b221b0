package dev.tdpmmu.sim;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Runs one task a vCPU, each on its own thread: all wait at a gate, start together, and are joined.
 *
 * <p>What the caller wrote before {@link #run} is visible to every task, and what the tasks wrote is visible to the
 * caller after it; so a vCPU may pass from one run to the next.
 */
public final class Fleet {
    /** What one vCPU of a fleet does. */
    public interface Task {
        /**
         * Runs to its end on a thread of its own.
         *
         * @param index 0 to size - 1
         */
        void run(int index);
    }

    /** Reserved, not committed: enough for a fault's calls, little enough for thousands of threads. */
    private static final long PLATFORM_STACK_BYTES = 512L << 10;

    private final String name;
    private final int size;
    private final FleetThreads threads;
    private final Task task;
    private final CountDownLatch gate = new CountDownLatch(1);

    /** The failure that came first; written once by compare-and-set, read after the joins. */
    private final AtomicReference<FleetException> firstFailure = new AtomicReference<>();

    /** Set before the gate opens if not all threads could be started: those that were have nothing to do then. */
    private volatile boolean abandoned;

    private Fleet(String name, int size, FleetThreads threads, Task task) {
        this.name = Objects.requireNonNull(name, "name");
        this.threads = Objects.requireNonNull(threads, "threads");
        this.task = Objects.requireNonNull(task, "task");
        this.size = size;
        if (size <= 0) {
            throw new IllegalArgumentException("fleet is empty: size=" + size + ", min=1");
        }
    }

    /**
     * Runs a task on each vCPU and waits for all of them.
     *
     * @param name for thread names and errors
     * @param size how many, above 0
     * @param threads kind of thread
     * @param task what each does
     * @return nanoseconds from the opening of the gate to the last end
     * @throws FleetException naming the first vCPU that failed; all others have come to their end before it is thrown
     */
    public static long run(String name, int size, FleetThreads threads, Task task) {
        return new Fleet(name, size, threads, task).run();
    }

    private long run() {
        List<Thread> started = start();
        long begin = System.nanoTime();
        gate.countDown();
        join(started);
        long nanos = System.nanoTime() - begin;
        FleetException failure = firstFailure.get();
        if (failure != null) {
            throw failure;
        }
        return nanos;
    }

    private List<Thread> start() {
        List<Thread> started = new ArrayList<>(size);
        Thread.Builder builder = threads == FleetThreads.VIRTUAL
                ? Thread.ofVirtual()
                : Thread.ofPlatform().daemon().stackSize(PLATFORM_STACK_BYTES);
        try {
            for (int index = 0; index < size; index++) {
                int vcpu = index;
                started.add(builder.name(name + "-" + index).start(() -> runOne(vcpu)));
            }
        } catch (OutOfMemoryError noThread) {
            // The system's limit on threads. Those that wait at the gate must not wait for ever.
            abandoned = true;
            gate.countDown();
            join(started);
            throw new FleetException(
                    "threads cannot be started: fleet=" + name + ", started=" + started.size() + ", wanted=" + size,
                    noThread);
        }
        return started;
    }

    private void runOne(int index) {
        try {
            gate.await();
            if (!abandoned) {
                task.run(index);
            }
        } catch (Throwable failure) {
            // Nobody else would hear of it: the thread ends here, and the caller of run() is told.
            firstFailure.compareAndSet(
                    null,
                    new FleetException(
                            "vCPU failed: fleet=" + name + ", vcpu=" + index + ", cause=" + failure, failure));
        }
    }

    private static void join(List<Thread> started) {
        boolean interrupted = false;
        for (Thread thread : started) {
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException wanted) {
                    // The tasks use memory that the caller frees next, so they are waited for all the same.
                    interrupted = true;
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
