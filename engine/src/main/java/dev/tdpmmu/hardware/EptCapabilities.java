package dev.tdpmmu.hardware;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;

/**
 * What a processor says that its extended page tables can do, as its capability register has it.
 *
 * <pre>
 *  63 27 26  25 24 23 22  21  20  19 18 17  16  15 14  13  9  8  7  6  5  1  0
 *  +----+---+---+-----+---+---+---+-----+---+---+--+--+-----+--+--+--+-----+--+
 *  | -  |all|one|  -  |adv|A/D|inv|  -  |1G |2M | -|WB|  -  |UC|L5|L4|  -  |XO|
 *  +----+---+---+-----+---+---+---+-----+---+---+--+--+-----+--+--+--+-----+--+
 * </pre>
 *
 * @param executeOnly XO: entries may allow fetches without loads
 * @param fourLevel L4: walks of four levels
 * @param fiveLevel L5: walks of five levels
 * @param uncacheable UC: tables may be read uncached
 * @param writeBack WB: tables may be read through the caches
 * @param page2M leaves of 2 MiB
 * @param page1G leaves of 1 GiB
 * @param invept inv: the instruction INVEPT exists
 * @param accessedDirty A/D: the hardware can maintain accessed and dirty flags
 * @param advancedExitInfo adv: violations tell what the guest's tables allow
 * @param inveptSingle one: INVEPT of one context
 * @param inveptAll all: INVEPT of all contexts
 */
public record EptCapabilities(
        boolean executeOnly,
        boolean fourLevel,
        boolean fiveLevel,
        boolean uncacheable,
        boolean writeBack,
        boolean page2M,
        boolean page1G,
        boolean invept,
        boolean accessedDirty,
        boolean advancedExitInfo,
        boolean inveptSingle,
        boolean inveptAll) {
    private static final long EXECUTE_ONLY = 1L;
    private static final long FOUR_LEVEL = 1L << 6;
    private static final long FIVE_LEVEL = 1L << 7;
    private static final long UNCACHEABLE = 1L << 8;
    private static final long WRITE_BACK = 1L << 14;
    private static final long PAGE_2M = 1L << 16;
    private static final long PAGE_1G = 1L << 17;
    private static final long INVEPT = 1L << 20;
    private static final long ACCESSED_DIRTY = 1L << 21;
    private static final long ADVANCED_EXIT_INFO = 1L << 22;
    private static final long INVEPT_SINGLE = 1L << 25;
    private static final long INVEPT_ALL = 1L << 26;

    /**
     * Returns what the emulated processor of a VM can do. One of five levels can also walk four.
     *
     * @param config of the VM, with EPT
     * @return its capabilities
     */
    public static EptCapabilities of(VmConfig config) {
        PageSize largest = config.hardware().largestPage();
        return new EptCapabilities(
                config.executeOnly(),
                true,
                config.pagingMode().levels() == PagingLevel.L256T,
                true,
                true,
                largest.level() >= PagingLevel.L2M,
                largest.level() >= PagingLevel.L1G,
                true,
                config.accessedDirty() == AccessedDirty.ON,
                config.hardware().advancedExitInfo(),
                true,
                true);
    }

    /**
     * Reads the capability register. Bits that are not modelled are passed over.
     *
     * @param msr value of the register
     * @return the capabilities
     */
    public static EptCapabilities fromMsr(long msr) {
        return new EptCapabilities(
                (msr & EXECUTE_ONLY) != 0,
                (msr & FOUR_LEVEL) != 0,
                (msr & FIVE_LEVEL) != 0,
                (msr & UNCACHEABLE) != 0,
                (msr & WRITE_BACK) != 0,
                (msr & PAGE_2M) != 0,
                (msr & PAGE_1G) != 0,
                (msr & INVEPT) != 0,
                (msr & ACCESSED_DIRTY) != 0,
                (msr & ADVANCED_EXIT_INFO) != 0,
                (msr & INVEPT_SINGLE) != 0,
                (msr & INVEPT_ALL) != 0);
    }

    /**
     * Returns the capability register.
     *
     * @return its bits; those that are not modelled are 0
     */
    public long toMsr() {
        return (executeOnly ? EXECUTE_ONLY : 0)
                | (fourLevel ? FOUR_LEVEL : 0)
                | (fiveLevel ? FIVE_LEVEL : 0)
                | (uncacheable ? UNCACHEABLE : 0)
                | (writeBack ? WRITE_BACK : 0)
                | (page2M ? PAGE_2M : 0)
                | (page1G ? PAGE_1G : 0)
                | (invept ? INVEPT : 0)
                | (accessedDirty ? ACCESSED_DIRTY : 0)
                | (advancedExitInfo ? ADVANCED_EXIT_INFO : 0)
                | (inveptSingle ? INVEPT_SINGLE : 0)
                | (inveptAll ? INVEPT_ALL : 0);
    }
}
