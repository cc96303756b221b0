package dev.tdpmmu.hardware;

/**
 * What the processor manual says of one access under 4- or 5-level guest paging: whether it faults, with which error
 * code, and which accessed and dirty flags the guest's tables have afterwards.
 *
 * <p>It knows flags by name and no bit of an entry, so that it shares nothing with {@link GuestPageWalker}: whoever
 * asks translates flags to entries. It follows the order of the manual (volume 3, "access rights" in section 4.6,
 * "error code" in 4.7, "accessed and dirty flags" in 4.8): mode of the access, mode of the address, kind of the
 * access. Written for one question at a time: set the fields, call {@link #judge}, read the verdict.
 */
final class GuestPagingModel {
    /** Flags of an entry. */
    static final int PRESENT = 1;

    static final int WRITABLE = 1 << 1;
    static final int USER = 1 << 2;
    static final int ACCESSED = 1 << 3;
    static final int DIRTY = 1 << 4;
    static final int NO_EXECUTE = 1 << 5;

    /** An address bit above every processor's width. */
    static final int BIT_51 = 1 << 6;

    /** The first address bit above this processor's width. */
    static final int BIT_36 = 1 << 7;

    /** An address bit below the size of every large page. */
    static final int BIT_13 = 1 << 8;

    /** The protection key is 1, not 0. */
    static final int KEY_ONE = 1 << 9;

    /** Page size: the entry maps a page, where it may. */
    static final int PAGE_SIZE = 1 << 10;

    static final int ENTRY_FLAGS = 11;

    /** What the access is, and how the processor is set. */
    static final int WRITE = 1;

    static final int FETCH = 1 << 1;

    /** The current privilege level is 3. */
    static final int CPL_3 = 1 << 2;

    /** The processor itself reads or writes one of its structures. */
    static final int IMPLICIT = 1 << 3;

    /** EFLAGS.AC. */
    static final int AC = 1 << 4;

    /** EFER.NXE. */
    static final int NXE = 1 << 5;

    /** CR0.WP. */
    static final int WP = 1 << 6;

    /** CR4.SMEP. */
    static final int SMEP = 1 << 7;

    /** CR4.SMAP. */
    static final int SMAP = 1 << 8;

    /** CR4.PKE. */
    static final int PKE = 1 << 9;

    /** PKRU disables all data accesses to pages of key 1. */
    static final int ACCESS_DISABLE = 1 << 10;

    /** PKRU disables stores to pages of key 1. */
    static final int WRITE_DISABLE = 1 << 11;

    /** The processor has no pages of 1 GiB. */
    static final int NO_GIGABYTE_PAGES = 1 << 12;

    static final int SITUATION_FLAGS = 13;

    /** Verdict: the access is done. */
    static final int NO_FAULT = -1;

    /** Flags of the entries that the address leads through, by level. Those below a leaf do not count. */
    final int[] entries = new int[6];

    /** Levels of the tables, 4 or 5. */
    int levels;

    /** Flags of the access and of the processor. */
    int situation;

    /** Verdict: the error code of the page fault, or {@link #NO_FAULT}. */
    int errorCode;

    /** Verdict: level of the leaf, or of the entry that ends the translation. */
    int lastLevel;

    /**
     * Verdict: flags of the entries afterwards, by level. Of an access that fails the manual leaves open which of the
     * entries above the last count as used; {@link GuestPageWalker} promises that none does, and is held to that.
     */
    final int[] after = new int[6];

    /** Flags that all entries have, and that any has. */
    private int inAll;

    private int inAny;

    void judge() {
        System.arraycopy(entries, 0, after, 0, entries.length);
        inAll = -1;
        inAny = 0;
        lastLevel = levels + 1;
        boolean ended;
        do {
            lastLevel--;
            inAll &= entries[lastLevel];
            inAny |= entries[lastLevel];
            ended = !is(inAll, PRESENT) || isMalformed(lastLevel) || mapsPage(lastLevel);
        } while (!ended);

        if (!is(entries[lastLevel], PRESENT)) {
            fault(false, false, false);
        } else if (isMalformed(lastLevel)) {
            fault(true, true, false);
        } else if (!isAllowed()) {
            fault(true, false, isForbiddenByKey());
        } else {
            succeed();
        }
    }

