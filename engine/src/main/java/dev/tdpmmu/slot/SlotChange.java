package dev.tdpmmu.slot;

/**
 * One published change of slots, in the hands of whoever must now remove the old mappings.
 *
 * <p>Steps: the change is published; if {@link #needsZap}, the mappings of {@link #oldSlot} are zapped and flushed; a
 * grace period passes, so that nobody works with the old snapshot; {@link #complete} lets go of frames that no slot has
 * any more. Safe for use by many threads.
 */
public final class SlotChange {
    /** What happened. */
    public enum Kind {
        /** A slot came. */
        ADD,
        /** A slot went. */
        REMOVE,
        /** A slot has other guest addresses and the same memory. */
        MOVE,
        /** A slot has other flags. */
        CHANGE_FLAGS
    }

    private final Kind kind;
    private final MemSlot oldSlot;
    private final MemSlot newSlot;
    private final SlotRegistry registry;

    SlotChange(SlotRegistry registry, Kind kind, MemSlot oldSlot, MemSlot newSlot) {
        this.registry = registry;
        this.kind = kind;
        this.oldSlot = oldSlot;
        this.newSlot = newSlot;
    }

    /**
     * Returns what happened.
     *
     * @return the kind
     */
    public Kind kind() {
        return kind;
    }

    /**
     * Returns the slot before the change.
     *
     * @return the slot, no longer known to the VM; {@link MemSlot#NONE} for {@link Kind#ADD}
     */
    public MemSlot oldSlot() {
        return oldSlot;
    }

    /**
     * Returns the slot after the change.
     *
     * @return the live slot; {@link MemSlot#NONE} for {@link Kind#REMOVE}
     */
    public MemSlot newSlot() {
        return newSlot;
    }

    /**
     * Tells whether the tables may hold leaves of the old slot that are wrong now.
     *
     * @return whether they must be zapped: after a removal, a move, or when large leaves became forbidden. Not after an
     *     addition: what the tables then hold for the frames are MMIO entries, which the generation makes stale.
     */
    public boolean needsZap() {
        return switch (kind) {
            case ADD -> false;
            case REMOVE, MOVE -> true;
            case CHANGE_FLAGS -> newSlot.largestLevel() < oldSlot.largestLevel();
        };
    }

    /**
     * Tells whether stores to the slot are logged from now on and were not before.
     *
     * @return whether the log was switched on
     */
    public boolean startsLog() {
        return newSlot.logsDirty() && !oldSlot.logsDirty();
    }

    /**
     * Tells whether stores to the slot were logged and are not any more, while the slot lives on.
     *
     * @return whether the log was switched off
     */
    public boolean stopsLog() {
        return kind == Kind.CHANGE_FLAGS && oldSlot.logsDirty() && !newSlot.logsDirty();
    }

    /**
     * Says that nobody can reach the old slot's frames through this VM any more: mappings are gone, a grace period has
     * passed. Releases the frames of a removed slot, and the bitmap of a log that was switched off; does nothing for
     * other changes and in a second call.
     */
    public void complete() {
        if (kind == Kind.REMOVE) {
            registry.release(this);
        } else if (stopsLog()) {
            oldSlot.dirtyBitmap().release();
        }
    }

    @Override
    public String toString() {
        return kind + " " + oldSlot + " -> " + newSlot;
    }
}
