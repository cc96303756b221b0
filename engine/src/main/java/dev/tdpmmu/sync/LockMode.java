package dev.tdpmmu.sync;

/** How the MMU lock is held. */
public enum LockMode {
    /** Together with other shared holders: entries change by compare-and-set. */
    SHARED,
    /** Alone: no other holder exists, but hardware and the lock-free fast fix still write entries. */
    EXCLUSIVE
}
