package dev.tdpmmu;

/** Told by a vCPU of each exit that was handled; for latency histograms. Called on the vCPU's thread; must be quick. */
public interface FaultObserver {
    /**
     * Takes one measurement.
     *
     * @param nanos from the exit to the re-entry
     */
    void faultHandled(long nanos);
}
