package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.TlbMode;
import java.util.Arrays;

/**
 * What one vCPU remembers of earlier walks: translations of pages, and tables of every level below the root.
 *
 * <p>Belongs to one thread: a remote flush asks the owner to call {@link #flushRange} or {@link #flushAll}. Seven
 * direct-mapped parts of one array:
 *
 * <pre>
 *  part     | entries | found by  | an entry                                           | bytes
 *  small    |   64    | gfn       | read tag, write tag, execute tag, frame            | 2048
 *  huge2M   |   32    | gfn >> 9  | tag, page | permissions                            |  512
 *  huge1G   |    4    | gfn >> 18 | tag, page | permissions                            |   64
 *  leaf     |   16    | gfn >> 9  | tag, table of 4 KiB leaves | permissions above it  |  256
 *  middle   |    4    | gfn >> 18 | tag, table of level 2 | permissions above it       |   64
 *  upper    |    2    | gfn >> 27 | tag, table of level 3 | permissions above it       |   32
 *  top      |    1    | gfn >> 36 | tag, table of level 4 | permissions above it       |   16
 * </pre>
 *
 * <p>2992 bytes, with the header of the array and 24 bytes for the object 3032. A tag is the number in the column
 * "found by", or -1, so that a hit is one comparison. The write tag is set only when stores are allowed and the leaf
 * has D (or there is none), so that the first store after a load walks again and sets D. What a page allows here it
 * allows to everyone ({@link WalkResult#permissions}); a table has all permissions of the entries above it. A table of
 * level 4 is remembered only below a root of level 5.
 *
 * <p>In {@link TlbMode#UNHELPFUL} the parts are only the front of a hoard that loses nothing until it is flushed.
 */
public final class Tlb {
    /** Not cached. */
    public static final long MISS = -1L;

    /** The bits of permissions in the word of a page or table. */
    static final int PERMISSIONS = Access.ALL | WalkResult.USER;

    private static final long NO_TAG = -1L;

    private static final int SMALL_ENTRIES = 64;
    private static final int HUGE_2M_ENTRIES = 32;
    private static final int HUGE_1G_ENTRIES = 4;
    private static final int LEAF_TABLES = 16;
    private static final int MIDDLE_TABLES = 4;
    private static final int UPPER_TABLES = 2;
    private static final int TOP_TABLES = 1;

    // Longs of an entry, as shifts.
    private static final int SMALL_SHIFT = 2;
    private static final int PAIR_SHIFT = 1;

    // Where the parts begin.
    private static final int HUGE_2M = SMALL_ENTRIES << SMALL_SHIFT;
    private static final int HUGE_1G = HUGE_2M + (HUGE_2M_ENTRIES << PAIR_SHIFT);
    private static final int LEAF = HUGE_1G + (HUGE_1G_ENTRIES << PAIR_SHIFT);
    private static final int MIDDLE = LEAF + (LEAF_TABLES << PAIR_SHIFT);
    private static final int UPPER = MIDDLE + (MIDDLE_TABLES << PAIR_SHIFT);
    private static final int TOP = UPPER + (UPPER_TABLES << PAIR_SHIFT);
    static final int WORDS = TOP + (TOP_TABLES << PAIR_SHIFT);

    private static final int ENTRIES = SMALL_ENTRIES + (WORDS - HUGE_2M >> PAIR_SHIFT);

    private static final int WRITE_TAG = 1;
    private static final int EXECUTE_TAG = 2;
    private static final int FRAME = 3;

    private static final int SHIFT_2M = Gfn.PAGE_SHIFT + PagingLevel.INDEX_BITS;
    private static final int SHIFT_1G = SHIFT_2M + PagingLevel.INDEX_BITS;
    private static final int SHIFT_512G = SHIFT_1G + PagingLevel.INDEX_BITS;
    private static final int SHIFT_256T = SHIFT_512G + PagingLevel.INDEX_BITS;

    private final long[] words = new long[WORDS];

    /** Everything, if nothing may be evicted; null if the processor is a typical one. */
    private final TlbHoard hoard;

    /** When the entries were filled, for the coherence oracle; null unless {@link Debug#PROVE}. */
    private final FillRecord fills;

