package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;

/**
 * What an EPT violation tells about itself.
 *
 * <pre>
 *    63   12 11 10  9  8  7  6  5  4  3  2  1  0
 *  +--------+--+--+--+--+--+--+--+--+--+--+--+--+
 *  |   0    |gN|gW|gU|FT|LA|pU|pX|pW|pR| X| W| R|
 *  +--------+--+--+--+--+--+--+--+--+--+--+--+--+
 *            |        |  |  |           |  the access; one to a guest page table that sets flags there is R and W
 *            |        |  |  permissions that all entries of the walk gave, none if one was not present
 *            |        |  a guest linear address is known: always
 *            |        the access was to the final translation, not to a guest page table
 *            what the guest's own tables say of the page, if FT and with advanced exit information
 * </pre>
 *
 * <p>Without mode-based execute control pX speaks of every fetch and pU is 0; with it pX speaks of fetches from
 * supervisor-mode linear addresses and pU of those from user-mode ones. Bits from 12 on tell of features that are not
 * modelled. A misconfiguration has no qualification: all bits are 0.
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

    /** Every entry allowed fetches; with mode-based execute control those from supervisor-mode linear addresses. */
    public static final long EXECUTABLE = 1L << 5;

    /** Every entry allowed fetches from user-mode linear addresses; only with mode-based execute control. */
    public static final long USER_EXECUTABLE = 1L << 6;

    /** The guest linear address is valid. */
    public static final long LINEAR_ADDRESS_VALID = 1L << 7;

    /** The access was to the translation of the linear address. */
    public static final long FINAL_TRANSLATION = 1L << 8;

    /** The guest's tables say that the linear address is user-mode. */
    public static final long USER_PAGE = 1L << 9;

    /** The guest's tables allow stores to the linear address. */
    public static final long WRITABLE_PAGE = 1L << 10;

    /** The guest's tables forbid fetches from the linear address. */
    public static final long NO_EXECUTE_PAGE = 1L << 11;

    private static final int PERMISSION_SHIFT = 3;

    private ExitQualification() {}

    /** Permissions are bits of {@link Access} and {@link WalkResult#USER}, in the order of the qualification's. */
    static long of(int request, int permissions) {
        boolean fetch = (request & (Access.EXECUTE | WalkResult.USER)) != 0;
        return LINEAR_ADDRESS_VALID
                | ((request & WalkAccess.GUEST_TABLE) != 0 ? 0 : FINAL_TRANSLATION)
                | (long) permissions << PERMISSION_SHIFT
                | request & (Access.READ | Access.WRITE)
                | (fetch ? FETCH : 0);
    }

    /** What advanced exit information adds; nothing for an access to a guest page table. */
    static long guestPage(int request) {
        if ((request & WalkAccess.GUEST_TABLE) != 0) {
            return 0;
        }
        return ((request & WalkAccess.SUPERVISOR_PAGE) != 0 ? 0 : USER_PAGE)
                | ((request & WalkAccess.READ_ONLY_PAGE) != 0 ? 0 : WRITABLE_PAGE)
                | ((request & WalkAccess.NO_EXECUTE_PAGE) != 0 ? NO_EXECUTE_PAGE : 0);
    }

    /**
     * Tells whether the walk reached an entry that was there but forbade the access.
     *
     * @param qualification bits of this class
     * @return false if an entry was not present
     */
    public static boolean isPresent(long qualification) {
        return (qualification & (READABLE | WRITABLE | EXECUTABLE | USER_EXECUTABLE)) != 0;
    }

    /**
     * Describes a qualification in one line.
     *
     * @param qualification bits of this class
     * @return for instance {@code access=-w- allowed=r-x linear final}
     */
    public static String describe(long qualification) {
        long known = READ
                | WRITE
                | FETCH
                | READABLE
                | WRITABLE
                | EXECUTABLE
                | USER_EXECUTABLE
                | LINEAR_ADDRESS_VALID
                | FINAL_TRANSLATION
                | USER_PAGE
                | WRITABLE_PAGE
                | NO_EXECUTE_PAGE;
        long unknown = qualification & ~known;
        return "access=" + Access.text((int) qualification & Access.ALL)
                + " allowed=" + Access.text((int) (qualification >>> PERMISSION_SHIFT) & Access.ALL)
                + ((qualification & USER_EXECUTABLE) != 0 ? " user-execute" : "")
                + ((qualification & LINEAR_ADDRESS_VALID) != 0 ? " linear" : "")
                + ((qualification & FINAL_TRANSLATION) != 0 ? " final" : "")
                + ((qualification & USER_PAGE) != 0 ? " user-page" : "")
                + ((qualification & WRITABLE_PAGE) != 0 ? " writable-page" : "")
                + ((qualification & NO_EXECUTE_PAGE) != 0 ? " no-execute-page" : "")
                + (unknown != 0 ? " unknown=0x" + Long.toHexString(unknown) : "");
    }
}
