package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;

/**
 * Translates guest linear addresses as a processor does whose guest has its own paging on: through the guest's
 * tables, each of whose guest physical addresses the second level translates, and then through the second level.
 *
 * <p>Immutable, so one walker serves all vCPUs of a VM. What the processor does, and this one too:
 *
 * <ul>
 *   <li>It starts at the lowest guest table that the {@link LinearTlb} remembers, without looking at the entries
 *       above.
 *   <li>The read of a guest entry is an access to a {@link WalkAccess#GUEST_TABLE}. It counts as a store if the
 *       second level has accessed and dirty flags, always with NPT, whether or not a flag has to be set.
 *   <li>An entry that is not present ends the walk, whatever its other bits are. A reserved bit ends it where it is,
 *       before permissions are looked at. These are judged when the leaf is known, over all entries.
 *   <li>A page fault changes nothing in the guest's tables. When the guest's tables allow the access, A is set in
 *       every entry that was used and D in the leaf of a store, from the top down; then the guest physical address is
 *       translated. So a device's register, or a page that the host has yet to bring, has A and D set before the
 *       access is done.
 *   <li>An entry that somebody changed after it was read makes the walk start again: what it found may not be true.
 * </ul>
 */
public final class GuestPageWalker {
    /** The walk succeeded. */
    public static final int OK = 0;

    /** The guest's tables do not allow the access: a page fault in the guest. */
    public static final int PAGE_FAULT = 1;

    /**
     * The translation of a guest physical address failed, the byte's or that of a guest entry: {@link
     * LinearResult#secondLevel} says how.
     */
    public static final int SECOND_LEVEL = 2;

    /** A guest table, at {@link LinearResult#secondLevelGpa}, lies in a frame without bytes. */
    public static final int TABLE_WITHOUT_BYTES = 3;

    /**
     * A guest physical address, {@link LinearResult#secondLevelGpa}, is beyond what the second level can translate.
     */
    public static final int BEYOND_LIMIT = 4;

    /**
     * Flags have to be set in a guest entry, at {@link LinearResult#secondLevelGpa}, and software has to do it: only
     * if {@link LinearResult#softwareSetsFlags} is on.
     */
    public static final int TABLE_STORE = 5;

    /** Never leaves the walker: a guest entry has changed. */
    private static final int CHANGED = 6;

    /** Never leaves the walker: the short walk met what only the long one knows how to treat. */
    private static final int UNUSUAL = -1;

    private static final long ACCESSED = GuestPageEntry.ACCESSED;
    private static final long DIRTY = GuestPageEntry.DIRTY;

    /** W and U stand where a guest entry has them. */
    private static final int TABLE_RIGHTS = LinearResult.WRITABLE | LinearResult.USER;

    /** What the second level is told of a linear address, by what the guest's tables say of it. */
    private static final int[] PAGES = new int[GuestPermissions.RIGHTS + 1];

    static {
        for (int rights = 0; rights <= GuestPermissions.RIGHTS; rights++) {
            PAGES[rights] = ((rights & LinearResult.USER) == 0 ? WalkAccess.SUPERVISOR_PAGE : 0)
                    | ((rights & LinearResult.WRITABLE) == 0 ? WalkAccess.READ_ONLY_PAGE : 0)
                    | ((rights & LinearResult.NO_EXECUTE) != 0 ? WalkAccess.NO_EXECUTE_PAGE : 0);
        }
    }

    private final HardwareWalker secondLevel;
    private final long addressLimit;

    /** Whether each read of a guest entry counts as a store. */
    private final boolean readsCountAsStores;

    /** Whether what a fetch may do depends on more than what all entries allow to everyone. */
    private final boolean fetchesDependOnMode;

    /** Whether it depends on the privilege of the guest, which a mapping does not know. */
    private final boolean fetchesDependOnPrivilege;

