package dev.tdpmmu.config;

import java.util.Objects;

/**
 * What the emulated processor can do beyond the second-level paging that every one has.
 *
 * @param modeBasedExecute EPT: whether entries have one execute permission for supervisor-mode linear addresses (bit 2)
 *     and one for user-mode ones (bit 10)
 * @param guestModeExecuteTrap NPT: whether a fetch of a privileged guest from a user page leaves the guest
 * @param advancedExitInfo EPT: whether a violation tells what the guest's own tables allow (bits 9 to 11)
 * @param noExecute NPT: whether the host has enabled no-execute (EFER.NX); if not, bit 63 is reserved
 * @param largestPage largest leaf that the processor knows
 * @param tlb how translations are cached
 */
public record HardwareConfig(
        boolean modeBasedExecute,
        boolean guestModeExecuteTrap,
        boolean advancedExitInfo,
        boolean noExecute,
        PageSize largestPage,
        TlbMode tlb) {
    /** What a VM has that asks for nothing: leaves of 1 GiB, no-execute, no extension. */
    public static final HardwareConfig DEFAULT =
            new HardwareConfig(false, false, false, true, PageSize.SIZE_1G, TlbMode.TYPICAL);

    /** Checks that nothing is missing. */
    public HardwareConfig {
        Objects.requireNonNull(largestPage, "largestPage");
        Objects.requireNonNull(tlb, "tlb");
    }

    /**
     * Returns the same with or without mode-based execute control.
     *
     * @param value whether it is on
     * @return new value
     */
    public HardwareConfig withModeBasedExecute(boolean value) {
        return new HardwareConfig(value, guestModeExecuteTrap, advancedExitInfo, noExecute, largestPage, tlb);
    }

    /**
     * Returns the same with or without the trap on privileged fetches from user pages.
     *
     * @param value whether it is on
     * @return new value
     */
    public HardwareConfig withGuestModeExecuteTrap(boolean value) {
        return new HardwareConfig(modeBasedExecute, value, advancedExitInfo, noExecute, largestPage, tlb);
    }

    /**
     * Returns the same with or without advanced exit information.
     *
     * @param value whether it is given
     * @return new value
     */
    public HardwareConfig withAdvancedExitInfo(boolean value) {
        return new HardwareConfig(modeBasedExecute, guestModeExecuteTrap, value, noExecute, largestPage, tlb);
    }

    /**
     * Returns the same with or without no-execute.
     *
     * @param value whether the host has enabled it
     * @return new value
     */
    public HardwareConfig withNoExecute(boolean value) {
        return new HardwareConfig(modeBasedExecute, guestModeExecuteTrap, advancedExitInfo, value, largestPage, tlb);
    }

    /**
     * Returns the same with another largest leaf.
     *
     * @param value size
     * @return new value
     */
    public HardwareConfig withLargestPage(PageSize value) {
        return new HardwareConfig(modeBasedExecute, guestModeExecuteTrap, advancedExitInfo, noExecute, value, tlb);
    }

    /**
     * Returns the same with other caches.
     *
     * @param value how translations are cached
     * @return new value
     */
    public HardwareConfig withTlb(TlbMode value) {
        return new HardwareConfig(
                modeBasedExecute, guestModeExecuteTrap, advancedExitInfo, noExecute, largestPage, value);
    }
}
