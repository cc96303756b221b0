package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.sim.FleetThreads;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Phaser;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * vCPUs with a thread each that run one iteration after another: all start together, and whoever starts them waits for
 * the last one.
 *
 * <p>Steered by one thread. What it wrote before {@link #start} is visible to the guests, and what they wrote is
 * visible to it after {@link #await}.
 */
final class VcpuFleet implements AutoCloseable {
    /** What a vCPU does in an iteration. */
    interface Guest {
        /**
         * Runs to the end of the iteration.
         *
         * @param index 0 to the number of vCPUs - 1
         * @param vcpu of this thread
         */
        void run(int index, Vcpu vcpu);
    }

    private static final long POLL_NANOS = 20_000;

    private final List<Vcpu> vcpus = new ArrayList<>();
    private final List<Thread> workers = new ArrayList<>();

    /** Passed by all when an iteration begins, and again when it ends. The steering thread is a party. */
    private final Phaser step = new Phaser(1);

    /** vCPUs that have begun the iteration. */
    private final AtomicInteger begun = new AtomicInteger();

    private final AtomicReference<Throwable> firstFailure = new AtomicReference<>();

    /** What the next iteration does; null ends the threads. Written before the phaser is passed, read after it. */
    private Guest guest;

    private volatile boolean stopping;
    private boolean running;

    VcpuFleet(Vm vm, int size, FleetThreads threads) {
        for (int index = 0; index < size; index++) {
            vcpus.add(vm.createVcpu());
        }
        step.bulkRegister(size);
        for (int index = 0; index < size; index++) {
            int vcpu = index;
            Thread.Builder builder = threads == FleetThreads.VIRTUAL
                    ? Thread.ofVirtual()
                    : Thread.ofPlatform().daemon();
            workers.add(builder.name("vcpu-" + index).start(() -> work(vcpu)));
        }
    }

    /** Runs one iteration; it contains the wake-up of the threads and the wait for the last. */
    void run(Guest iteration) {
        start(iteration);
        await();
    }

    /** Starts an iteration whose guests end by themselves or ask {@link #isStopping}. */
    void start(Guest iteration) {
        guest = iteration;
        stopping = false;
        running = true;
        step.arriveAndAwaitAdvance();
    }

    /** Starts an iteration that others shall meet, and waits until each guest is in it. */
    void startAndAwaitRunning(Guest iteration) {
        begun.set(0);
        start(iteration);
        while (begun.get() < workers.size()) {
            LockSupport.parkNanos(POLL_NANOS);
        }
    }

    /** Waits until every guest has ended its iteration. */
    void await() {
        step.arriveAndAwaitAdvance();
        running = false;
        Throwable failure = firstFailure.get();
        if (failure != null) {
            throw new IllegalStateException("vCPU failed: cause=" + failure, failure);
        }
    }

    /** Asks the guests to end, and waits until they have. */
    void stop() {
        stopping = true;
        await();
    }

    /** Asked by guests that run until they are stopped. */
    boolean isStopping() {
        return stopping;
    }

    List<Vcpu> vcpus() {
        return vcpus;
    }

    private void work(int index) {
        Vcpu vcpu = vcpus.get(index);
        while (true) {
            step.arriveAndAwaitAdvance();
            Guest iteration = guest;
            if (iteration == null) {
                return;
            }
            begun.incrementAndGet();
            try {
                iteration.run(index, vcpu);
            } catch (Throwable failure) {
                // The steering thread waits for this one, and is told there.
                firstFailure.compareAndSet(null, failure);
            }
            step.arriveAndAwaitAdvance();
        }
    }

    @Override
    public void close() {
        if (running) {
            // A failure between start and await brought us here; it is the one to be heard of.
            stopping = true;
            step.arriveAndAwaitAdvance();
            running = false;
        }
        guest = null;
        step.arriveAndAwaitAdvance();
        boolean interrupted = false;
        for (Thread worker : workers) {
            while (worker.isAlive()) {
                try {
                    worker.join();
                } catch (InterruptedException wanted) {
                    // The VM that the threads use is closed next.
                    interrupted = true;
                }
            }
        }
        vcpus.forEach(Vcpu::close);
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
