package dev.tdpmmu;

/** What {@link Vm#dump} does differently. */
public enum DumpOption {
    /** Merges neighbours whose frames do not follow each other, and tells only the first frame. */
    IGNORE_FRAMES,
    /** Shows invalid roots, too: those that are being zapped and that some vCPU may still use. */
    INVALID_ROOTS
}
