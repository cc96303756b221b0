package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;

/**
 * What an EPT violation tells about itself.
 *
 * <pre>
 *    63    9  8  7  6  5  4  3  2  1  0
 *  +--------+--+--+--+--+--+--+--+--+--+
 *  |   0    |FT|LA| 0|pX|pW|pR| X| W| R|
 *  +--------+--+--+--+--+--+--+--+--+--+
 *            |  |     |        the access
 *            |  |     permissions that all entries of the walk gave, none if one was not present
 *            |  a guest linear address is known
 *            the access was to the final translation, not to a guest page table
 * </pre>
 *
 * <p>Bit 6 needs mode-based execute control and bits 9 to 11 advanced exit information; neither is modelled, so
 * they are 0. A misconfiguration has no qualification: all bits are 0.
 */
public final class ExitQualification {
    /** The access was a load. */
    public static final long READ = 1L;

    /** The access was a store. */
    public static final long WRITE = 1L << 1;

    /** The access was an instruction fetch. */
    public static final long FETCH = 1L << 2;

    /** Every entry allowed loads. */
    public static final long READABLE = 1L << 3;

    /** Every entry allowed stores. */
    public static final long WRITABLE = 1L << 4;

    /** Every entry allowed fetches. */
    public static final long EXECUTABLE = 1L << 5;

    /** The guest linear address is valid. */
    public static final long LINEAR_ADDRESS_VALID = 1L << 7;

    /** The access was to the translation of the linear address. */
    public static final long FINAL_TRANSLATION = 1L << 8;

    private static final int PERMISSION_SHIFT = 3;

    private ExitQualification() {}

    /** Both arguments are bits of {@link Access}, which stand in the order of the qualification's. */
    static long of(int access, int permissions) {
        return LINEAR_ADDRESS_VALID | FINAL_TRANSLATION | (long) permissions << PERMISSION_SHIFT | access;
    }

    /**
     * Tells whether the walk reached an entry that was there but forbade the access.
     *
     * @param qualification bits of this class
     * @return false if an entry was not present
     */
    public static boolean isPresent(long qualification) {
        return (qualification & (READABLE | WRITABLE | EXECUTABLE)) != 0;
    }

    /**
     * Describes a qualification in one line.
     *
     * @param qualification bits of this class
     * @return for instance {@code access=-w- allowed=r-x linear final}
     */
    public static String describe(long qualification) {
        long known = READ | WRITE | FETCH | READABLE | WRITABLE | EXECUTABLE | LINEAR_ADDRESS_VALID | FINAL_TRANSLATION;
        long unknown = qualification & ~known;
        return "access=" + Access.text((int) qualification & Access.ALL)
                + " allowed=" + Access.text((int) (qualification >>> PERMISSION_SHIFT) & Access.ALL)
                + ((qualification & LINEAR_ADDRESS_VALID) != 0 ? " linear" : "")
                + ((qualification & FINAL_TRANSLATION) != 0 ? " final" : "")
                + (unknown != 0 ? " unknown=0x" + Long.toHexString(unknown) : "");
    }
}
