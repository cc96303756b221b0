package dev.tdpmmu.slot;

/** Says which rule a slot, or a change of one, would break. Nothing was changed. */
public final class SlotException extends IllegalArgumentException {
    private static final long serialVersionUID = 1L;

    /** The broken rule. */
    public enum Reason {
        /** Guest address or length is no multiple of 4096. */
        MISALIGNED,
        /** Length is 0; slots are removed by their own method. */
        EMPTY,
        /** Guest address plus length passes 2^64. */
        WRAPS,
        /** The slot ends behind the last guest physical address that the VM's tables can map. */
        BEYOND_ADDRESS_LIMIT,
        /** More than 2^31 - 1 pages. */
        TOO_MANY_PAGES,
        /** Slot id is negative or not below {@link MemSlots#MAX_SLOTS}. */
        BAD_ID,
        /** Another live slot has the id. */
        ID_IN_USE,
        /** Another live slot has some of the addresses. */
        OVERLAP,
        /** The slot is not live: it was removed, or replaced by a later version of itself. */
        UNKNOWN_SLOT,
        /** The slot belongs to another VM. */
        FOREIGN_SLOT,
        /** {@link MemSlots#MAX_SLOTS} slots are live. */
        TOO_MANY_SLOTS,
        /** The backing ends before the slot does. */
        BACKING_TOO_SMALL,
        /** The offset into the backing is negative or no multiple of 4096. */
        BACKING_MISALIGNED,
        /** The frames of the backing were released before the slot could hold them. */
        BACKING_RELEASED,
        /** The backing has host physical addresses wider than the VM's entries. */
        BACKING_BEYOND_ADDRESS_LIMIT,
        /** The flag is chosen when the slot is added and cannot change. */
        FLAG_FIXED
    }

    /** What is wrong. */
    private final Reason reason;

    /**
     * Makes the exception.
     *
     * @param reason broken rule
     * @param message what is wrong, with values and limits
     */
    public SlotException(Reason reason, String message) {
        super(message);
        this.reason = reason;
    }

    /**
     * Returns the broken rule.
     *
     * @return the reason
     */
    public Reason reason() {
        return reason;
    }
}
