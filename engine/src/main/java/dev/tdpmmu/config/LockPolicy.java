package dev.tdpmmu.config;

/** How vCPUs that fault at the same time share the MMU lock. */
public enum LockPolicy {
    /** Faults hold the lock exclusively: the baseline before parallel faults. */
    EXCLUSIVE,
    /** Faults hold a StampedLock in read mode: the series as written. */
    STAMPED,
    /** Faults enter through their own reader slot and touch no shared line. */
    PARALLEL
}
