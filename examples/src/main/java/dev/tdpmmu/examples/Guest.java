package dev.tdpmmu.examples;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Phaser;

/**
 * The guest beside which a hypervisor's loop runs: vCPUs on threads of their own, each repeating a step.
 *
 * <p>The steps are the guest's clock. No vCPU begins a step before the hypervisor's loop has asked for it by {@link
 * #tick}, and the loop works on while the step runs. So everything races as it does in a hypervisor, and yet what the
 * guest has done at a tick does not depend on the machine.
 */
final class Guest implements AutoCloseable {
    /** What a vCPU does. */
    interface Program {
        /**
         * Does one step, on the vCPU's thread.
         *
         * @param vcpu the vCPU
         * @param index 0 to the number of vCPUs - 1
         * @param step 0, 1, 2 and so on
         */
        void step(Vcpu vcpu, int index, int step);
    }

    /** All vCPUs and the loop. A step ends when all have arrived; its number is the phase. */
    private final Phaser clock = new Phaser(1);

    private final List<Thread> threads = new ArrayList<>();

    /**
     * The last step. Set by the loop before it arrives for the last time, to the step that runs then, so that no vCPU
     * leaves that step out because it comes to it late.
     */
    private volatile int lastStep = Integer.MAX_VALUE;

    /** The failure of some vCPU; written by it before it leaves the clock. */
    private volatile Throwable failure;

    private Guest() {}

    /**
     * Starts a guest; step 0 runs when the call returns.
     *
     * @param vm where
     * @param vcpus how many, 1 to 65534
     * @param program what each does
     * @return the running guest; pause it before the VM is closed
     */
    static Guest start(Vm vm, int vcpus, Program program) {
        Guest guest = new Guest();
        guest.clock.bulkRegister(vcpus);
        for (int i = 0; i < vcpus; i++) {
            int index = i;
            guest.threads.add(Thread.ofVirtual().name("vcpu-" + index).start(() -> guest.runVcpu(vm, index, program)));
        }
        return guest;
    }

    private void runVcpu(Vm vm, int index, Program program) {
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int step = 0; step <= lastStep; step++) {
                program.step(vcpu, index, step);
                clock.arriveAndAwaitAdvance();
            }
        } catch (Throwable thrown) {
            // The thread ends here; the loop is told at its next tick.
            failure = thrown;
        } finally {
            clock.arriveAndDeregister();
        }
    }

    /** Waits for the end of the step that runs, and starts the next one. */
    void tick() {
        clock.arriveAndAwaitAdvance();
        checkAlive();
    }

    /** Stops all vCPUs after the step that runs, for good: no store is under way when the call returns. */
    void pause() {
        close();
        checkAlive();
    }

    private void checkAlive() {
        if (failure != null) {
            throw new IllegalStateException("vCPU failed: cause=" + failure, failure);
        }
    }

    @Override
    public void close() {
        if (lastStep != Integer.MAX_VALUE) {
            return;
        }
        lastStep = clock.getPhase();
        clock.arriveAndDeregister();
        for (Thread thread : threads) {
            joinUninterrupted(thread);
        }
    }

    private static void joinUninterrupted(Thread thread) {
        while (true) {
            try {
                thread.join();
                return;
            } catch (InterruptedException early) {
                // The vCPUs use memory that the caller frees next, and every step is short.
                continue;
            }
        }
    }
}
