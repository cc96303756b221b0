package dev.tdpmmu;

import dev.tdpmmu.base.Access;

/** Says that an access to guest memory cannot be done, why, and where. Nothing was read or written. */
public final class GuestAccessException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    /** Why an access cannot be done. */
    public enum Reason {
        /** Neither a slot nor an MMIO handler covers the address. */
        NO_SLOT,
        /** The slot is read-only and no MMIO handler covers the address. */
        READ_ONLY,
        /** The slot's backing has frame numbers but no bytes. */
        NO_BYTES,
        /** The address, or the end of the access, does not exist. */
        BEYOND_LIMIT,
        /** A volatile or compare-and-set access is not naturally aligned. */
        MISALIGNED,
        /** Instructions cannot be fetched from a device. */
        FETCH_FROM_MMIO,
        /** A device cannot do a compare-and-set. */
        ATOMIC_ON_MMIO,
        /** The host allows no stores to the page. */
        HOST_READ_ONLY,
        /** The vCPU's dirty ring is full and it has no handler for that; do the access again after a reset. */
        DIRTY_RING_FULL,
        /** A guest's page table lies in a device. */
        TABLE_ON_MMIO,
        /** The processor's trap for privileged fetches from user pages; the tables of the MMU allow the fetch. */
        EXECUTE_TRAPPED
    }

    /** Why. */
    private final Reason reason;

    /** Where. */
    private final long gpa;

    GuestAccessException(Reason reason, long gpa, int access, String limit) {
        super("guest access cannot be done: reason=" + reason + ", gpa=0x" + Long.toHexString(gpa) + ", access="
                + Access.text(access) + limit);
        this.reason = reason;
        this.gpa = gpa;
    }

    GuestAccessException(Reason reason, long gpa, int access) {
        this(reason, gpa, access, "");
    }

    /**
     * Returns why.
     *
     * @return reason
     */
    public Reason reason() {
        return reason;
    }

    /**
     * Returns where.
     *
     * @return guest physical address of the access; of a linear access that is misaligned, or finds the dirty ring
     *     full, its linear address
     */
    public long gpa() {
        return gpa;
    }
}
