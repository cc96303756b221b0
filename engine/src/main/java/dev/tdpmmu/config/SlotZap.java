package dev.tdpmmu.config;

/**
 * What is zapped when a slot is removed or moved.
 *
 * @kvm KVM_X86_QUIRK_SLOT_ZAP_ALL
 */
public enum SlotZap {
    /** All roots are replaced, and every vCPU faults its memory in again. Exclusive for a moment only. */
    ALL_ROOTS,
    /** The leaves of the slot's range alone, with yields, under the lock that {@link VmConfig#unmapLock} chooses. */
    RANGE
}