    private void succeed() {
        errorCode = NO_FAULT;
        for (int level = lastLevel; level <= levels; level++) {
            after[level] |= ACCESSED;
        }
        if (is(situation, WRITE)) {
            after[lastLevel] |= DIRTY;
        }
    }

    /** Section 4.7, figure 4-12; shadow stacks, HLAT and SGX are not there. */
    private void fault(boolean present, boolean reserved, boolean key) {
        boolean fetchIsTold = is(situation, SMEP) || is(situation, NXE);
        errorCode = (present ? 0x01 : 0)
                + (is(situation, WRITE) ? 0x02 : 0)
                + (isUserMode() ? 0x04 : 0)
                + (reserved ? 0x08 : 0)
                + (is(situation, FETCH) && fetchIsTold ? 0x10 : 0)
                + (key ? 0x20 : 0);
    }

    private boolean mapsPage(int level) {
        return level == 1 || level <= 3 && is(entries[level], PAGE_SIZE);
    }

    /** Section 4.5: the bits that are reserved in a present entry. */
    private boolean isMalformed(int level) {
        int entry = entries[level];
        return switch (level) {
            case 1 -> isMalformedAnywhere(entry);
            case 2 -> isMalformedAnywhere(entry) || is(entry, PAGE_SIZE) && is(entry, BIT_13);
            case 3 ->
                isMalformedAnywhere(entry)
                        || is(entry, PAGE_SIZE) && (is(entry, BIT_13) || is(situation, NO_GIGABYTE_PAGES));
            default -> isMalformedAnywhere(entry) || is(entry, PAGE_SIZE);
        };
    }

    private boolean isMalformedAnywhere(int entry) {
        return is(entry, BIT_51) || is(entry, BIT_36) || is(entry, NO_EXECUTE) && !is(situation, NXE);
    }

    private boolean isUserMode() {
        return is(situation, CPL_3) && !is(situation, IMPLICIT);
    }

    private boolean isUserAddress() {
        return is(inAll, USER);
    }

    /** Section 4.6.1, paragraph by paragraph. */
    private boolean isAllowed() {
        boolean read = !is(situation, WRITE) && !is(situation, FETCH);
        boolean write = is(situation, WRITE);
        boolean writable = is(inAll, WRITABLE);
        boolean executable = !is(inAny, NO_EXECUTE);
        boolean writeProtected = is(situation, WP) && !writable;
        if (isUserMode()) {
            if (!isUserAddress()) {
                return false;
            }
            return read ? !isForbiddenByKey() : write ? writable && !isForbiddenByKey() : executable;
        }
        if (!isUserAddress()) {
            return read || (write ? !writeProtected : executable);
        }
        if (!read && !write) {
            return !is(situation, SMEP) && executable;
        }
        if (is(situation, SMAP)) {
            boolean explicit = !is(situation, IMPLICIT);
            if (!explicit || !is(situation, AC)) {
                return false;
            }
        }
        return !isForbiddenByKey() && !(write && writeProtected);
    }

    /** Section 4.6.2. Keys are for data at user-mode addresses; the entry that maps the page has the key. */
    private boolean isForbiddenByKey() {
        if (!is(situation, PKE) || is(situation, FETCH) || !isUserAddress() || !is(entries[lastLevel], KEY_ONE)) {
            return false;
        }
        if (is(situation, ACCESS_DISABLE)) {
            return true;
        }
        boolean protectedWrite = is(situation, WRITE) && (isUserMode() || is(situation, WP));
        return protectedWrite && is(situation, WRITE_DISABLE);
    }

    private static boolean is(int flags, int flag) {
        return (flags & flag) != 0;
    }
}