    /**
     * Makes a walker, which serves all vCPUs of a VM.
     *
     * @param secondLevel of the VM
     * @param config of the VM
     */
    public GuestPageWalker(HardwareWalker secondLevel, VmConfig config) {
        this.secondLevel = secondLevel;
        this.addressLimit = config.guestAddressLimit();
        this.readsCountAsStores = config.accessedDirty() == AccessedDirty.ON
                || !config.pagingMode().isEpt();
        this.fetchesDependOnPrivilege = config.hardware().guestModeExecuteTrap();
        this.fetchesDependOnMode = fetchesDependOnPrivilege || config.hardware().modeBasedExecute();
    }

    /**
     * Translates one access, and remembers what it found: guest tables and the mapping in the linear TLB,
     * translations of guest physical addresses in the other. Does not ask for a cached mapping:
     * {@link LinearTlb#translate} does.
     *
     * @param tlb of the vCPU that runs on this thread
     * @param linearTlb of the same vCPU
     * @param rootPointer from {@link HardwareWalker#makeRootPointer}
     * @param paging the guest's registers; others than in the last walk are loaded as {@link LinearTlb#load} does
     * @param gva guest linear address in bytes, canonical
     * @param access one bit of {@link Access} and bits of {@link LinearAccess}
     * @param result gets what was found
     * @return {@link #OK}, {@link #PAGE_FAULT}, {@link #SECOND_LEVEL}, {@link #TABLE_WITHOUT_BYTES}, {@link
     *     #BEYOND_LIMIT} or {@link #TABLE_STORE}
     * @locking none; inside an epoch, because tables of the second level may be unlinked meanwhile
     * @ordering guest entries are read and changed in the volatile order: a guest that has written a table and then
     *     its entry is read in that order
     */
    @RequiresEpoch
    @HotPath
    public int walk(
            Tlb tlb,
            LinearTlb linearTlb,
            long rootPointer,
            GuestPaging paging,
            long gva,
            int access,
            LinearResult result) {
        if (!linearTlb.isLoaded(paging, rootPointer)) {
            linearTlb.enterRoot(rootPointer);
            linearTlb.load(paging);
        }
        if (Debug.CHECK) {
            checkArguments(paging, gva, access);
        }
        if (linearTlb.isUnhelpful() && isRefused(linearTlb, gva, access, result)) {
            return PAGE_FAULT;
        }
        int outcome = walkLeafTable(tlb, linearTlb, rootPointer, gva, access, result);
        if (outcome != UNUSUAL) {
            return outcome;
        }
        return walkAll(tlb, linearTlb, rootPointer, gva, access, result);
    }

    /**
     * The usual walk: the table of the leaf is known, and so is where it is; the leaf has its flags and allows the
     * access. Changes nothing unless it succeeds.
     */
    @HotPath
    private int walkLeafTable(
            Tlb tlb, LinearTlb linearTlb, long rootPointer, long gva, int access, LinearResult result) {
        long table = linearTlb.table(gva, PagingLevel.L4K);
        if (table == LinearTlb.MISS || result.softwareSetsFlags) {
            return UNUSUAL;
        }
        long entryGpa = GuestPageEntry.addressIn(table & HardwareWalker.ADDRESS, gva, PagingLevel.L4K);
        long entryHpa = readsCountAsStores ? tlb.writeFrame(entryGpa) : tlb.readFrame(entryGpa);
        if (entryHpa < 0) {
            return UNUSUAL;
        }
        long leaf = GuestBytes.getLongVolatile(entryHpa);
        GuestPermissions permissions = linearTlb.permissions();
        long flags = GuestPageEntry.PRESENT | flagsAt(PagingLevel.L4K, PagingLevel.L4K, access);
        if ((leaf & (flags | permissions.reservedInLeaf[PagingLevel.L4K])) != flags) {
            return UNUSUAL;
        }
        int attributes = rightsBelow((int) table & GuestPermissions.RIGHTS, leaf) | leafAttributes(leaf);
        if (!permissions.allows(access, attributes)) {
            return UNUSUAL;
        }
        result.level = PagingLevel.L4K;
        result.attributes = attributes;
        result.gpa = leaf & HardwareWalker.ADDRESS | gva & Gfn.PAGE_OFFSET_MASK;
        return walkFinal(tlb, linearTlb, rootPointer, gva, access, result, (leaf & DIRTY) != 0);
    }

