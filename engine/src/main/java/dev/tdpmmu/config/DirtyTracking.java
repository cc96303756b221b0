package dev.tdpmmu.config;

/**
 * How a user of a VM learns which pages of a slot with {@link SlotFlag#LOG_DIRTY} were written.
 *
 * @kvm KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING
 */
public enum DirtyTracking {
    /** A bitmap; reading it clears it and arms the pages again. */
    GET_AND_CLEAR,
    /** A bitmap; reading it copies it, and pages are cleared and armed again by a second call, range by range. */
    MANUAL_PROTECT,
    /**
     * As {@link #MANUAL_PROTECT}, but every page counts as dirty at first, so that enabling the log touches no entry.
     */
    INITIALLY_SET,
    /** A ring of page numbers for each vCPU; pages are armed again when the ring is reset. */
    RING
}
