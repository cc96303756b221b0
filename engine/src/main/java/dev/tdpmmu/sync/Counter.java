package dev.tdpmmu.sync;

/**
 * The statistics that a reader slot carries, by index. One writer each, summed over all slots by who asks.
 *
 * <p>An enum would be prettier; these are used on hot paths as offsets.
 */
public final class Counter {
    /** Leaves of 4 KiB that exist. */
    public static final int PAGES_4K = 0;

    /** Leaves of 2 MiB that exist. Index is PAGES_4K + level - 1. */
    public static final int PAGES_2M = 1;

    /** Leaves of 1 GiB that exist. */
    public static final int PAGES_1G = 2;

    /** Table pages that are linked, roots included. */
    public static final int TABLES = 3;

    /** Violations that took the slow path. */
    public static final int PF_TAKEN = 4;

    /** Violations that installed an entry. */
    public static final int PF_FIXED = 5;

    /** Violations fixed without the MMU lock. */
    public static final int PF_FAST = 6;

    /** Violations whose entry was there already. */
    public static final int PF_SPURIOUS = 7;

    /** Violations that went to the MMIO handler. */
    public static final int PF_EMULATE = 8;

    /** Violations that must be tried again. */
    public static final int PF_RETRY = 9;

    /** MMIO entries installed. */
    public static final int MMIO_SPTE_CREATED = 10;

    /** Acquisitions of the MMU lock that had to wait. */
    public static final int LOCK_WAITS = 11;

    /** Times that a holder let others in. */
    public static final int YIELDS = 12;

    /** Huge leaves split. */
    public static final int SPLITS = 13;

    /** Tables replaced by a huge leaf. */
    public static final int PROMOTIONS = 14;

    /** Number of counters. */
    public static final int COUNT = 16;

    private Counter() {}
}
