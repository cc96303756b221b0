package dev.tdpmmu.base;

/**
 * Arithmetic on guest frame numbers. A gfn is a guest physical address divided by 4096; ranges are
 * {@code [startGfn, endGfn)}.
 */
public final class Gfn {
    /** log2 of the smallest page. */
    public static final int PAGE_SHIFT = 12;

    /** Bytes of the smallest page. */
    public static final long PAGE_SIZE = 1L << PAGE_SHIFT;

    /** Selects the offset inside the smallest page. */
    public static final long PAGE_OFFSET_MASK = PAGE_SIZE - 1;

    private Gfn() {}

    /**
     * Returns the frame that holds an address.
     *
     * @param gpa guest physical address in bytes
     * @return its gfn
     */
    @HotPath
    public static long of(long gpa) {
        return gpa >>> PAGE_SHIFT;
    }

    /**
     * Returns the first byte of a frame.
     *
     * @param gfn guest frame number
     * @return guest physical address in bytes
     */
    @HotPath
    public static long toGpa(long gfn) {
        return gfn << PAGE_SHIFT;
    }

    /**
     * Rounds down to the first frame that an entry of a level covers.
     *
     * @param gfn guest frame number
     * @param level 1 to 5
     * @return the largest multiple of the level's pages that is not above {@code gfn}
     */
    @HotPath
    public static long alignDown(long gfn, int level) {
        return gfn & -PagingLevel.pages(level);
    }

    /**
     * Tells whether a frame is the first one that an entry of a level covers.
     *
     * @param gfn guest frame number
     * @param level 1 to 5
     * @return whether {@code gfn} is aligned to the level
     */
    @HotPath
    public static boolean isAligned(long gfn, int level) {
        return (gfn & (PagingLevel.pages(level) - 1)) == 0;
    }
}
