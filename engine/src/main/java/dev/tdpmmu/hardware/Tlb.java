package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import java.util.Arrays;

/**
 * What one vCPU remembers of earlier walks: translations of pages, and tables near the leaves.
 *
 * <p>Belongs to one thread: a remote flush asks the owner to call {@link #flushRange} or {@link #flushAll}. Five
 * direct-mapped arrays:
 *
 * <pre>
 *  array    | entries | found by  | an entry                                           | bytes
 *  small    |   64    | gfn       | read tag, write tag, execute tag, frame            | 2048
 *  huge2M   |   32    | gfn >> 9  | tag, page | permissions                            |  512
 *  huge1G   |    4    | gfn >> 18 | tag, page | permissions                            |   64
 *  leaf     |   16    | gfn >> 9  | tag, table of 4 KiB leaves | permissions above it  |  256
 *  middle   |    4    | gfn >> 18 | tag, table of level 2 | permissions above it       |   64
 * </pre>
 *
 * <p>2944 bytes, with headers of 16 bytes an array and 40 bytes for the object 3064: below 3.5 KiB. A tag is the
 * number in the column "found by", or -1, so that a hit is one comparison. The write tag is set only when stores
 * are allowed and the leaf has D (or there is none), so that the first store after a load walks again and sets D.
 */
public final class Tlb {
    /** Not cached. */
    public static final long MISS = -1L;

    private static final long NO_TAG = -1L;

    private static final int SMALL_ENTRIES = 64;
    private static final int HUGE_2M_ENTRIES = 32;
    private static final int HUGE_1G_ENTRIES = 4;
    private static final int LEAF_TABLES = 16;
    private static final int MIDDLE_TABLES = 4;

    // Longs of an entry, as shifts.
    private static final int SMALL_SHIFT = 2;
    private static final int PAIR_SHIFT = 1;

    private static final int WRITE_TAG = 1;
    private static final int EXECUTE_TAG = 2;
    private static final int FRAME = 3;

    private static final int SHIFT_2M = Gfn.PAGE_SHIFT + PagingLevel.INDEX_BITS;
    private static final int SHIFT_1G = SHIFT_2M + PagingLevel.INDEX_BITS;

    private final long[] small = new long[SMALL_ENTRIES << SMALL_SHIFT];
    private final long[] huge2M = new long[HUGE_2M_ENTRIES << PAIR_SHIFT];
    private final long[] huge1G = new long[HUGE_1G_ENTRIES << PAIR_SHIFT];
    private final long[] leafTables = new long[LEAF_TABLES << PAIR_SHIFT];
    private final long[] middleTables = new long[MIDDLE_TABLES << PAIR_SHIFT];

    // Design note. A huge page is looked up out of line and then kept as a piece of 4 KiB in the small array, so that
    // all hits are one comparison. A flush of a range removes each entry by its own extent: a flush of the whole page
    // takes all its pieces, a flush of one frame inside it takes the huge entry and that piece and leaves the other
    // pieces, so software that changes a huge leaf must flush all of it, as on a processor.

    /** Makes an empty TLB. */
    public Tlb() {
        flushAll();
    }

    /**
     * Returns the small array, for {@link #readHit} and {@link #writeHit}: a vCPU that has it at hand before the fence
     * of an access saves the loads that lead to it behind the fence.
     *
     * @return the array itself, only to be handed back to this class
     */
    public long[] hits() {
        return small;
    }

    /**
     * Translates a load if its page is in the small array.
     *
     * @param hits as {@link #hits} returned it
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}; then {@link #readFrame} may still know it
     */
    @HotPath
    public static long readHit(long[] hits, long gpa) {
        int slot = smallSlot(gpa);
        return hits[slot] == Gfn.of(gpa) ? hits[slot + FRAME] | gpa & Gfn.PAGE_OFFSET_MASK : MISS;
    }

    /**
     * Translates a store if its page is in the small array.
     *
     * @param hits as {@link #hits} returned it
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}; then {@link #writeFrame} may still know it
     */
    @HotPath
    public static long writeHit(long[] hits, long gpa) {
        int slot = smallSlot(gpa);
        return hits[slot + WRITE_TAG] == Gfn.of(gpa) ? hits[slot + FRAME] | gpa & Gfn.PAGE_OFFSET_MASK : MISS;
    }

    /**
     * Translates a load.
     *
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}
     */
    @HotPath
    public long readFrame(long gpa) {
        long hpa = readHit(small, gpa);
        return hpa != MISS ? hpa : refill(gpa, Access.READ);
    }

    /**
     * Translates a store.
     *
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}; the first store to a page always misses
     */
    @HotPath
    public long writeFrame(long gpa) {
        long hpa = writeHit(small, gpa);
        return hpa != MISS ? hpa : refill(gpa, Access.WRITE);
    }

    /**
     * Translates an instruction fetch.
     *
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}
     */
    @HotPath
    public long executeFrame(long gpa) {
        int slot = smallSlot(gpa);
        if (small[slot + EXECUTE_TAG] == Gfn.of(gpa)) {
            return small[slot + FRAME] | gpa & Gfn.PAGE_OFFSET_MASK;
        }
        return refill(gpa, Access.EXECUTE);
    }