    private static boolean isRefused(LinearTlb linearTlb, long gva, int access, LinearResult result) {
        long errorCode = linearTlb.refusal(gva, access);
        if (errorCode == LinearTlb.MISS) {
            return false;
        }
        result.errorCode = errorCode;
        linearTlb.forget(gva);
        return true;
    }

    private int walkAll(Tlb tlb, LinearTlb linearTlb, long rootPointer, long gva, int access, LinearResult result) {
        int outcome;
        do {
            outcome = walkOnce(tlb, linearTlb, rootPointer, gva, access, result);
            // Another vCPU's walk has set a flag, or the guest has changed the entry: somebody else made progress.
        } while (outcome == CHANGED);
        if (outcome == PAGE_FAULT) {
            linearTlb.forget(gva);
        }
        return outcome;
    }

    /**
     * Returns what the second level has to allow before a walk that it has refused can go on.
     *
     * @param result of a walk that ended with {@link #SECOND_LEVEL}
     * @return bits of {@link Access}: a store alone where the read of a guest entry counts as one
     */
    public int accessToAllow(LinearResult result) {
        boolean isStore = readsCountAsStores && (result.secondLevelAccess & WalkAccess.GUEST_TABLE) != 0;
        return isStore ? Access.WRITE : result.secondLevelAccess & Access.ALL;
    }

    /**
     * Tells whether a fetch was refused by nothing but the processor's trap for privileged fetches from user pages.
     *
     * @param tlb of the vCPU that runs on this thread
     * @param rootPointer from {@link HardwareWalker#makeRootPointer}
     * @param result of a walk that ended with {@link #SECOND_LEVEL}
     * @return whether the same fetch would succeed if the guest were not privileged
     */
    @RequiresEpoch
    public boolean isTrapped(Tlb tlb, long rootPointer, LinearResult result) {
        int access = result.secondLevelAccess;
        boolean mayBe = fetchesDependOnPrivilege
                && result.secondLevel == HardwareWalker.VIOLATION
                && (access & Access.EXECUTE) != 0
                && (access & WalkAccess.PRIVILEGED) != 0;
        return mayBe
                && secondLevel.walk(
                                tlb, rootPointer, result.secondLevelGpa, access & ~WalkAccess.PRIVILEGED, result.walk)
                        == HardwareWalker.OK;
    }

    @HotPath
    private int walkOnce(Tlb tlb, LinearTlb linearTlb, long rootPointer, long gva, int access, LinearResult result) {
        GuestPermissions permissions = linearTlb.permissions();
        int top = PagingLevel.L4K;
        long table = linearTlb.table(gva, PagingLevel.L4K);
        while (table == LinearTlb.MISS) {
            top++;
            table = top == permissions.paging.levels()
                    ? permissions.paging.cr3() | TABLE_RIGHTS
                    : linearTlb.table(gva, top);
        }

        int level = top;
        int attributes = (int) table & GuestPermissions.RIGHTS;
        while (true) {
            long entryGpa = GuestPageEntry.addressIn(table & HardwareWalker.ADDRESS, gva, level);
            long entryHpa = translateTable(tlb, rootPointer, entryGpa, result);
            if (entryHpa < 0) {
                return (int) -entryHpa;
            }
            long entry = GuestBytes.getLongVolatile(entryHpa);
            if ((entry & GuestPageEntry.PRESENT) == 0) {
                return pageFault(result, permissions.accessError(access));
            }
            boolean leaf =
                    level == PagingLevel.L4K || level <= PagingLevel.MAX_HUGE && (entry & HardwareWalker.LARGE) != 0;
            long reserved = leaf ? permissions.reservedInLeaf[level] : permissions.reservedInTable[level];
            if ((entry & reserved) != 0) {
                return pageFault(result, permissions.reservedError(access));
            }
            attributes = rightsBelow(attributes, entry);
            result.use(level, entryGpa, entryHpa, entry, attributes);
            if (leaf) {
                break;
            }
            table = entry;
            level--;
        }
        return finish(tlb, linearTlb, rootPointer, gva, access, result, top, level);
    }

