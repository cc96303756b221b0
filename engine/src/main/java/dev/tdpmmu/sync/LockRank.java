package dev.tdpmmu.sync;

/** The locks of a VM, outermost first. A lock may be taken only while no lock of the same or an inner rank is held. */
public enum LockRank {
    /**
     * Protects what the host does to one set of pages behind guest memory, and its announcements; waiting for a
     * grace period is allowed under it.
     */
    HOST,
    /** Protects the list of memory slots; waiting for a grace period is allowed under it. */
    SLOTS,
    /** Keeps slots still while a notification of the host begins, and notifications out while slots are published. */
    NOTIFIER,
    /** Protects the shape of the page tables. */
    MMU,
    /** Protects the list of roots and other lists of table pages; nothing is taken inside it. */
    PAGES
}