    // Design note. A huge page is looked up out of line and then kept as a piece of 4 KiB in the small part, so that
    // all hits are one comparison. A flush of a range removes each entry by its own extent: a flush of the whole page
    // takes all its pieces, a flush of one frame inside it takes the huge entry and that piece and leaves the other
    // pieces, so software that changes a huge leaf must flush all of it, as on a processor. One array for all parts
    // saves a header and a reference for each; the small part is first, so that the place of a hit is a mask and a
    // shift. The hoard holds what the parts hold and more: an entry need not be moved when it is evicted, and every
    // removal is made in both.

    /** Makes an empty TLB as typical processors have it, which no oracle judges. */
    public Tlb() {
        this(TlbMode.TYPICAL, null);
    }

    /**
     * Makes an empty TLB.
     *
     * @param mode how it caches
     * @param fills of the vCPU, for the coherence oracle; null if none judges
     */
    public Tlb(TlbMode mode, FillRecord fills) {
        this.hoard = mode == TlbMode.UNHELPFUL ? new TlbHoard() : null;
        this.fills = fills;
        flushAll();
    }

    /**
     * Returns the array that begins with the small part, for {@link #readHit} and {@link #writeHit}: a vCPU that has it
     * at hand before the fence of an access saves the loads that lead to it behind the fence.
     *
     * @return the array itself, only to be handed back to this class
     */
    public long[] hits() {
        return words;
    }

    /**
     * Translates a load if its page is in the small part.
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
     * Translates a store if its page is in the small part.
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
        long hpa = readHit(words, gpa);
        return hpa != MISS ? judged(gpa, Access.READ, hpa) : refill(gpa, Access.READ);
    }

    /**
     * Translates a store.
     *
     * @param gpa guest physical address in bytes
     * @return host physical address of the same byte, or {@link #MISS}; the first store to a page always misses
     */
    @HotPath
    public long writeFrame(long gpa) {
        long hpa = writeHit(words, gpa);
        return hpa != MISS ? judged(gpa, Access.WRITE, hpa) : refill(gpa, Access.WRITE);
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
        if (words[slot + EXECUTE_TAG] == Gfn.of(gpa)) {
            return judged(gpa, Access.EXECUTE, words[slot + FRAME] | gpa & Gfn.PAGE_OFFSET_MASK);
        }
        return refill(gpa, Access.EXECUTE);
    }