    /** The guest's tables are known: judges them, sets flags, and goes through the second level. */
    @HotPath
    private int finish(
            Tlb tlb,
            LinearTlb linearTlb,
            long rootPointer,
            long gva,
            int access,
            LinearResult result,
            int top,
            int level) {
        int attributes = result.rights[level] | leafAttributes(result.entries[level]);
        if (!linearTlb.permissions().allows(access, attributes)) {
            return pageFault(result, linearTlb.permissions().permissionError(access, attributes));
        }
        result.level = level;
        result.attributes = attributes;
        for (int at = top; at >= level; at--) {
            long missing = flagsAt(at, level, access) & ~result.entries[at];
            if (missing != 0) {
                int outcome = setFlags(tlb, rootPointer, result, at, missing);
                if (outcome != OK) {
                    return outcome;
                }
            }
            if (at != level) {
                linearTlb.insertTable(gva, at - 1, result.entries[at] & HardwareWalker.ADDRESS | result.rights[at]);
            }
        }
        long leaf = result.entries[level];
        result.gpa = gpaOf(leaf, gva, level);
        return walkFinal(tlb, linearTlb, rootPointer, gva, access, result, (leaf & DIRTY) != 0);
    }

    /** W and U stand where a guest entry has them, and bit 0 of a present entry keeps no-execute from above. */
    @HotPath
    private static int rightsBelow(int above, long entry) {
        return above & (int) entry | (int) (entry >>> GuestPageEntry.NO_EXECUTE_SHIFT);
    }

    @HotPath
    private static int leafAttributes(long leaf) {
        int key = (int) (leaf >>> GuestPageEntry.KEY_SHIFT) & GuestPageEntry.KEY_MASK;
        boolean global = (leaf & GuestPageEntry.GLOBAL) != 0;
        return key << GuestPermissions.KEY_SHIFT | (global ? LinearResult.GLOBAL : 0);
    }

    /** What an entry must have set before the access is done. */
    @HotPath
    private static long flagsAt(int level, int leafLevel, int access) {
        return level == leafLevel && (access & Access.WRITE) != 0 ? ACCESSED | DIRTY : ACCESSED;
    }

    @HotPath
    private static long gpaOf(long leaf, long gva, int level) {
        long offsetMask = PagingLevel.bytes(level) - 1;
        return leaf & HardwareWalker.ADDRESS & ~offsetMask | gva & offsetMask;
    }

    private static int pageFault(LinearResult result, long errorCode) {
        result.errorCode = errorCode;
        return PAGE_FAULT;
    }

    /** Host physical address of a guest entry that is to be read, or the negated outcome of the walk. */
    @HotPath
    private long translateTable(Tlb tlb, long rootPointer, long gpa, LinearResult result) {
        // A store that is not allowed, or whose D is missing, is found out by the second level's walk.
        boolean store = readsCountAsStores && !result.softwareSetsFlags;
        long hpa = store ? tlb.writeFrame(gpa) : tlb.readFrame(gpa);
        if (hpa >= 0) {
            return hpa;
        }
        int access = result.softwareSetsFlags ? Access.READ : Access.READ | WalkAccess.GUEST_TABLE;
        return walkTable(tlb, rootPointer, gpa, access, result);
    }

