package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;

/**
 * The word that gives a processor its extended page tables, as a primitive value.
 *
 * <pre>
 *  63          N N-1            12 11  7  6  5      3 2      0
 *  +------------+-----------------+-----+---+--------+--------+
 *  |     0      |  root table     |  0  |A/D|levels-1|  type  |
 *  +------------+-----------------+-----+---+--------+--------+
 *   N is the width of addresses          |      |     memory type of the tables: 0 uncacheable, 6 write-back
 *                                        |      3 or 4
 *                                        the hardware maintains accessed and dirty flags
 * </pre>
 *
 * <p>Bit 7 would enable supervisor shadow-stack control, which is not modelled.
 */
public final class EptPointer {
    private static final long TYPE = 7;
    private static final long UNCACHEABLE = 0;
    private static final long WRITE_BACK = 6;
    private static final int LENGTH_SHIFT = 3;
    private static final long LENGTH = 7;
    private static final long ACCESSED_DIRTY = 1L << 6;
    private static final long RESERVED = 0x1fL << 7;

    private EptPointer() {}

    /**
     * Makes a pointer to tables that are read through the caches.
     *
     * @param rootHpa host physical address of the root table, a multiple of 4096
     * @param levels 4 or 5
     * @param accessedDirty whether the hardware maintains accessed and dirty flags
     * @return the pointer
     */
    public static long make(long rootHpa, int levels, boolean accessedDirty) {
        return rootHpa | WRITE_BACK | levels - 1L << LENGTH_SHIFT | (accessedDirty ? ACCESSED_DIRTY : 0);
    }

    /**
     * Returns how many levels the tables have.
     *
     * @param pointer that {@link #check} accepts
     * @return 4 or 5
     */
    public static int levels(long pointer) {
        return (int) (pointer >>> LENGTH_SHIFT & LENGTH) + 1;
    }

    /**
     * Tells whether the hardware maintains accessed and dirty flags.
     *
     * @param pointer that {@link #check} accepts
     * @return whether it does
     */
    public static boolean accessedDirty(long pointer) {
        return (pointer & ACCESSED_DIRTY) != 0;
    }

    /**
     * Returns where the root table is.
     *
     * @param pointer that {@link #check} accepts
     * @return host physical address in bytes
     */
    public static long rootHpa(long pointer) {
        return pointer & -Gfn.PAGE_SIZE;
    }

    /**
     * Accepts a pointer that a processor would enter a guest with.
     *
     * @param pointer to be checked
     * @param capabilities of the processor
     * @param physicalAddressBits width of its addresses, 36 to 52
     * @throws IllegalArgumentException naming the bits for which the processor would refuse it, the lowest ones first
     */
    public static void check(long pointer, EptCapabilities capabilities, int physicalAddressBits) {
        long type = pointer & TYPE;
        boolean knownType =
                type == UNCACHEABLE && capabilities.uncacheable() || type == WRITE_BACK && capabilities.writeBack();
        if (!knownType) {
            throw refused("memory type in bits 2:0 is not supported", pointer, "type", type);
        }
        int levels = levels(pointer);
        boolean knownLength = levels == PagingLevel.L512G && capabilities.fourLevel()
                || levels == PagingLevel.L256T && capabilities.fiveLevel();
        if (!knownLength) {
            throw refused("walk length in bits 5:3 is not supported", pointer, "levels", levels);
        }
        if (accessedDirty(pointer) && !capabilities.accessedDirty()) {
            throw refused("A/D enable in bit 6 is not supported", pointer, "accessedDirty", 1);
        }
        if ((pointer & RESERVED) != 0) {
            throw refused("bits 11:7 are reserved", pointer, "reserved", pointer & RESERVED);
        }
        long tooWide = pointer & -(1L << physicalAddressBits);
        if (tooWide != 0) {
            throw refused("address is wider than " + physicalAddressBits + " bits", pointer, "reserved", tooWide);
        }
    }

    private static IllegalArgumentException refused(String why, long pointer, String name, long value) {
        return new IllegalArgumentException("EPT pointer is malformed, " + why + ": pointer=0x"
                + Long.toHexString(pointer) + ", " + name + "=0x" + Long.toHexString(value));
    }
}
