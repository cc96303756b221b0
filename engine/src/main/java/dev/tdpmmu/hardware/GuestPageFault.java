package dev.tdpmmu.hardware;

/**
 * A page fault (vector 14) of a guest whose own tables do not allow an access.
 *
 * @param gva guest linear address of the access, as CR2 gets it
 * @param errorCode bits of this class
 */
public record GuestPageFault(long gva, long errorCode) {
    /** Every entry was present, but one forbade the access or had a reserved bit. */
    public static final long PRESENT = 1L;

    /** The access was a store. */
    public static final long WRITE = 1L << 1;

    /** The access was a user's. */
    public static final long USER = 1L << 2;

    /** A present entry had a reserved bit. */
    public static final long RESERVED = 1L << 3;

    /** The access was an instruction fetch; told only if no-execute or SMEP is on. */
    public static final long FETCH = 1L << 4;

    /** The rights of the page's protection key forbid the access. */
    public static final long PROTECTION_KEY = 1L << 5;

    /**
     * Describes the fault in one line.
     *
     * @return for instance {@code gva=0x7000, errorCode=0x7 (present write user)}
     */
    @Override
    public String toString() {
        return "gva=0x" + Long.toHexString(gva) + ", errorCode=0x" + Long.toHexString(errorCode) + " ("
                + ((errorCode & PRESENT) != 0 ? "present" : "not-present")
                + ((errorCode & WRITE) != 0 ? " write" : (errorCode & FETCH) != 0 ? " fetch" : " read")
                + ((errorCode & USER) != 0 ? " user" : " supervisor")
                + ((errorCode & RESERVED) != 0 ? " reserved" : "")
                + ((errorCode & PROTECTION_KEY) != 0 ? " protection-key" : "") + ")";
    }
}
