package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;

/**
 * What a nested page fault tells about itself (exit info 1).
 *
 * <pre>
 *   63  34 33 32 31  5  4  3  2  1  0
 *  +------+--+--+-----+--+--+--+--+--+
 *  |  0   |GT|FT|  0  |ID|RS|US|RW| P|
 *  +------+--+--+-----+--+--+--+--+--+
 *          |  |        |  |  |  |  every entry was present
 *          |  |        |  |  |  the access was a store, or to a guest page table
 *          |  |        |  |  always: nested accesses count as user accesses
 *          |  |        |  an entry had a reserved bit
 *          |  |        the access was a fetch; 0 if nothing can forbid fetches
 *          |  the access was to the final guest physical address
 *          the access was to a guest page table
 * </pre>
 *
 * <p>Exit info 2 is the guest physical address that was walked: for a guest page table that of the entry.
 */
public final class NptErrorCode {
    /** Every entry of the walk was present, but one forbade the access or had a reserved bit. */
    public static final long PRESENT = 1L;

    /** The access was a store. */
    public static final long WRITE = 1L << 1;

    /** The access counted as a user's; always set. */
    public static final long USER = 1L << 2;

    /** A present entry had a reserved bit. */
    public static final long RESERVED = 1L << 3;

    /** The access was an instruction fetch. */
    public static final long FETCH = 1L << 4;

    /** The fault happened on the final guest physical address. */
    public static final long FINAL_TRANSLATION = 1L << 32;

    /** The fault happened on the address of a guest page table's entry. */
    public static final long GUEST_TABLE = 1L << 33;

    private NptErrorCode() {}

    static long of(int request, boolean present, boolean reportsFetch) {
        return USER
                | ((request & WalkAccess.GUEST_TABLE) != 0 ? GUEST_TABLE : FINAL_TRANSLATION)
                | (present ? PRESENT : 0)
                | ((request & Access.WRITE) != 0 ? WRITE : 0)
                | (reportsFetch && (request & Access.EXECUTE) != 0 ? FETCH : 0);
    }

    /**
     * Tells whether the walk reached an entry that was there but forbade the access.
     *
     * @param errorCode bits of this class
     * @return false if an entry was not present
     */
    public static boolean isPresent(long errorCode) {
        return (errorCode & PRESENT) != 0;
    }

    /**
     * Describes an error code in one line.
     *
     * @param errorCode bits of this class
     * @return for instance {@code present write user final}
     */
    public static String describe(long errorCode) {
        long unknown = errorCode & ~(PRESENT | WRITE | USER | RESERVED | FETCH | FINAL_TRANSLATION | GUEST_TABLE);
        return ((errorCode & PRESENT) != 0 ? "present" : "not-present")
                + ((errorCode & WRITE) != 0 ? " write" : (errorCode & FETCH) != 0 ? " fetch" : " read")
                + ((errorCode & USER) != 0 ? " user" : "")
                + ((errorCode & RESERVED) != 0 ? " reserved" : "")
                + ((errorCode & FINAL_TRANSLATION) != 0 ? " final" : "")
                + ((errorCode & GUEST_TABLE) != 0 ? " guest-table" : "")
                + (unknown != 0 ? " unknown=0x" + Long.toHexString(unknown) : "");
    }
}
