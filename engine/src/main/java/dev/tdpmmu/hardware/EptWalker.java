package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;

/**
 * Walks extended page tables as the Intel manual says, without mode-based execute control.
 *
 * <pre>
 *  bit    table                          leaf
 *  2:0    X W R                          X W R; none of them: not present, everything else ignored
 *  6:3    reserved                       6 ignore PAT, 5:3 memory type: 0 1 4 5 6, the others are malformed
 *  7      reserved at levels 4 and 5     set at levels 2 and 3, ignored at level 1
 *  8, 9   A, ignored                     A, D, if the EPT pointer enables them
 *  51:12  address; bits from the width of addresses on are reserved, and the lowest 9 or 18 of a huge leaf
 * </pre>
 *
 * <p>Malformed as well: W without R, and X alone unless the processor knows execute-only entries.
 */
final class EptWalker extends HardwareWalker {
    private static final long READ = 1L;
    private static final long WRITE = 1L << 1;
    private static final long EXECUTE = 1L << 2;
    private static final long PERMISSIONS = READ | WRITE | EXECUTE;
    private static final long TYPE_AND_PAT = 0xfL << 3;
    private static final long ACCESSED = 1L << 8;
    private static final long DIRTY = 1L << 9;

    private static final int TYPE_SHIFT = 3;
    private static final int TYPE_MASK = 7;
    private static final int LEAF_LOW_MASK = 63;

    private static final long POINTER_WRITE_BACK = 6;
    private static final int POINTER_LENGTH_SHIFT = 3;
    private static final long POINTER_ACCESSED_DIRTY = 1L << 6;

    private final boolean executeOnly;

    /**
     * What the fast walk wants of a table entry, under {@link #tableMask}: forbids nothing, has A, no reserved bit.
     */
    private final long tableValue;

    private final long tableMask;

    /** Bit n is set if a leaf whose bits 5:0 are n is well formed, or not present. */
    private final long wellFormedLeaves;

    EptWalker(VmConfig config, boolean gigabytePages) {
        super(
                config.pagingMode().levels(),
                config.physicalAddressBits(),
                gigabytePages,
                config.accessedDirty() == AccessedDirty.ON ? ACCESSED : 0,
                config.accessedDirty() == AccessedDirty.ON ? DIRTY : 0);
        executeOnly = config.executeOnly();
        tableValue = PERMISSIONS | accessed;
        tableMask = PERMISSIONS | accessed | TYPE_AND_PAT | LARGE | reservedAddress;
        long wellFormed = 0;
        for (long low = 0; low <= LEAF_LOW_MASK; low++) {
            if (!isPresent(low) || !isMisconfigured(low, PagingLevel.L4K)) {
                wellFormed |= 1L << low;
            }
        }
        wellFormedLeaves = wellFormed;
    }

    @RequiresEpoch
    @HotPath
    @Override
    public int walk(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        int outcome;
        long table = tlb.leafTable(gpa);
        if (table != Tlb.MISS) {
            outcome = walkLeafTable(tlb, table, gpa, access, result);
        } else {
            table = tlb.middleTable(gpa);
            if (table != Tlb.MISS) {
                outcome = walkMiddleTable(tlb, table, gpa, access, result);
            } else {
                outcome = levels == PagingLevel.L512G
                        ? walkFourLevels(tlb, rootPointer & ADDRESS, gpa, access, result)
                        : walkFiveLevels(tlb, rootPointer & ADDRESS, gpa, access, result);
            }
        }
        return outcome == UNUSUAL ? walkSlow(tlb, rootPointer, gpa, access, result) : outcome;
    }

    @HotPath
    private int walkFiveLevels(Tlb tlb, long root, long gpa, int access, WalkResult result) {
        long spte = SpteAccess.readAcquire(root, Gfn.of(gpa), PagingLevel.L256T);
        if ((spte & tableMask) != tableValue) {
            return UNUSUAL;
        }
        return walkFourLevels(tlb, spte & ADDRESS, gpa, access, result);
    }

