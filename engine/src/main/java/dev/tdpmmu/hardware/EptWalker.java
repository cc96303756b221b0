package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;

/**
 * Walks extended page tables as the Intel manual says.
 *
 * <pre>
 *  bit    table                          leaf
 *  2:0    X W R                          X W R; none of them: not present, everything else ignored
 *  6:3    reserved                       6 ignore PAT, 5:3 memory type: 0 1 4 5 6, the others are malformed
 *  7      reserved at levels 4 and 5     set at levels 2 and 3, ignored at level 1
 *  8, 9   A, ignored                     A, D, if the EPT pointer enables them
 *  10     XU                             XU with mode-based execute control, else ignored
 *  51:12  address; bits from the width of addresses on are reserved, and the lowest 9 or 18 of a huge leaf
 * </pre>
 *
 * <p>Malformed as well: W without R, X without R unless the processor knows execute-only entries, and a leaf larger
 * than the processor knows. With mode-based execute control XU alone makes an entry present, X means fetches from
 * supervisor-mode linear addresses, XU those from user-mode ones, and either of them without R is execute-only.
 */
final class EptWalker extends HardwareWalker {
    private static final long READ = 1L;
    private static final long WRITE = 1L << 1;
    private static final long EXECUTE = 1L << 2;
    private static final long PERMISSIONS = READ | WRITE | EXECUTE;
    private static final long TYPE_AND_PAT = 0xfL << 3;
    private static final long ACCESSED = 1L << 8;
    private static final long DIRTY = 1L << 9;
    private static final long USER_EXECUTE = 1L << 10;

    private static final int TYPE_SHIFT = 3;
    private static final int TYPE_MASK = 7;
    private static final int LEAF_LOW_MASK = 63;

    /** Moves XU to the place of {@link WalkResult#USER}. */
    private static final int USER_EXECUTE_SHIFT = 7;

    private final boolean executeOnly;
    private final boolean modeBasedExecute;
    private final boolean advancedExitInfo;

    /** Any of these: the entry is present. */
    private final long present;

    /** Any of these: the entry allows fetches of some kind. */
    private final long execute;

    /**
     * What the fast walk wants of a table entry, under {@link #tableMask}: forbids nothing, has A, no reserved bit.
     */
    private final long tableValue;

    private final long tableMask;

    /** Bit n is set if a present leaf whose bits 5:0 are n is well formed; if n allows nothing, XU makes it present. */
    private final long wellFormedLeaves;

    private final EptCapabilities capabilities;

    EptWalker(VmConfig config) {
        super(
                config,
                config.accessedDirty() == AccessedDirty.ON ? ACCESSED : 0,
                config.accessedDirty() == AccessedDirty.ON ? DIRTY : 0);
        executeOnly = config.executeOnly();
        modeBasedExecute = config.hardware().modeBasedExecute();
        advancedExitInfo = config.hardware().advancedExitInfo();
        capabilities = EptCapabilities.of(config);
        long userExecute = modeBasedExecute ? USER_EXECUTE : 0;
        present = PERMISSIONS | userExecute;
        execute = EXECUTE | userExecute;
        tableValue = present | accessed;
        tableMask = present | accessed | TYPE_AND_PAT | LARGE | reservedAddress;
        long wellFormed = 0;
        for (long low = 0; low <= LEAF_LOW_MASK; low++) {
            long leaf = (low & PERMISSIONS) == 0 ? low | userExecute : low;
            if (!isMisconfigured(leaf, PagingLevel.L4K)) {
                wellFormed |= 1L << low;
            }
        }
        wellFormedLeaves = wellFormed;
    }

