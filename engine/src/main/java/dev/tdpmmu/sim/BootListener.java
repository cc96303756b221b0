package dev.tdpmmu.sim;

import dev.tdpmmu.Vm;

/** Told how a boot comes on. */
public interface BootListener {
    /** Told and does nothing. */
    BootListener NONE = new BootListener() {
        @Override
        public void phaseStarts(Vm vm, BootPhase phase, long steps) {}

        @Override
        public void stepsDone(Vm vm, long steps) {}

        @Override
        public void phaseEnds(Vm vm, BootPhase phase) {}
    };

    /**
     * Hears that a phase starts. Called on the thread that runs the boot, while no vCPU runs.
     *
     * @param vm the guest
     * @param phase the phase
     * @param steps how many steps it has: pages, or records of all traces
     */
    void phaseStarts(Vm vm, BootPhase phase, long steps);

    /**
     * Hears that steps are done. Called on the threads of vCPUs, by many at a time, every few thousand steps.
     *
     * @param vm the guest
     * @param steps how many since the last call on this thread
     */
    void stepsDone(Vm vm, long steps);

    /**
     * Hears that a phase is over. Called on the thread that runs the boot, while no vCPU runs.
     *
     * @param vm the guest
     * @param phase the phase
     */
    void phaseEnds(Vm vm, BootPhase phase);
}
