package dev.tdpmmu.slot;

/** What the host says to a fault on one of its pages. */
public enum HostFaultResult {
    /** The page has a frame that allows the access; whoever asked looks at its word again. */
    READY,
    /** The host forbids stores to the page: a memory fault, which no retry cures. */
    PROTECTED,
    /** The pages are free: the slot that led here was removed meanwhile, so the fault starts over with new slots. */
    GONE
}