    @RequiresEpoch
    @HotPath
    @Override
    public int walk(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        int request = modeBasedExecute || access > Access.ALL ? requestOf(access) : access;
        int outcome;
        long table = tlb.leafTable(gpa);
        if (table != Tlb.MISS) {
            outcome = walkLeafTable(tlb, table, gpa, request, result);
        } else {
            table = tlb.middleTable(gpa);
            outcome = table != Tlb.MISS
                    ? walkMiddleTable(tlb, table, gpa, request, result)
                    : walkFromAbove(tlb, rootPointer & ADDRESS, gpa, request, result);
        }
        return outcome == UNUSUAL ? walkSlow(tlb, rootPointer, gpa, request, result) : outcome;
    }

    /** Nothing near the leaves is remembered. */
    @HotPath
    private int walkFromAbove(Tlb tlb, long root, long gpa, int request, WalkResult result) {
        long table = tlb.upperTable(gpa);
        if (table != Tlb.MISS) {
            return walkUpperTable(tlb, table, gpa, request, result);
        }
        if (levels == PagingLevel.L512G) {
            return walkTopTable(tlb, root | ALL_PERMISSIONS, gpa, request, result);
        }
        table = tlb.topTable(gpa);
        return table != Tlb.MISS
                ? walkTopTable(tlb, table, gpa, request, result)
                : walkFiveLevels(tlb, root, gpa, request, result);
    }