    private long walkTable(Tlb tlb, long rootPointer, long gpa, int access, LinearResult result) {
        result.secondLevelGpa = gpa;
        result.secondLevelAccess = access;
        result.secondLevelIsTable = true;
        if (gpa >= addressLimit) {
            return -BEYOND_LIMIT;
        }
        int outcome = secondLevel.walkOrRefuse(tlb, rootPointer, gpa, access, result.walk);
        result.secondLevel = outcome;
        if (outcome != HardwareWalker.OK) {
            return -SECOND_LEVEL;
        }
        if (!HostMemory.isFrame(result.walk.frame)) {
            return -TABLE_WITHOUT_BYTES;
        }
        tlb.insert(gpa, result.walk);
        return result.walk.frame | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    /** Sets flags in a guest entry: a store of its own if the read was none. */
    private int setFlags(Tlb tlb, long rootPointer, LinearResult result, int level, long missing) {
        long gpa = result.entryGpas[level];
        long entry = result.entries[level];
        if (result.softwareSetsFlags) {
            result.secondLevelGpa = gpa;
            result.oldEntry = entry;
            result.newEntry = entry | missing;
            return TABLE_STORE;
        }
        long hpa = result.entryHpas[level];
        if (!readsCountAsStores) {
            long writableHpa = tlb.writeFrame(gpa);
            if (writableHpa < 0) {
                writableHpa = walkTable(tlb, rootPointer, gpa, Access.WRITE | WalkAccess.GUEST_TABLE, result);
            }
            if (writableHpa < 0) {
                return (int) -writableHpa;
            }
            if (writableHpa != hpa) {
                // Between read and store the host has put another frame there, a copy maybe: its entry is unread.
                return CHANGED;
            }
        }
        if (!GuestBytes.compareAndSetLong(hpa, entry, entry | missing)) {
            return CHANGED;
        }
        result.entries[level] = entry | missing;
        return OK;
    }

    /**
     * Translates {@link LinearResult#gpa}. The other TLB is neither asked nor told: that would be one more look-up
     * for each walk, and one translation of a guest table less in it, to serve a page that the linear TLB has lost.
     */
    @HotPath
    private int walkFinal(
            Tlb tlb,
            LinearTlb linearTlb,
            long rootPointer,
            long gva,
            int access,
            LinearResult result,
            boolean guestDirty) {
        long gpa = result.gpa;
        int secondAccess = access & Access.ALL | pageOf(result.attributes, access);
        result.secondLevelGpa = gpa;
        result.secondLevelAccess = secondAccess;
        result.secondLevelIsTable = false;
        if (gpa >= addressLimit) {
            return BEYOND_LIMIT;
        }
        WalkResult walk = result.walk;
        int outcome = secondLevel.walkOrRefuse(tlb, rootPointer, gpa, secondAccess, walk);
        result.secondLevel = outcome;
        if (outcome != HardwareWalker.OK) {
            return SECOND_LEVEL;
        }
        result.hpa = walk.frame | gpa & Gfn.PAGE_OFFSET_MASK;
        // A frame without bytes enters no TLB, so that a hit need not ask whether there are any.
        if (HostMemory.isFrame(walk.frame)) {
            int level = Math.min(result.level, walk.level);
            linearTlb.insert(gva, result, level, allowedBy(walk, secondAccess), guestDirty);
        }
        return OK;
    }

    /** What the second level allows to all later accesses to the linear address. */
    @HotPath
    private int allowedBy(WalkResult walk, int secondAccess) {
        if (!fetchesDependOnMode) {
            return walk.permissions & ~Access.WRITE | (walk.writableCached ? Access.WRITE : 0);
        }
        int page = secondAccess & ~(Access.ALL | WalkAccess.PRIVILEGED);
        int permissions = walk.entryPermissions;
        boolean executable = secondLevel.allows(permissions, page | Access.EXECUTE)
                && (!fetchesDependOnPrivilege
                        || secondLevel.allows(permissions, page | Access.EXECUTE | WalkAccess.PRIVILEGED));
        return permissions & Access.READ | (walk.writableCached ? Access.WRITE : 0) | (executable ? Access.EXECUTE : 0);
    }

    /** What the second level is told of the linear address. */
    @HotPath
    private static int pageOf(int attributes, int access) {
        return PAGES[attributes & GuestPermissions.RIGHTS]
                | ((access & LinearAccess.USER) == 0 ? WalkAccess.PRIVILEGED : 0);
    }

    private static void checkArguments(GuestPaging paging, long gva, int access) {
        int kind = access & Access.ALL;
        if (!paging.isCanonical(gva)
                || Integer.bitCount(kind) != 1
                || (access & ~(Access.ALL | LinearAccess.ALL)) != 0) {
            throw new IllegalArgumentException("walk of an impossible linear access: gva=0x" + Long.toHexString(gva)
                    + ", linearAddressBits=" + paging.linearAddressBits() + ", access=" + access);
        }
    }
}
