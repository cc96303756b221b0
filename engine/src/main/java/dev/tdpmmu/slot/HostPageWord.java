package dev.tdpmmu.slot;

import dev.tdpmmu.base.HotPath;

/**
 * What the host says of one page, in one word: where its frame is and what may be done with it.
 *
 * <pre>
 *   63            12 11         4     3         2          1         0
 *  +----------------+------------+--------+-----------+----------+---------+
 *  | frame's hpa    | 0          | merged | protected | writable | present |
 *  +----------------+------------+--------+-----------+----------+---------+
 *
 *  present writable protected merged
 *     0       0        x        0     no frame: the next touch brings a zero one; the address is 0
 *     1       1        0        0     a frame of its own, for loads and stores
 *     1       0        1        0     a frame of its own, for loads alone; a store is the guest's mistake
 *     1       0        0        1     a frame that others have too; a store first brings the page a copy of its own
 *     1       0        1        1     a frame that others have too, for loads alone
 * </pre>
 *
 * @kvm the host's page-table entry behind a hva
 */
public final class HostPageWord {
    /** There is a frame. */
    public static final long PRESENT = 1L;

    /** Stores may go to the frame; without it an entry may be neither writable nor host-writable. */
    public static final long WRITABLE = 1L << 1;

    /** The host took the right to store for good; a store is a memory fault. */
    public static final long PROTECTED = 1L << 2;

    /** Other pages may have the same frame: copy on write. */
    public static final long MERGED = 1L << 3;

    private static final long ADDRESS = -1L << 12;

    private HostPageWord() {}

    /**
     * Tells whether the page has a frame.
     *
     * @param word of the page
     * @return whether {@link #hpa} names one
     */
    @HotPath
    public static boolean isPresent(long word) {
        return (word & PRESENT) != 0;
    }

    /**
     * Tells whether stores may go to the frame.
     *
     * @param word of the page
     * @return false if there is no frame, if it is shared, or if the host forbids stores
     */
    @HotPath
    public static boolean isWritable(long word) {
        return (word & WRITABLE) != 0;
    }

    /**
     * Tells whether the host forbids stores for good.
     *
     * @param word of the page, which need not be present
     * @return whether a store is a memory fault
     */
    @HotPath
    public static boolean isProtected(long word) {
        return (word & PROTECTED) != 0;
    }

    /**
     * Tells whether the frame may be that of other pages, too.
     *
     * @param word of the page
     * @return whether a store needs a copy first
     */
    @HotPath
    public static boolean isMerged(long word) {
        return (word & MERGED) != 0;
    }

    /**
     * Returns where the frame is.
     *
     * @param word of the page
     * @return host physical address, multiple of 4096; 0 if there is no frame
     */
    @HotPath
    public static long hpa(long word) {
        return word & ADDRESS;
    }

    /** Word of a page that has a frame of its own; the protection is that of the word before. */
    static long own(long hpa, long before) {
        return hpa | PRESENT | (isProtected(before) ? PROTECTED : WRITABLE);
    }

    /** Word of a page that shares a frame; the protection is that of the word before. */
    static long shared(long hpa, long before) {
        return hpa | PRESENT | MERGED | absent(before);
    }

    /** The same page with stores forbidden. */
    static long withProtection(long word) {
        return word & ~WRITABLE | PROTECTED;
    }

    /** The same page with stores allowed, except to a frame that others may have. */
    static long withoutProtection(long word) {
        long open = word & ~PROTECTED;
        return isPresent(word) && !isMerged(word) ? open | WRITABLE : open;
    }

    /** Word of a page without a frame; the protection is that of the word before. */
    static long absent(long before) {
        return before & PROTECTED;
    }
}