    /** Out of line: the piece of a huge page comes back into the small array, if a huge page is there at all. */
    private long refill(long gpa, int access) {
        long page = find(huge2M, gpa >>> SHIFT_2M);
        int level = PagingLevel.L2M;
        if (page == MISS) {
            page = find(huge1G, gpa >>> SHIFT_1G);
            level = PagingLevel.L1G;
        }
        if (page == MISS || (page & access) == 0) {
            return MISS;
        }
        long frame = HardwareWalker.frameOf(page, gpa, level);
        putSmall(gpa, frame, (int) page & Access.ALL);
        return frame | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    /**
     * Remembers a translation that a walk has just found.
     *
     * @param gpa guest physical address in bytes, the one that was walked
     * @param r result of the walk, which succeeded
     */
    @HotPath
    public void insert(long gpa, WalkResult r) {
        int cached = r.writableCached ? r.permissions | Access.WRITE : r.permissions & ~Access.WRITE;
        putSmall(gpa, r.frame, cached);
        if (r.level != PagingLevel.L4K) {
            insertHuge(gpa, r.frame, r.level, cached);
        }
    }

    private void insertHuge(long gpa, long frame, int level, int cached) {
        long page = frame & -PagingLevel.bytes(level) | cached;
        if (level == PagingLevel.L2M) {
            put(huge2M, gpa >>> SHIFT_2M, page);
        } else {
            put(huge1G, gpa >>> SHIFT_1G, page);
        }
    }

    /**
     * Remembers a table, so that later walks start there.
     *
     * @param gpa guest physical address in bytes that the walk was for
     * @param level level of the table, 1 or 2
     * @param tableHpa host physical address of the table page
     * @param permissions bits of {@link Access} that all entries above the table allow
     */
    @HotPath
    public void insertUpper(long gpa, int level, long tableHpa, int permissions) {
        if (level == PagingLevel.L4K) {
            put(leafTables, gpa >>> SHIFT_2M, tableHpa | permissions);
        } else {
            put(middleTables, gpa >>> SHIFT_1G, tableHpa | permissions);
        }
    }

    /** The table of 4 KiB leaves for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long leafTable(long gpa) {
        return find(leafTables, gpa >>> SHIFT_2M);
    }

    /** The table of level 2 for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long middleTable(long gpa) {
        return find(middleTables, gpa >>> SHIFT_1G);
    }

    /** Removes all that the next walk or access of an address would use: one place of each array, as every violation does it. */
    @HotPath
    void forget(long gpa) {
        int slot = smallSlot(gpa);
        if (smallGfn(slot) == Gfn.of(gpa)) {
            clearSmall(slot);
        }
        forget(huge2M, gpa >>> SHIFT_2M);
        forget(huge1G, gpa >>> SHIFT_1G);
        forget(leafTables, gpa >>> SHIFT_2M);
        forget(middleTables, gpa >>> SHIFT_1G);
    }

    @HotPath
    private static void forget(long[] pairs, long tag) {
        int slot = slotOf(pairs, tag);
        if (pairs[slot] == tag) {
            pairs[slot] = NO_TAG;
        }
    }

    /** Forgets everything. */
    public void flushAll() {
        Arrays.fill(small, NO_TAG);
        Arrays.fill(huge2M, NO_TAG);
        Arrays.fill(huge1G, NO_TAG);
        Arrays.fill(leafTables, NO_TAG);
        Arrays.fill(middleTables, NO_TAG);
    }

    /**
     * Forgets every translation, piece of a translation and table that meets a range.
     *
     * @param startGfn first frame
     * @param endGfn frame after the last one
     */
    public void flushRange(long startGfn, long endGfn) {
        if (endGfn - startGfn == 1) {
            forget(Gfn.toGpa(startGfn));
            return;
        }
        for (int slot = 0; slot < small.length; slot += 1 << SMALL_SHIFT) {
            long gfn = smallGfn(slot);
            if (gfn >= startGfn && gfn < endGfn) {
                clearSmall(slot);
            }
        }
        flushPairs(huge2M, PagingLevel.L2M, startGfn, endGfn);
        flushPairs(huge1G, PagingLevel.L1G, startGfn, endGfn);
        flushPairs(leafTables, PagingLevel.L2M, startGfn, endGfn);
        flushPairs(middleTables, PagingLevel.L1G, startGfn, endGfn);
    }

    private static void flushPairs(long[] pairs, int level, long startGfn, long endGfn) {
        if (startGfn >= endGfn) {
            return;
        }
        long firstTag = startGfn >>> PagingLevel.gfnShift(level);
        long lastTag = endGfn - 1 >>> PagingLevel.gfnShift(level);
        for (int slot = 0; slot < pairs.length; slot += 1 << PAIR_SHIFT) {
            if (pairs[slot] >= firstTag && pairs[slot] <= lastTag) {
                pairs[slot] = NO_TAG;
            }
        }
    }

    /**
     * Returns how many entries hold something, tables included.
     *
     * @return 0 to {@link #capacity}
     */
    public int validEntries() {
        var view = new TlbView();
        int valid = 0;
        for (int i = 0; i < capacity(); i++) {
            if (entryAt(i, view)) {
                valid++;
            }
        }
        return valid;
    }

    /**
     * Returns how many entries there are.
     *
     * @return entries, valid or not
     */
    public int capacity() {
        return SMALL_ENTRIES + HUGE_2M_ENTRIES + HUGE_1G_ENTRIES + LEAF_TABLES + MIDDLE_TABLES;
    }

    /**
     * Shows one entry to a checker, which may run on another thread if the owner is at rest.
     *
     * @param index 0 to {@link #capacity}, exclusive
     * @param view gets the entry if there is one
     * @return whether the entry holds something
     * @throws IndexOutOfBoundsException if there is no such index
     */
    public boolean entryAt(int index, TlbView view) {
        int i = index;
        if (i < SMALL_ENTRIES) {
            return smallAt(i << SMALL_SHIFT, view);
        }
        i -= SMALL_ENTRIES;
        if (i < HUGE_2M_ENTRIES) {
            return pageAt(huge2M, i << PAIR_SHIFT, PagingLevel.L2M, view);
        }
        i -= HUGE_2M_ENTRIES;
        if (i < HUGE_1G_ENTRIES) {
            return pageAt(huge1G, i << PAIR_SHIFT, PagingLevel.L1G, view);
        }
        i -= HUGE_1G_ENTRIES;
        if (i < LEAF_TABLES) {
            return tableAt(leafTables, i << PAIR_SHIFT, PagingLevel.L4K, view);
        }
        return tableAt(middleTables, (i - LEAF_TABLES) << PAIR_SHIFT, PagingLevel.L2M, view);
    }

    private boolean smallAt(int slot, TlbView view) {
        long gfn = smallGfn(slot);
        if (gfn == NO_TAG) {
            return false;
        }
        int permissions = (small[slot] != NO_TAG ? Access.READ : 0)
                | (small[slot + WRITE_TAG] != NO_TAG ? Access.WRITE : 0)
                | (small[slot + EXECUTE_TAG] != NO_TAG ? Access.EXECUTE : 0);
        view.show(gfn, PagingLevel.L4K, small[slot + FRAME], permissions);
        return true;
    }

    private static boolean pageAt(long[] pairs, int slot, int level, TlbView view) {
        long tag = pairs[slot];
        if (tag == NO_TAG) {
            return false;
        }
        long page = pairs[slot + 1];
        view.show(tag << PagingLevel.gfnShift(level), level, page & HardwareWalker.ADDRESS, (int) page & Access.ALL);
        return true;
    }

    private static boolean tableAt(long[] pairs, int slot, int level, TlbView view) {
        long tag = pairs[slot];
        if (tag == NO_TAG) {
            return false;
        }
        long table = pairs[slot + 1];
        view.showTable(
                tag << PagingLevel.gfnShift(level + 1),
                level,
                table & HardwareWalker.ADDRESS,
                (int) table & Access.ALL);
        return true;
    }

    @HotPath
    private static int smallSlot(long gpa) {
        return ((int) Gfn.of(gpa) & SMALL_ENTRIES - 1) << SMALL_SHIFT;
    }

    /** All tags of a slot are the same gfn or -1, and at least one is a gfn if the slot is valid. */
    @HotPath
    private long smallGfn(int slot) {
        return Math.max(small[slot], Math.max(small[slot + WRITE_TAG], small[slot + EXECUTE_TAG]));
    }

    @HotPath
    private void putSmall(long gpa, long frame, int cached) {
        int slot = smallSlot(gpa);
        long gfn = Gfn.of(gpa);
        small[slot] = (cached & Access.READ) != 0 ? gfn : NO_TAG;
        small[slot + WRITE_TAG] = (cached & Access.WRITE) != 0 ? gfn : NO_TAG;
        small[slot + EXECUTE_TAG] = (cached & Access.EXECUTE) != 0 ? gfn : NO_TAG;
        small[slot + FRAME] = frame;
    }

    @HotPath
    private void clearSmall(int slot) {
        small[slot] = NO_TAG;
        small[slot + WRITE_TAG] = NO_TAG;
        small[slot + EXECUTE_TAG] = NO_TAG;
    }

    @HotPath
    private static long find(long[] pairs, long tag) {
        int slot = slotOf(pairs, tag);
        return pairs[slot] == tag ? pairs[slot + 1] : MISS;
    }

    @HotPath
    private static void put(long[] pairs, long tag, long value) {
        int slot = slotOf(pairs, tag);
        pairs[slot] = tag;
        pairs[slot + 1] = value;
    }

    @HotPath
    private static int slotOf(long[] pairs, long tag) {
        return (int) tag << PAIR_SHIFT & pairs.length - 1;
    }
}
