package dev.tdpmmu.base;

/**
 * Levels of the page tables, as the kernel counts them: 1 is the level of 4 KiB leaves, 4 or 5 the root.
 *
 * <pre>
 *  level | an entry covers | index bits of the gfn | leaf allowed
 *    1   |   4 KiB         |   8:0                 | always
 *    2   |   2 MiB         |  17:9                 | huge
 *    3   |   1 GiB         |  26:18                | huge
 *    4   | 512 GiB         |  35:27                | never
 *    5   | 256 TiB         |  44:36                | never
 * </pre>
 */
public final class PagingLevel {
    /** Level of 4 KiB leaves. */
    public static final int L4K = 1;

    /** Level of 2 MiB leaves and of entries that point to tables of 4 KiB leaves. */
    public static final int L2M = 2;

    /** Level of 1 GiB leaves. */
    public static final int L1G = 3;

    /** Level whose entries cover 512 GiB; root of four-level tables. */
    public static final int L512G = 4;

    /** Level whose entries cover 256 TiB; root of five-level tables. */
    public static final int L256T = 5;

    /** Largest level at which a leaf may be. */
    public static final int MAX_HUGE = L1G;

    /** log2 of {@link #ENTRIES}. */
    public static final int INDEX_BITS = 9;

    /** Entries of a table page. */
    public static final int ENTRIES = 1 << INDEX_BITS;

    private static final int INDEX_MASK = ENTRIES - 1;

    private PagingLevel() {}

    /**
     * Returns log2 of the frames that one entry of a level covers.
     *
     * @param level 1 to 5
     * @return 0, 9, 18, 27 or 36
     */
    @HotPath
    public static int gfnShift(int level) {
        return INDEX_BITS * (level - 1);
    }

    /**
     * Returns how many 4 KiB frames one entry of a level covers.
     *
     * @param level 1 to 5
     * @return frames
     */
    @HotPath
    public static long pages(int level) {
        return 1L << gfnShift(level);
    }

    /**
     * Returns how many bytes one entry of a level covers.
     *
     * @param level 1 to 5
     * @return bytes
     */
    @HotPath
    public static long bytes(int level) {
        return pages(level) << Gfn.PAGE_SHIFT;
    }

    /**
     * Returns the index of a frame's entry in the table of a level.
     *
     * @param gfn guest frame number
     * @param level 1 to 5
     * @return 0 to 511
     */
    @HotPath
    public static int index(long gfn, int level) {
        return (int) (gfn >>> gfnShift(level)) & INDEX_MASK;
    }

    /**
     * Names a level by the bytes that an entry covers, for people.
     *
     * @param level 1 to 5
     * @return for instance {@code 2M}
     */
    public static String name(int level) {
        return switch (level) {
            case L4K -> "4K";
            case L2M -> "2M";
            case L1G -> "1G";
            case L512G -> "512G";
            case L256T -> "256T";
            default -> "level" + level;
        };
    }
}
