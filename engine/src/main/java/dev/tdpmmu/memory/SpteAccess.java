package dev.tdpmmu.memory;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * The only way to a page-table entry. An entry is named by its host physical address, a multiple of 8.
 *
 * <p>Pairing: what {@link #compareAndSet}, {@link #exchange} or {@link #setRelease} publishes, {@link #readAcquire}
 * sees whole, together with everything that was written before it. {@code readPlain} and {@code setPlain} are for
 * entries of a table that is not linked, or that the caller alone may write.
 *
 * <p>Addresses are masked into the part of the range below {@link HostMemory#TABLES_END}, so a corrupt entry can lead
 * to a wrong table but never to a guest frame or out of the range.
 */
public final class SpteAccess {
    /** Entries that {@link #orPlain} reads at once. */
    public static final int BLOCK_ENTRIES = 8;

    // One constant segment, one constant handle: the compiler folds base, length and liveness, and the mask bounds the
    // offset, so that an access is the one instruction that C would use.
    private static final MemorySegment RANGE = HostMemory.RANGE;
    private static final VarHandle LONG = ValueLayout.JAVA_LONG.varHandle().withInvokeExactBehavior();
    private static final long ENTRY_MASK = HostMemory.TABLES_END - Long.BYTES;
    private static final long BLOCK_MASK = HostMemory.TABLES_END - BLOCK_ENTRIES * Long.BYTES;
    private static final long PAGE_MASK = HostMemory.TABLES_END - HostMemory.PAGE_SIZE;

    // The same range for the loops that fill a page, where the compiler must not know its base: it would add that
    // constant to each entry's address, and with one of more than 31 bits it stores entries one by one.
    private static final MemorySegment[] LOOP_RANGE = {RANGE};
    private static final long[] INDICES = indices();

    private SpteAccess() {}

    /**
     * Returns the address of an entry.
     *
     * @param tableHpa host physical address of the table page
     * @param gfn guest frame number
     * @param level level of the table, 1 to 5
     * @return host physical address of the entry that covers {@code gfn}
     */
    @HotPath
    public static long addressOf(long tableHpa, long gfn, int level) {
        return tableHpa + ((long) PagingLevel.index(gfn, level) << 3);
    }

    /**
     * Reads an entry that others may change.
     *
     * @param spteAddress host physical address, multiple of 8
     * @return the entry
     * @ordering acquire; pairs with {@link #compareAndSet}, {@link #exchange} and {@link #setRelease}
     */
    @HotPath
    public static long readAcquire(long spteAddress) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.READ, spteAddress);
        }
        return (long) LONG.getAcquire(RANGE, spteAddress & ENTRY_MASK);
    }

    /**
     * Reads the entry of a table that covers a frame: the step of every walk.
     *
     * @param tableHpa host physical address of the table page
     * @param gfn guest frame number
     * @param level level of the table, 1 to 5
     * @return the entry
     * @ordering acquire; pairs with {@link #compareAndSet}, {@link #exchange} and {@link #setRelease}
     */
    @HotPath
    public static long readAcquire(long tableHpa, long gfn, int level) {
        // The page is masked before the index is added, not the sum: that mask merges with the one that takes the
        // address out of the entry above, which makes the chain from load to load of a walk two instructions shorter.
        long offset = (tableHpa & PAGE_MASK) + ((long) PagingLevel.index(gfn, level) << 3);
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.READ, offset);
        }
        return (long) LONG.getAcquire(RANGE, offset);
    }

    /**
     * Reads an entry that nobody else can change now.
     *
     * @param spteAddress host physical address, multiple of 8
     * @return the entry
     * @ordering plain
     */
    @HotPath
    public static long readPlain(long spteAddress) {
        return (long) LONG.get(RANGE, spteAddress & ENTRY_MASK);
    }

    /**
     * Reads {@link #BLOCK_ENTRIES} entries and tells which bits are set in any of them, for scans that find little. One
     * interleaving point: the entries are read in no order, so a caller may conclude nothing from one about another,
     * and reads again what it wants to change.
     *
     * @param spteAddress host physical address of the first, multiple of 64
     * @return the entries or-ed together
     * @ordering plain: what was published before the caller's lock or epoch began is seen
     */
    @HotPath
    public static long orPlain(long spteAddress) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.READ, spteAddress);
        }
        long block = spteAddress & BLOCK_MASK;
        long low = (long) LONG.get(RANGE, block)
                | (long) LONG.get(RANGE, block + Long.BYTES)
                | (long) LONG.get(RANGE, block + 2 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 3 * Long.BYTES);
        long high = (long) LONG.get(RANGE, block + 4 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 5 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 6 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 7 * Long.BYTES);
        return low | high;
    }

    /**
     * Writes an entry of a table that is not linked yet.
     *
     * @param spteAddress host physical address, multiple of 8
     * @param spte the entry
     * @ordering plain; published by the compare-and-set that links the table
     */
    @HotPath
    public static void setPlain(long spteAddress, long spte) {
        LONG.set(RANGE, spteAddress & ENTRY_MASK, spte);
    }

    /**
     * Writes an entry that the caller owns (exclusively, or because it froze it).
     *
     * @param spteAddress host physical address, multiple of 8
     * @param spte the entry
     * @ordering release; pairs with {@link #readAcquire}
     */
    @HotPath
    public static void setRelease(long spteAddress, long spte) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.WRITE, spteAddress);
        }
        LONG.setRelease(RANGE, spteAddress & ENTRY_MASK, spte);
    }

    /**
     * Replaces an entry if it still has the value that the caller saw.
     *
     * @param spteAddress host physical address, multiple of 8
     * @param expected value that must be there
     * @param spte value to publish
     * @return whether the entry was replaced
     * @ordering volatile; pairs with {@link #readAcquire}
     */
    @HotPath
    public static boolean compareAndSet(long spteAddress, long expected, long spte) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.UPDATE, spteAddress);
        }
        return LONG.compareAndSet(RANGE, spteAddress & ENTRY_MASK, expected, spte);
    }

    /**
     * Replaces an entry and returns what was there, so that bits which others set meanwhile are not lost.
     *
     * @param spteAddress host physical address, multiple of 8
     * @param spte value to publish
     * @return the value that was replaced
     * @ordering volatile; pairs with {@link #readAcquire}
     */
    @HotPath
    public static long exchange(long spteAddress, long spte) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.UPDATE, spteAddress);
        }
        return (long) LONG.getAndSet(RANGE, spteAddress & ENTRY_MASK, spte);
    }

    /**
     * Clears bits of an entry atomically.
     *
     * @param spteAddress host physical address, multiple of 8
     * @param mask bits to keep
     * @return the value before
     * @ordering volatile; pairs with {@link #readAcquire}
     */
    @HotPath
    public static long fetchAnd(long spteAddress, long mask) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.UPDATE, spteAddress);
        }
        // The result is used: dropping it would change the call's type and leave the fast path of the handle.
        return (long) LONG.getAndBitwiseAnd(RANGE, spteAddress & ENTRY_MASK, mask);
    }

    /**
     * Fills a table page that is not linked with one value.
     *
     * @param tableHpa host physical address of the page, multiple of 4096
     * @param spte value of each entry
     * @ordering plain; published by the compare-and-set that links the table
     */
    @HotPath
    public static void fillPlain(long tableHpa, long spte) {
        MemorySegment range = LOOP_RANGE[0];
        // The page is masked, the index is not: an index mask in the loop would stop vectorisation.
        long page = tableHpa & PAGE_MASK;
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            LONG.set(range, page + ((long) i << 3), spte);
        }
    }

    /**
     * Fills a table page that is not linked with the entries {@code first, first + step, first + 2 * step, ...}.
     *
     * @param tableHpa host physical address of the page, multiple of 4096
     * @param first value of entry 0
     * @param stepShift log2 of the difference between neighbours, 0 to 63
     * @ordering plain; published by the compare-and-set that links the table
     */
    @HotPath
    public static void fillRowPlain(long tableHpa, long first, int stepShift) {
        MemorySegment range = LOOP_RANGE[0];
        long page = tableHpa & PAGE_MASK;
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            // Indices from an array: a sum carried from entry to entry would stop vectorisation, as a product would.
            LONG.set(range, page + ((long) i << 3), first + (INDICES[i] << stepShift));
        }
    }

    private static long[] indices() {
        long[] indices = new long[PagingLevel.ENTRIES];
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            indices[i] = i;
        }
        return indices;
    }
}
