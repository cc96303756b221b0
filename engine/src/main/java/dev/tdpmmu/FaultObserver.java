package dev.tdpmmu;

/**
 * Told by a vCPU of each exit that was handled; for latency histograms. Called on the vCPU's thread, which is
 * inside the engine: must be quick, and must not use the VM or a vCPU. A VM that is being closed waits for it.
 */
public interface FaultObserver {
    /**
     * Takes one measurement.
     *
     * @param nanos from the exit to the re-entry
     */
    void faultHandled(long nanos);
}
