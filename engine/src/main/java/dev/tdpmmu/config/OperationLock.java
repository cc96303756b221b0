package dev.tdpmmu.config;

/** How an operation that the kernel runs under the exclusive MMU lock takes it here. */
public enum OperationLock {
    /** Shared: faults go on beside it. */
    SHARED,
    /** Exclusive, as the kernel does: faults wait. */
    EXCLUSIVE
}