    /** Out of line: the piece of a huge page comes back into the small part, if a huge page is there at all. */
    private long refill(long gpa, int access) {
        if (hoard != null) {
            return recall(gpa, access);
        }
        int slot = slotOf(HUGE_2M, HUGE_2M_ENTRIES, gpa >>> SHIFT_2M);
        int level = PagingLevel.L2M;
        long page = find(slot, gpa >>> SHIFT_2M);
        if (page == MISS) {
            slot = slotOf(HUGE_1G, HUGE_1G_ENTRIES, gpa >>> SHIFT_1G);
            level = PagingLevel.L1G;
            page = find(slot, gpa >>> SHIFT_1G);
        }
        if (page == MISS || (page & access) == 0) {
            return MISS;
        }
        if (Debug.PROVE && fills != null) {
            fills.judge(slot, gpa, access, level, false, page);
            fills.inherit(smallSlot(gpa), slot);
        }
        long frame = HardwareWalker.frameOf(page, gpa, level);
        putSmall(gpa, frame, (int) page & PERMISSIONS);
        return frame | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    /** As {@link #refill}, of a processor that has evicted nothing. */
    private long recall(long gpa, int access) {
        int level = hoard.levelOf(gpa, access);
        if (level == 0) {
            return MISS;
        }
        int at = hoard.positionOfPage(gpa, level);
        long page = hoard.valueAt(at);
        if (Debug.PROVE && fills != null) {
            fills.restore(smallSlot(gpa), hoard.filledAt(at));
            fills.judge(smallSlot(gpa), gpa, access, level, false, page);
        }
        long frame = HardwareWalker.frameOf(page, gpa, level);
        putSmall(gpa, frame, (int) page & PERMISSIONS);
        if (level != PagingLevel.L4K) {
            hoard.putPage(gpa, PagingLevel.L4K, frame | page & TlbHoard.BITS, hoard.filledAt(at));
        }
        return frame | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    /** Whether a translation that is cached and allows too little makes an access fault. */
    @HotPath
    boolean isUnhelpful() {
        return hoard != null;
    }

    /**
     * Level of the smallest translation that an unhelpful processor has for an address, or 0. Has it judged by the
     * coherence oracle, since an access is about to be refused by it.
     */
    int levelCached(long gpa, int access) {
        int level = hoard.levelOf(gpa, TlbHoard.ANYTHING);
        if (Debug.PROVE && level != 0 && fills != null) {
            int at = hoard.positionOfPage(gpa, level);
            fills.judgeHoarded(hoard.filledAt(at), gpa, access, level, false, hoard.valueAt(at));
        }
        return level;
    }

    /** What that translation allows, D aside. */
    int allowed(long gpa, int level) {
        return TlbHoard.allowed(hoard.valueAt(hoard.positionOfPage(gpa, level)));
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
        if (Debug.PROVE && fills != null) {
            fills.fill(smallSlot(gpa));
        }
        if (r.level != PagingLevel.L4K) {
            insertHuge(gpa, r.frame, r.level, cached);
        }
        if (hoard != null) {
            hoard.putFound(gpa, r, cached, filledNow());
        }
    }

    private void insertHuge(long gpa, long frame, int level, int cached) {
        long page = frame & -PagingLevel.bytes(level) | cached;
        if (level == PagingLevel.L2M) {
            put(slotOf(HUGE_2M, HUGE_2M_ENTRIES, gpa >>> SHIFT_2M), gpa >>> SHIFT_2M, page);
        } else {
            put(slotOf(HUGE_1G, HUGE_1G_ENTRIES, gpa >>> SHIFT_1G), gpa >>> SHIFT_1G, page);
        }
    }

    /**
     * Remembers a table, so that later walks start there.
     *
     * @param gpa guest physical address in bytes that the walk was for
     * @param level level of the table, 1 to 4
     * @param tableHpa host physical address of the table page
     * @param permissions bits that all entries above the table allow
     */
    @HotPath
    public void insertUpper(long gpa, int level, long tableHpa, int permissions) {
        long table = tableHpa | permissions;
        if (level == PagingLevel.L4K) {
            put(slotOf(LEAF, LEAF_TABLES, gpa >>> SHIFT_2M), gpa >>> SHIFT_2M, table);
        } else if (level == PagingLevel.L2M) {
            put(slotOf(MIDDLE, MIDDLE_TABLES, gpa >>> SHIFT_1G), gpa >>> SHIFT_1G, table);
        } else if (level == PagingLevel.L1G) {
            put(slotOf(UPPER, UPPER_TABLES, gpa >>> SHIFT_512G), gpa >>> SHIFT_512G, table);
        } else {
            put(TOP, gpa >>> SHIFT_256T, table);
        }
        if (hoard != null) {
            hoard.putTable(gpa, level, table, filledNow());
        }
    }

    /** The table of 4 KiB leaves for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long leafTable(long gpa) {
        return table(slotOf(LEAF, LEAF_TABLES, gpa >>> SHIFT_2M), gpa >>> SHIFT_2M, gpa, PagingLevel.L4K);
    }

    /** The table of level 2 for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long middleTable(long gpa) {
        return table(slotOf(MIDDLE, MIDDLE_TABLES, gpa >>> SHIFT_1G), gpa >>> SHIFT_1G, gpa, PagingLevel.L2M);
    }

    /** The table of level 3 for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long upperTable(long gpa) {
        return table(slotOf(UPPER, UPPER_TABLES, gpa >>> SHIFT_512G), gpa >>> SHIFT_512G, gpa, PagingLevel.L1G);
    }

    /** The table of level 4 for an address, with permissions in its low bits, or {@link #MISS}. */
    @HotPath
    long topTable(long gpa) {
        return table(TOP, gpa >>> SHIFT_256T, gpa, PagingLevel.L512G);
    }

    @HotPath
    private long table(int slot, long tag, long gpa, int level) {
        long table = find(slot, tag);
        if (table != MISS) {
            if (Debug.PROVE && fills != null) {
                fills.judge(slot, gpa, 0, level, true, table);
            }
            return table;
        }
        return hoard == null ? MISS : recallTable(gpa, level);
    }

    private long recallTable(long gpa, int level) {
        int at = hoard.positionOfTable(gpa, level);
        if (at < 0) {
            return MISS;
        }
        if (Debug.PROVE && fills != null) {
            fills.judgeHoarded(hoard.filledAt(at), gpa, 0, level, true, hoard.valueAt(at));
        }
        return hoard.valueAt(at);
    }

    /** Removes all that the next walk or access of an address would use: one place of each part, after a violation. */
    @HotPath
    void forget(long gpa) {
        int slot = smallSlot(gpa);
        if (smallGfn(slot) == Gfn.of(gpa)) {
            clearSmall(slot);
        }
        forget(slotOf(HUGE_2M, HUGE_2M_ENTRIES, gpa >>> SHIFT_2M), gpa >>> SHIFT_2M);
        forget(slotOf(HUGE_1G, HUGE_1G_ENTRIES, gpa >>> SHIFT_1G), gpa >>> SHIFT_1G);
        forget(slotOf(LEAF, LEAF_TABLES, gpa >>> SHIFT_2M), gpa >>> SHIFT_2M);
        forget(slotOf(MIDDLE, MIDDLE_TABLES, gpa >>> SHIFT_1G), gpa >>> SHIFT_1G);
        forget(slotOf(UPPER, UPPER_TABLES, gpa >>> SHIFT_512G), gpa >>> SHIFT_512G);
        forget(TOP, gpa >>> SHIFT_256T);
        if (hoard != null) {
            hoard.forget(Gfn.of(gpa));
        }
    }

    @HotPath
    private void forget(int slot, long tag) {
        if (words[slot] == tag) {
            words[slot] = NO_TAG;
        }
    }

    /** Forgets everything. */
    public void flushAll() {
        Arrays.fill(words, NO_TAG);
        if (hoard != null) {
            hoard.clear();
        }
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
        if (startGfn >= endGfn) {
            return;
        }
        for (int slot = 0; slot < HUGE_2M; slot += 1 << SMALL_SHIFT) {
            long gfn = smallGfn(slot);
            if (gfn >= startGfn && gfn < endGfn) {
                clearSmall(slot);
            }
        }
        flushPairs(HUGE_2M, HUGE_1G, PagingLevel.L2M, startGfn, endGfn);
        flushPairs(HUGE_1G, LEAF, PagingLevel.L1G, startGfn, endGfn);
        flushPairs(LEAF, MIDDLE, PagingLevel.L2M, startGfn, endGfn);
        flushPairs(MIDDLE, UPPER, PagingLevel.L1G, startGfn, endGfn);
        flushPairs(UPPER, TOP, PagingLevel.L512G, startGfn, endGfn);
        flushPairs(TOP, WORDS, PagingLevel.L256T, startGfn, endGfn);
        if (hoard != null) {
            hoard.flushRange(startGfn, endGfn);
        }
    }

    private void flushPairs(int from, int to, int level, long startGfn, long endGfn) {
        long firstTag = startGfn >>> PagingLevel.gfnShift(level);
        long lastTag = endGfn - 1 >>> PagingLevel.gfnShift(level);
        for (int slot = from; slot < to; slot += 1 << PAIR_SHIFT) {
            if (words[slot] >= firstTag && words[slot] <= lastTag) {
                words[slot] = NO_TAG;
            }
        }
    }

    /**
     * Has the coherence oracle judge a hit that the owner found by {@link #readHit} or {@link #writeHit}. Only for
     * {@link Debug#PROVE}.
     *
     * @param gpa guest physical address in bytes
     * @param access the access that hit
     * @throws StaleTranslationException if a completed flush covers the entry, or the VM was stopped for such an entry
     */
    public void judgeHit(long gpa, int access) {
        if (fills != null) {
            int slot = smallSlot(gpa);
            fills.judge(slot, gpa, access, PagingLevel.L4K, false, words[slot + FRAME] | permissionsAt(slot));
        }
    }

    @HotPath
    private long judged(long gpa, int access, long hpa) {
        if (Debug.PROVE) {
            judgeHit(gpa, access);
        }
        return hpa;
    }

    /**
     * Tells the coherence oracle which flushes the owner has applied: entries filled from now on are judged by later
     * ones. Only for {@link Debug#PROVE}.
     *
     * @param sequence of the last flush that was applied
     * @throws StaleTranslationException if the VM was stopped for a stale translation
     */
    public void applied(long sequence) {
        if (fills != null) {
            fills.applied(sequence);
        }
    }

    /**
     * Returns how many entries hold something, tables included, each once.
     *
     * @return 0 to {@link #capacity}
     */
    public int validEntries() {
        if (hoard != null) {
            return hoard.size();
        }
        var view = new TlbView();
        int valid = 0;
        for (int i = 0; i < ENTRIES; i++) {
            if (entryAt(i, view)) {
                valid++;
            }
        }
        return valid;
    }

    /**
     * Returns how many entries there are. In {@link TlbMode#UNHELPFUL} this changes, and an entry may be there twice.
     *
     * @return entries, valid or not
     */
    public int capacity() {
        return hoard == null ? ENTRIES : ENTRIES + hoard.size();
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
        if (index >= ENTRIES && hoard != null) {
            hoard.showAt(index - ENTRIES, view);
            return true;
        }
        if (index < SMALL_ENTRIES) {
            return smallAt(index << SMALL_SHIFT, view);
        }
        int slot = HUGE_2M + (index - SMALL_ENTRIES << PAIR_SHIFT);
        if (words[slot] == NO_TAG) {
            return false;
        }
        if (slot < LEAF) {
            view.showPage(words[slot], slot < HUGE_1G ? PagingLevel.L2M : PagingLevel.L1G, words[slot + 1]);
        } else {
            view.showTable(words[slot], levelOfTable(slot), words[slot + 1]);
        }
        return true;
    }

    private static int levelOfTable(int slot) {
        if (slot < UPPER) {
            return slot < MIDDLE ? PagingLevel.L4K : PagingLevel.L2M;
        }
        return slot < TOP ? PagingLevel.L1G : PagingLevel.L512G;
    }

    private boolean smallAt(int slot, TlbView view) {
        long gfn = smallGfn(slot);
        if (gfn == NO_TAG) {
            return false;
        }
        view.show(gfn, PagingLevel.L4K, words[slot + FRAME], permissionsAt(slot));
        return true;
    }

    private int permissionsAt(int slot) {
        return (words[slot] != NO_TAG ? Access.READ : 0)
                | (words[slot + WRITE_TAG] != NO_TAG ? Access.WRITE : 0)
                | (words[slot + EXECUTE_TAG] != NO_TAG ? Access.EXECUTE : 0);
    }

    @HotPath
    private static int smallSlot(long gpa) {
        return ((int) Gfn.of(gpa) & SMALL_ENTRIES - 1) << SMALL_SHIFT;
    }

    /** All tags of a slot are the same gfn or -1, and at least one is a gfn if the slot is valid. */
    @HotPath
    private long smallGfn(int slot) {
        return Math.max(words[slot], Math.max(words[slot + WRITE_TAG], words[slot + EXECUTE_TAG]));
    }

    @HotPath
    private void putSmall(long gpa, long frame, int cached) {
        int slot = smallSlot(gpa);
        long gfn = Gfn.of(gpa);
        words[slot] = (cached & Access.READ) != 0 ? gfn : NO_TAG;
        words[slot + WRITE_TAG] = (cached & Access.WRITE) != 0 ? gfn : NO_TAG;
        words[slot + EXECUTE_TAG] = (cached & Access.EXECUTE) != 0 ? gfn : NO_TAG;
        words[slot + FRAME] = frame;
    }

    @HotPath
    private void clearSmall(int slot) {
        words[slot] = NO_TAG;
        words[slot + WRITE_TAG] = NO_TAG;
        words[slot + EXECUTE_TAG] = NO_TAG;
    }

    @HotPath
    private long find(int slot, long tag) {
        return words[slot] == tag ? words[slot + 1] : MISS;
    }

    @HotPath
    private void put(int slot, long tag, long value) {
        words[slot] = tag;
        words[slot + 1] = value;
        if (Debug.PROVE && fills != null) {
            fills.fill(slot);
        }
    }

    private long filledNow() {
        return Debug.PROVE && fills != null ? fills.now() : 0;
    }

    @HotPath
    private static int slotOf(int part, int entries, long tag) {
        return part + (((int) tag & entries - 1) << PAIR_SHIFT);
    }
}
