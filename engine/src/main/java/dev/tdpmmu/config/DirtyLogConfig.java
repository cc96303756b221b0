package dev.tdpmmu.config;

import java.util.Objects;

/**
 * How a VM logs dirty pages.
 *
 * @param tracking what the user reads
 * @param pml whether the hardware logs stores itself (page-modification log), which needs EPT with A/D bits; without it
 *     pages are write-protected
 * @param ringEntries entries of each vCPU's ring, a power of two, 1024 to 65536; used by {@link DirtyTracking#RING}
 * @param eagerSplit whether huge leaves are split before the first store to them, not by it
 * @param clearLock how re-arming takes the MMU lock
 */
public record DirtyLogConfig(
        DirtyTracking tracking, boolean pml, int ringEntries, boolean eagerSplit, OperationLock clearLock) {
    /** Entries of a page-modification log. */
    public static final int PML_ENTRIES = 512;

    /** Entries that a ring keeps free for what a vCPU may still push after it was found full. */
    public static final int RING_SPARE_ENTRIES = 64;

    private static final int MIN_RING_ENTRIES = 1024;
    private static final int MAX_RING_ENTRIES = 65_536;

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException naming a value and its limit
     */
    public DirtyLogConfig {
        Objects.requireNonNull(tracking, "tracking");
        Objects.requireNonNull(clearLock, "clearLock");
        if (ringEntries < MIN_RING_ENTRIES || ringEntries > MAX_RING_ENTRIES || Integer.bitCount(ringEntries) != 1) {
            throw new IllegalArgumentException("ring size is no power of two or out of range: ringEntries="
                    + ringEntries + ", min=" + MIN_RING_ENTRIES + ", max=" + MAX_RING_ENTRIES);
        }
    }

    /**
     * Returns how many entries of a ring stay free when it counts as full.
     *
     * @return entries
     */
    public int reservedRingEntries() {
        return pml ? RING_SPARE_ENTRIES + PML_ENTRIES : RING_SPARE_ENTRIES;
    }
}
