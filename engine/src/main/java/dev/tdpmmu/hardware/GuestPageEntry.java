package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;

/**
 * An entry of a guest's page tables, as a long.
 *
 * <pre>
 *  63  62:59  58:52    51:12    11:9     8   7   6  5  4:3     2  1  0
 *  NX   key  ignored  address  ignored   G  PS   D  A  cache   U  W  P
 * </pre>
 *
 * <p>Key, G and D only in leaves. PS makes a leaf of an entry of level 2 or 3, whose address then is that of the
 * page, bit 12 being PAT; at level 1 it is PAT, above level 3 it is reserved.
 */
public final class GuestPageEntry {
    /** The entry leads somewhere. */
    public static final long PRESENT = 1L;

    /** Stores are allowed. */
    public static final long WRITABLE = 1L << 1;

    /** Users are allowed. */
    public static final long USER = 1L << 2;

    /** The entry was used. */
    public static final long ACCESSED = 1L << 5;

    /** The page was stored to. */
    public static final long DIRTY = 1L << 6;

    /** At levels 2 and 3: the entry is a leaf. */
    public static final long LARGE = HardwareWalker.LARGE;

    /** The mapping survives a change of CR3. */
    public static final long GLOBAL = 1L << 8;

    /** Fetches are forbidden, if EFER.NX is on; else reserved. */
    public static final long NO_EXECUTE = 1L << 63;

    /** Bits of the address, in an entry of any level. */
    public static final long ADDRESS = HardwareWalker.ADDRESS;

    static final int NO_EXECUTE_SHIFT = 63;
    static final int KEY_SHIFT = 59;
    static final int KEY_MASK = 15;

    private GuestPageEntry() {}

    /**
     * Returns the bits of a protection key.
     *
     * @param key 0 to 15
     * @return bits of a leaf
     */
    public static long key(int key) {
        return (long) (key & KEY_MASK) << KEY_SHIFT;
    }

    /**
     * Returns where the entry of an address is in a table.
     *
     * @param tableGpa guest physical address of the table
     * @param gva guest linear address
     * @param level level of the table, 1 to 5
     * @return guest physical address of the entry
     */
    @HotPath
    public static long addressIn(long tableGpa, long gva, int level) {
        return tableGpa + ((long) PagingLevel.index(Gfn.of(gva), level) << 3);
    }
}
