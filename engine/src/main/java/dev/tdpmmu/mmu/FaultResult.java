package dev.tdpmmu.mmu;

/** How the MMU answered a violation. */
public enum FaultResult {
    /** Somebody else changed the tables or is about to: execute the access again. */
    RETRY,
    /** No slot, or a store to a read-only one: the MMIO handler has to do the access. */
    EMULATE,
    /** An entry was installed or got more permissions: execute the access again. */
    FIXED,
    /** The entry allowed the access already: execute it again. */
    SPURIOUS,
    /** No table page is left under the VM's memory cap; nothing was changed. */
    OUT_OF_MEMORY,
    /** The host forbids the access: the page is read-only for good. */
    MEMORY_FAULT
}
