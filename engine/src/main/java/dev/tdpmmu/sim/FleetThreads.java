package dev.tdpmmu.sim;

/** What kind of thread runs each vCPU of a fleet. */
public enum FleetThreads {
    /** One operating-system thread a vCPU. */
    PLATFORM,
    /** One virtual thread a vCPU; as many run at a time as there are processors. */
    VIRTUAL
}