    @HotPath
    private int walkFourLevels(Tlb tlb, long root, long gpa, int access, WalkResult result) {
        long gfn = Gfn.of(gpa);
        long spte = SpteAccess.readAcquire(root, gfn, PagingLevel.L512G);
        if ((spte & tableMask) != tableValue) {
            return UNUSUAL;
        }
        long spteAddress = SpteAccess.addressOf(spte & ADDRESS, gfn, PagingLevel.L1G);
        spte = SpteAccess.readAcquire(spte & ADDRESS, gfn, PagingLevel.L1G);
        if ((spte & tableMask) != tableValue) {
            return (spte & LARGE) != 0 && gigabytePages
                    ? takeLeaf(tlb, gpa, access, result, spteAddress, spte, PERMISSIONS, PagingLevel.L1G)
                    : UNUSUAL;
        }
        // It has A already, so it may be remembered before the walk has succeeded.
        tlb.insertUpper(gpa, PagingLevel.L2M, spte & ADDRESS, Access.ALL);
        return walkMiddleTable(tlb, spte & ADDRESS | PERMISSIONS, gpa, access, result);
    }

    @HotPath
    private int walkMiddleTable(Tlb tlb, long table, long gpa, int access, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        if ((spte & tableMask) != tableValue) {
            return (spte & LARGE) != 0
                    ? takeLeaf(tlb, gpa, access, result, spteAddress, spte, table, PagingLevel.L2M)
                    : UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L4K, spte & ADDRESS, (int) table & Access.ALL);
        return walkLeafTable(tlb, spte & ADDRESS | table & PERMISSIONS, gpa, access, result);
    }

    @HotPath
    private int walkLeafTable(Tlb tlb, long table, long gpa, int access, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        return takeLeaf(tlb, gpa, access, result, spteAddress, spte, table, PagingLevel.L4K);
    }

    /** The low bits of {@code above} are what the entries above the leaf allow. */
    @HotPath
    private int takeLeaf(
            Tlb tlb, long gpa, int access, WalkResult result, long spteAddress, long leaf, long above, int level) {
        // R, W and X stand in the order of Access, so no translation is needed.
        int permissions = (int) (leaf & above) & Access.ALL;
        if ((access & ~permissions) != 0
                || (leaf & (reservedAddress | lowAddressBits(level))) != 0
                || (wellFormedLeaves >>> (leaf & LEAF_LOW_MASK) & 1) == 0) {
            return refuse(tlb, gpa, access, result, leaf, permissions, level);
        }
        long used = leaf | accessed | ((access & Access.WRITE) != 0 ? dirty : 0);
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
        result.found(frameOf(leaf, gpa, level), level, permissions, cacheable);
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

    @Override
    public long makeRootPointer(long rootHpa) {
        return rootHpa
                | POINTER_WRITE_BACK
                | (levels - 1L) << POINTER_LENGTH_SHIFT
                | (accessed != 0 ? POINTER_ACCESSED_DIRTY : 0);
    }

    @Override
    boolean obeysLog() {
        return true;
    }

    @Override
    boolean isPresent(long spte) {
        return (spte & PERMISSIONS) != 0;
    }

    @Override
    boolean isMisconfigured(long spte, int level) {
        if ((spte & (READ | WRITE)) == WRITE) {
            return true;
        }
        if ((spte & PERMISSIONS) == EXECUTE && !executeOnly) {
            return true;
        }
        if ((spte & reservedAddress) != 0) {
            return true;
        }
        if (!isLeaf(spte, level)) {
            return (spte & (level > PagingLevel.MAX_HUGE ? TYPE_AND_PAT | LARGE : TYPE_AND_PAT)) != 0;
        }
        if (level == PagingLevel.L1G && !gigabytePages) {
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

    @Override
    int permissionsOf(long spte) {
        return (int) spte & Access.ALL;
    }

    @Override
    long violationExit(int access, int permissions, boolean present) {
        return ExitQualification.of(access, permissions);
    }

    @Override
    long misconfigurationExit(int access) {
        return 0;
    }
}
