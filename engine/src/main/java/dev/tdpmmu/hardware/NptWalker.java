package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;

/**
 * Walks nested page tables as the AMD manual says, with no-execute enabled.
 *
 * <pre>
 *  bit    table                          leaf
 *  0      P                              P; clear: not present, everything else ignored
 *  1, 2   RW, US                         RW, US; without US nothing is allowed: nested accesses are user accesses
 *  3, 4   cache control                  cache control
 *  5, 6   A, ignored                     A, D
 *  7      reserved at levels 4 and 5     set at levels 2 and 3, PAT at level 1
 *  8      reserved at levels 4 and 5     global, ignored
 *  12                                    PAT of a huge leaf
 *  51:12  address; bits from the width of addresses on are reserved, and 20:13 or 29:13 of a huge leaf
 *  63     NX                             NX
 * </pre>
 */
final class NptWalker extends HardwareWalker {
    private static final long PRESENT = 1L;
    private static final long WRITE = 1L << 1;
    private static final long USER = 1L << 2;
    private static final long ACCESSED = 1L << 5;
    private static final long DIRTY = 1L << 6;
    private static final long GLOBAL = 1L << 8;
    private static final long HUGE_PAT = 1L << 12;
    private static final int NO_EXECUTE_SHIFT = 63;
    private static final long NO_EXECUTE = 1L << NO_EXECUTE_SHIFT;

    /** What the fast walk wants of a table entry, under a mask of its level: forbids nothing, has A. */
    private static final long TABLE_VALUE = PRESENT | WRITE | USER | ACCESSED;

    private final long tableMask;
    private final long topTableMask;

    NptWalker(VmConfig config, boolean gigabytePages) {
        super(config.pagingMode().levels(), config.physicalAddressBits(), gigabytePages, ACCESSED, DIRTY);
        tableMask = TABLE_VALUE | NO_EXECUTE | LARGE | reservedAddress;
        topTableMask = tableMask | GLOBAL;
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
        if ((spte & topTableMask) != TABLE_VALUE) {
            return UNUSUAL;
        }
        return walkFourLevels(tlb, spte & ADDRESS, gpa, access, result);
    }

    @HotPath
    private int walkFourLevels(Tlb tlb, long root, long gpa, int access, WalkResult result) {
        long gfn = Gfn.of(gpa);
        long spte = SpteAccess.readAcquire(root, gfn, PagingLevel.L512G);
        if ((spte & topTableMask) != TABLE_VALUE) {
            return UNUSUAL;
        }
        long spteAddress = SpteAccess.addressOf(spte & ADDRESS, gfn, PagingLevel.L1G);
        spte = SpteAccess.readAcquire(spte & ADDRESS, gfn, PagingLevel.L1G);
        if ((spte & tableMask) != TABLE_VALUE) {
            return (spte & LARGE) != 0 && gigabytePages
                    ? takeLeaf(tlb, gpa, access, result, spteAddress, spte, Access.ALL, PagingLevel.L1G)
                    : UNUSUAL;
        }
        // It has A already, so it may be remembered before the walk has succeeded.
        tlb.insertUpper(gpa, PagingLevel.L2M, spte & ADDRESS, Access.ALL);
        return walkMiddleTable(tlb, spte & ADDRESS | Access.ALL, gpa, access, result);
    }

    @HotPath
    private int walkMiddleTable(Tlb tlb, long table, long gpa, int access, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L2M);
        if ((spte & tableMask) != TABLE_VALUE) {
            return (spte & LARGE) != 0
                    ? takeLeaf(tlb, gpa, access, result, spteAddress, spte, table, PagingLevel.L2M)
                    : UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L4K, spte & ADDRESS, (int) table & Access.ALL);
        return walkLeafTable(tlb, spte & ADDRESS | table & Access.ALL, gpa, access, result);
    }

    @HotPath
    private int walkLeafTable(Tlb tlb, long table, long gpa, int access, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L4K);
        return takeLeaf(tlb, gpa, access, result, spteAddress, spte, table, PagingLevel.L4K);
    }

    /** The low bits of {@code above} are what the entries above the leaf allow, as {@link Access}. */
    @HotPath
    private int takeLeaf(
            Tlb tlb, long gpa, int access, WalkResult result, long spteAddress, long leaf, long above, int level) {
        int permissions = permissionsOf(leaf) & (int) above & Access.ALL;
        if ((access & ~permissions) != 0 || (leaf & (reservedAddress | lowReservedBits(level))) != 0) {
            return refuse(tlb, gpa, access, result, leaf, permissions, level);
        }
        long used = leaf | ACCESSED | ((access & Access.WRITE) != 0 ? DIRTY : 0);
        if (used != leaf && !SpteAccess.compareAndSet(spteAddress, leaf, used)) {
            return UNUSUAL;
        }
        boolean cacheable = (permissions & Access.WRITE) != 0 && (used & DIRTY) != 0;
        result.found(frameOf(leaf, gpa, level), level, permissions, cacheable);
        return OK;
    }

    @Override
    public long makeRootPointer(long rootHpa) {
        return rootHpa;
    }

    @Override
    boolean obeysLog() {
        return false;
    }

    @Override
    boolean isPresent(long spte) {
        return (spte & PRESENT) != 0;
    }

    @Override
    boolean isMisconfigured(long spte, int level) {
        if ((spte & reservedAddress) != 0) {
            return true;
        }
        if (!isLeaf(spte, level)) {
            return level > PagingLevel.MAX_HUGE && (spte & (LARGE | GLOBAL)) != 0;
        }
        return level == PagingLevel.L1G && !gigabytePages || (spte & lowReservedBits(level)) != 0;
    }

    private static long lowReservedBits(int level) {
        return lowAddressBits(level) & ~HUGE_PAT;
    }

    @HotPath
    @Override
    int permissionsOf(long spte) {
        if ((spte & (PRESENT | USER)) != (PRESENT | USER)) {
            return 0;
        }
        int executable = (int) (~spte >>> NO_EXECUTE_SHIFT) * Access.EXECUTE;
        return Access.READ | (int) spte & Access.WRITE | executable;
    }

    @Override
    long violationExit(int access, int permissions, boolean present) {
        return NptErrorCode.of(access, present);
    }

    @Override
    long misconfigurationExit(int access) {
        return NptErrorCode.of(access, true) | NptErrorCode.RESERVED;
    }
}