    @HotPath
    private int walkFiveLevels(Tlb tlb, long root, long gpa, int request, WalkResult result) {
        long spte = SpteAccess.readAcquire(root, Gfn.of(gpa), PagingLevel.L256T);
        if ((spte & tableMask) != tableValue) {
            return UNUSUAL;
        }
        // It has A already, so it may be remembered before the walk has succeeded; below likewise.
        tlb.insertUpper(gpa, PagingLevel.L512G, spte & ADDRESS, ALL_PERMISSIONS);
        return walkTopTable(tlb, spte & ADDRESS | ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkTopTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L512G);
        if ((spte & tableMask) != tableValue) {
            return UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L1G, spte & ADDRESS, (int) table & ALL_PERMISSIONS);
        return walkUpperTable(tlb, spte & ADDRESS | table & ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkUpperTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L1G);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L1G);
        if ((spte & tableMask) != tableValue) {
            return (spte & LARGE) != 0 && largestLeaf >= PagingLevel.L1G
                    ? takeLeaf(tlb, gpa, request, result, spteAddress, spte, table, PagingLevel.L1G)
                    : UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L2M, spte & ADDRESS, (int) table & ALL_PERMISSIONS);
        return walkMiddleTable(tlb, spte & ADDRESS | table & ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkMiddleTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        if ((spte & tableMask) != tableValue) {
            return (spte & LARGE) != 0 && largestLeaf >= PagingLevel.L2M
                    ? takeLeaf(tlb, gpa, request, result, spteAddress, spte, table, PagingLevel.L2M)
                    : UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L4K, spte & ADDRESS, (int) table & ALL_PERMISSIONS);
        return walkLeafTable(tlb, spte & ADDRESS | table & ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkLeafTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        return takeLeaf(tlb, gpa, request, result, spteAddress, spte, table, PagingLevel.L4K);
    }

    /** The low bits of {@code above} are what the entries above the leaf allow. */
    @HotPath
    private int takeLeaf(
            Tlb tlb, long gpa, int request, WalkResult result, long spteAddress, long leaf, long above, int level) {
        int permissions = permissionsOf(leaf) & (int) above;
        if ((request & ALL_PERMISSIONS & ~permissions) != 0
                || (leaf & (reservedAddress | lowAddressBits(level))) != 0
                || (wellFormedLeaves >>> (leaf & LEAF_LOW_MASK) & 1) == 0) {
            return refuse(tlb, gpa, request, result, leaf, permissions, level);
        }
        long used = leaf | accessed | ((request & Access.WRITE) != 0 ? dirty : 0);
        if (used != leaf) {
            if (result.logsStores()) {
                int outcome = markAndLog(result, gpa, spteAddress, leaf, used);
                if (outcome != OK) {
                    return outcome;
                }
            } else if (!SpteAccess.compareAndSet(spteAddress, leaf, used)) {
                return UNUSUAL;
            }
        }
        boolean cacheable = (permissions & Access.WRITE) != 0 && (used & dirty) == dirty;
        result.entryPermissions = permissions;
        result.found(frameOf(leaf, gpa, level), level, permissionsForEveryone(permissions), cacheable);
        return OK;
    }

    /** Room first, since D that is set without room for the address could not be taken back. */
    @HotPath
    private static int markAndLog(WalkResult result, long gpa, long spteAddress, long leaf, long used) {
        if (result.isLogFull()) {
            return LOG_FULL;
        }
        if (!SpteAccess.compareAndSet(spteAddress, leaf, used)) {
            return UNUSUAL;
        }
        if ((used & ~leaf & DIRTY) != 0) {
            result.logStore(gpa);
        }
        return OK;
    }

    @HotPath
    @Override
    int requestOf(int access) {
        if (Debug.CHECK) {
            checkAccess(access);
        }
        int request = access;
        if (modeBasedExecute && (access & (Access.EXECUTE | WalkAccess.SUPERVISOR_PAGE)) == Access.EXECUTE) {
            request ^= Access.EXECUTE | WalkResult.USER;
        }
        if ((access & WalkAccess.GUEST_TABLE) != 0 && accessed != 0) {
            request |= Access.READ | Access.WRITE;
        }
        return request;
    }

    /** USER stands above EXECUTE, and fetches are for everyone where both are given. */
    @HotPath
    @Override
    int permissionsForEveryone(int permissions) {
        if (!modeBasedExecute) {
            return permissions;
        }
        return permissions & (Access.READ | Access.WRITE) | permissions & permissions >>> 1 & Access.EXECUTE;
    }

    @Override
    public long makeRootPointer(long rootHpa) {
        return EptPointer.make(rootHpa, levels, accessed != 0);
    }

    @Override
    void checkRootPointer(long rootPointer) {
        EptPointer.check(rootPointer, capabilities, physicalAddressBits);
        if (EptPointer.levels(rootPointer) != levels || EptPointer.accessedDirty(rootPointer) != (accessed != 0)) {
            throw new IllegalArgumentException("EPT pointer is another VM's: pointer=0x" + Long.toHexString(rootPointer)
                    + ", levels=" + levels + ", accessedDirty=" + (accessed != 0));
        }
    }

    @Override
    boolean obeysLog() {
        return true;
    }

    @Override
    boolean isPresent(long spte) {
        return (spte & present) != 0;
    }

    @Override
    boolean isMisconfigured(long spte, int level) {
        if ((spte & (READ | WRITE)) == WRITE) {
            return true;
        }
        if ((spte & READ) == 0 && (spte & execute) != 0 && !executeOnly) {
            return true;
        }
        if ((spte & reservedAddress) != 0) {
            return true;
        }
        if (!isLeaf(spte, level)) {
            return (spte & (level > PagingLevel.MAX_HUGE ? TYPE_AND_PAT | LARGE : TYPE_AND_PAT)) != 0;
        }
        if (level > largestLeaf) {
            return true;
        }
        return (spte & lowAddressBits(level)) != 0 || isBadMemoryType((int) (spte >>> TYPE_SHIFT) & TYPE_MASK);
    }

    private static boolean isBadMemoryType(int type) {
        return switch (type) {
            case 0, 1, 4, 5, 6 -> false;
            default -> true;
        };
    }

    @HotPath
    @Override
    int permissionsOf(long spte) {
        // R, W and X stand in the order of Access, so no translation is needed.
        int permissions = (int) spte & Access.ALL;
        return modeBasedExecute ? permissions | (int) (spte >>> USER_EXECUTE_SHIFT) & WalkResult.USER : permissions;
    }

    @Override
    long violationExit(int request, int permissions, boolean present) {
        return ExitQualification.of(request, permissions)
                | (advancedExitInfo ? ExitQualification.guestPage(request) : 0);
    }

    @Override
    long misconfigurationExit(int request) {
        return 0;
    }
}
