package dev.tdpmmu.sim;

/** The parts of a boot, in their order. */
public enum BootPhase {
    /**
     * A device writes the programs' pages, and warms the others if they will be touched: the host's kernel takes
     * microseconds to give a page at its first touch, which would hide what the MMU takes. Outside the measured time;
     * the tables stay empty.
     */
    LOAD,
    /** Every vCPU replays its trace. */
    REPLAY,
    /** Every vCPU writes to all pages of its share that its trace does not use. */
    TOUCH,
    /** Every vCPU reads back what another one wrote. Outside the measured time. */
    CHECK
}
