package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import java.util.Arrays;
import org.agrona.collections.Long2LongHashMap;

/**
 * Everything that a processor has cached since its last flush: the memory behind the {@link Tlb} of a processor that
 * evicts nothing.
 *
 * <p>An entry has a key and a word. The key is the tag of the {@link Tlb} and the kind of entry:
 *
 * <pre>
 *  kind    | 1 2 3: page of this level          | 5 6 7 8: table of level 1 2 3 4
 *  tag     | gfn without the index bits below   | the same, of the entry that points to the table
 *  word    | frame | allowed (7:4) | cached (3:0) | table | permissions above it (3:0)
 * </pre>
 *
 * <p>What is allowed and what is cached differ in one bit: a page that may be written but has no D is allowed to be
 * written, and not cached as such. Belongs to the thread of the TLB.
 */
final class TlbHoard {
    /** Bits of a word that are not the address. */
    static final long BITS = 0xff;

    /** For {@link #levelOf}: a page of any permissions will do, also one of none. */
    static final int ANYTHING = 0;

    private static final int ALLOWED_SHIFT = 4;
    private static final int KIND_BITS = 4;
    private static final int KIND_MASK = (1 << KIND_BITS) - 1;
    private static final int TABLE = 4;
    private static final int FIRST_CAPACITY = 16;
    private static final int NONE = -1;

    private final Long2LongHashMap positions = new Long2LongHashMap(NONE);
    private long[] keys = new long[FIRST_CAPACITY];
    private long[] values = new long[FIRST_CAPACITY];
    private long[] filled = new long[FIRST_CAPACITY];
    private int size;

    // Design note. The entries stand without gaps in arrays, so that a flush of a range and a checker walk them by
    // index; the map only finds them. A removal moves the last entry into the gap.

    static int allowed(long word) {
        return (int) (word >> ALLOWED_SHIFT) & Tlb.PERMISSIONS;
    }

    int size() {
        return size;
    }

    /** Level of the smallest page that holds an address and has all of some permissions cached, or 0. */
    int levelOf(long gpa, int permissions) {
        for (int level = PagingLevel.L4K; level <= PagingLevel.MAX_HUGE; level++) {
            int position = positionOfPage(gpa, level);
            if (position >= 0 && (values[position] & permissions) == permissions) {
                return level;
            }
        }
        return 0;
    }

    /** Where a page is until the next change, or a negative number. */
    int positionOfPage(long gpa, int level) {
        return (int) positions.get(pageKey(Gfn.of(gpa), level));
    }

    /** Where a table is until the next change, or a negative number. */
    int positionOfTable(long gpa, int level) {
        return (int) positions.get(tableKey(Gfn.of(gpa), level));
    }

    long valueAt(int position) {
        return values[position];
    }

    /** The flush sequence that the owner had applied when the entry was filled; means something in proof runs only. */
    long filledAt(int position) {
        return filled[position];
    }

    /** Adds what a walk has found: the page, and the piece of it that was used. */
    void putFound(long gpa, WalkResult found, int cached, long filledAt) {
        long bits = (long) found.entryPermissions << ALLOWED_SHIFT | cached;
        putPage(gpa, found.level, found.frame & -PagingLevel.bytes(found.level) | bits, filledAt);
        if (found.level != PagingLevel.L4K) {
            putPage(gpa, PagingLevel.L4K, found.frame | bits, filledAt);
        }
    }

    void putPage(long gpa, int level, long page, long filledAt) {
        put(pageKey(Gfn.of(gpa), level), page, filledAt);
    }

    void putTable(long gpa, int level, long table, long filledAt) {
        put(tableKey(Gfn.of(gpa), level), table, filledAt);
    }

    /** Adds an entry, or replaces it. */
    private void put(long key, long value, long filledAt) {
        int position = (int) positions.get(key);
        if (position < 0) {
            position = size++;
            growTo(size);
            positions.put(key, position);
            keys[position] = key;
        }
        values[position] = value;
        filled[position] = filledAt;
    }

    private void growTo(int needed) {
        if (needed > keys.length) {
            int capacity = 2 * keys.length;
            keys = Arrays.copyOf(keys, capacity);
            values = Arrays.copyOf(values, capacity);
            filled = Arrays.copyOf(filled, capacity);
        }
    }

    /** Removes every page and table that serves a frame. */
    void forget(long gfn) {
        for (int level = PagingLevel.L4K; level <= PagingLevel.MAX_HUGE; level++) {
            remove(pageKey(gfn, level));
        }
        for (int level = PagingLevel.L4K; level <= PagingLevel.L512G; level++) {
            remove(tableKey(gfn, level));
        }
    }

    private void remove(long key) {
        int position = (int) positions.remove(key);
        if (position >= 0) {
            close(position);
        }
    }

    private void close(int position) {
        size--;
        if (position != size) {
            keys[position] = keys[size];
            values[position] = values[size];
            filled[position] = filled[size];
            positions.put(keys[position], position);
        }
    }

    /** Removes every page and table that meets a range which is not empty. */
    void flushRange(long startGfn, long endGfn) {
        // From the end, so that what closes a gap has been looked at.
        for (int position = size - 1; position >= 0; position--) {
            int shift = PagingLevel.gfnShift(coveringLevel(keys[position]));
            long tag = tagOf(keys[position]);
            if (tag >= startGfn >>> shift && tag <= endGfn - 1 >>> shift) {
                remove(keys[position]);
            }
        }
    }

    void clear() {
        positions.clear();
        size = 0;
    }

    void showAt(int position, TlbView view) {
        if (position >= size) {
            throw new IndexOutOfBoundsException("no such entry: index=" + position + ", size=" + size);
        }
        int kind = (int) keys[position] & KIND_MASK;
        if (kind > TABLE) {
            view.showTable(tagOf(keys[position]), kind - TABLE, values[position]);
        } else {
            view.showPage(tagOf(keys[position]), kind, values[position]);
        }
    }

    private static long pageKey(long gfn, int level) {
        return gfn >>> PagingLevel.gfnShift(level) << KIND_BITS | level;
    }

    private static long tableKey(long gfn, int level) {
        return gfn >>> PagingLevel.gfnShift(level + 1) << KIND_BITS | TABLE + level;
    }

    private static long tagOf(long key) {
        return key >>> KIND_BITS;
    }

    /** Level whose entry covers as much as the page, or the whole table. */
    private static int coveringLevel(long key) {
        int kind = (int) key & KIND_MASK;
        return kind > TABLE ? kind - TABLE + 1 : kind;
    }
}
