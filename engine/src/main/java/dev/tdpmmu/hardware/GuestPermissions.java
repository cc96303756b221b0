package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;

/**
 * What {@link GuestPaging} makes of guest entries, as tables: which bits are reserved, and which accesses are
 * allowed. Immutable; made anew when a register changes.
 *
 * @kvm permission_fault, update_permission_bitmask, update_pkru_bitmask, reset_guest_rsvds_bits_mask
 */
final class GuestPermissions {
    /** What {@link #allowed} is indexed by: access bits and {@link LinearAccess} bits. */
    private static final int ACCESSES = 128;

    /** Attributes that entries of all levels have: {@link LinearResult#NO_EXECUTE}, WRITABLE and USER. */
    static final int RIGHTS = LinearResult.NO_EXECUTE | LinearResult.WRITABLE | LinearResult.USER;

    static final int KEY_SHIFT = 4;

    private static final int USER_SHIFT = 2;
    private static final int KEYS = 16;

    /** Bit 12 of a huge leaf is PAT, not address. */
    private static final long HUGE_PAT = 1L << 12;

    final GuestPaging paging;

    /** By level: bits that a table entry, or a leaf, must not have. */
    final long[] reservedInTable = new long[PagingLevel.L256T + 1];

    final long[] reservedInLeaf = new long[PagingLevel.L256T + 1];

    /** By access: bit n is set if a translation with rights n allows it. */
    private final byte[] allowed = new byte[ACCESSES];

    /** By access: bit n is set if key n forbids it on user pages. */
    private final char[] deniedKeys = new char[ACCESSES];

    GuestPermissions(GuestPaging paging) {
        this.paging = paging;
        for (int level = PagingLevel.L4K; level <= PagingLevel.L256T; level++) {
            reservedInTable[level] = reservedInTable(paging, level);
            reservedInLeaf[level] = reservedInLeaf(paging, level);
        }
        for (int access = 0; access < ACCESSES; access++) {
            for (int rights = 0; rights <= RIGHTS; rights++) {
                if (allowsRights(paging, access, rights)) {
                    allowed[access] |= (byte) (1 << rights);
                }
            }
            for (int key = 0; key < KEYS; key++) {
                if (isDeniedByKey(paging, access, key)) {
                    deniedKeys[access] |= (char) (1 << key);
                }
            }
        }
    }

    private static long reservedInAll(GuestPaging paging) {
        return HardwareWalker.ADDRESS & -(1L << paging.physicalAddressBits())
                | (paging.noExecute() ? 0 : GuestPageEntry.NO_EXECUTE);
    }

    private static long reservedInTable(GuestPaging paging, int level) {
        return reservedInAll(paging) | (level > PagingLevel.MAX_HUGE ? HardwareWalker.LARGE : 0);
    }

    private static long reservedInLeaf(GuestPaging paging, int level) {
        if (level == PagingLevel.L1G && !paging.gigabytePages()) {
            // Every leaf has this bit, so every leaf is refused.
            return HardwareWalker.LARGE;
        }
        long low = level == PagingLevel.L4K ? 0 : HardwareWalker.lowAddressBits(level) & ~HUGE_PAT;
        return reservedInAll(paging) | low;
    }

    private static boolean allowsRights(GuestPaging paging, int access, int rights) {
        boolean userPage = (rights & LinearResult.USER) != 0;
        boolean user = LinearAccess.isUser(access);
        if (user && !userPage) {
            return false;
        }
        if ((access & Access.EXECUTE) != 0) {
            boolean keptFromUserCode = !user && userPage && paging.smep();
            return (rights & LinearResult.NO_EXECUTE) == 0 && !keptFromUserCode;
        }
        if (!user && userPage && paging.smap() && !LinearAccess.overridesSmap(access)) {
            return false;
        }
        boolean writable = (rights & LinearResult.WRITABLE) != 0 || !user && !paging.writeProtect();
        return (access & Access.WRITE) == 0 || writable;
    }

    /** Of data accesses to user pages; whether the page is one is asked when the translation is known. */
    private static boolean isDeniedByKey(GuestPaging paging, int access, int key) {
        if (!paging.protectionKeys() || (access & Access.EXECUTE) != 0) {
            return false;
        }
        int rights = paging.pkru() >>> 2 * key;
        boolean accessDisabled = (rights & 1) != 0;
        boolean writeDisabled = (rights & 2) != 0;
        boolean obeysWriteDisable = LinearAccess.isUser(access) || paging.writeProtect();
        return accessDisabled || writeDisabled && (access & Access.WRITE) != 0 && obeysWriteDisable;
    }

    /**
     * Whether the guest's tables allow an access, the present registers given.
     *
     * @param access one bit of {@link Access} and bits of {@link LinearAccess}
     * @param attributes low 8 bits as {@link LinearResult#attributes}
     */
    @HotPath
    boolean allows(int access, int attributes) {
        return (allowed[access] >>> (attributes & RIGHTS) & 1) != 0 && !isKeyDenied(access, attributes);
    }

    @HotPath
    private boolean isKeyDenied(int access, int attributes) {
        int key = attributes >>> KEY_SHIFT & GuestPageEntry.KEY_MASK;
        return (deniedKeys[access] >>> key & attributes >>> USER_SHIFT & 1) != 0;
    }

    /** Error code of an access that well-formed entries do not allow. */
    long permissionError(int access, int attributes) {
        return GuestPageFault.PRESENT
                | accessError(access)
                | (isKeyDenied(access, attributes) ? GuestPageFault.PROTECTION_KEY : 0);
    }

    long reservedError(int access) {
        return GuestPageFault.PRESENT | GuestPageFault.RESERVED | accessError(access);
    }

    /** What an error code says of the access; all of it if an entry is not present. */
    long accessError(int access) {
        boolean tellsFetches = paging.noExecute() || paging.smep();
        return ((access & Access.WRITE) != 0 ? GuestPageFault.WRITE : 0)
                | (LinearAccess.isUser(access) ? GuestPageFault.USER : 0)
                | ((access & Access.EXECUTE) != 0 && tellsFetches ? GuestPageFault.FETCH : 0);
    }
}
