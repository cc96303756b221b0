package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;

/**
 * Walks nested page tables as the AMD manual says.
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
 *  63     NX; reserved if the host has not enabled no-execute, and then every fetch is allowed
 * </pre>
 *
 * <p>A leaf larger than the processor knows has a reserved bit. Accesses to guest page tables are stores, whatever they
 * do there. A fault reports fetches only if something can forbid them: no-execute or the guest-mode execute trap.
 *
 * <p>With the guest-mode execute trap, US divides pages as SMEP has it: what has US in all entries is a user page, from
 * which a privileged guest may not fetch; all other pages are the supervisor's, and serve privileged accesses alone.
 * Accesses to guest page tables count as the user's, and so does every fault. This is our reading: the rule of SMEP
 * applied to nested tables.
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

    private final boolean guestModeExecuteTrap;
    private final boolean reportsFetch;

    /** Must not be set in any present entry. */
    private final long reserved;

    private final long tableMask;
    private final long topTableMask;

    NptWalker(VmConfig config) {
        super(config, ACCESSED, DIRTY);
        boolean noExecute = config.hardware().noExecute();
        guestModeExecuteTrap = config.hardware().guestModeExecuteTrap();
        reportsFetch = noExecute || guestModeExecuteTrap;
        reserved = noExecute ? reservedAddress : reservedAddress | NO_EXECUTE;
        tableMask = TABLE_VALUE | NO_EXECUTE | LARGE | reservedAddress;
        topTableMask = tableMask | GLOBAL;
    }

    @RequiresEpoch
    @HotPath
    @Override
    public int walk(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        if (guestModeExecuteTrap || access > Access.ALL) {
            return walkSpecial(tlb, rootPointer, gpa, requestOf(access), result);
        }
        return walkFast(tlb, rootPointer, gpa, access, result);
    }

    /** The fast walk does not know what a present permission refuses. */
    @HotPath
    private int walkSpecial(Tlb tlb, long rootPointer, long gpa, int request, WalkResult result) {
        return (request & REFUSES_USER) != 0
                ? walkSlow(tlb, rootPointer, gpa, request, result)
                : walkFast(tlb, rootPointer, gpa, request, result);
    }

    @HotPath
    private int walkFast(Tlb tlb, long rootPointer, long gpa, int request, WalkResult result) {
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
        if ((spte & topTableMask) != TABLE_VALUE) {
            return UNUSUAL;
        }
        // It has A already, so it may be remembered before the walk has succeeded; below likewise.
        tlb.insertUpper(gpa, PagingLevel.L512G, spte & ADDRESS, ALL_PERMISSIONS);
        return walkTopTable(tlb, spte & ADDRESS | ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkTopTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L512G);
        if ((spte & topTableMask) != TABLE_VALUE) {
            return UNUSUAL;
        }
        tlb.insertUpper(gpa, PagingLevel.L1G, spte & ADDRESS, (int) table & ALL_PERMISSIONS);
        return walkUpperTable(tlb, spte & ADDRESS | table & ALL_PERMISSIONS, gpa, request, result);
    }

    @HotPath
    private int walkUpperTable(Tlb tlb, long table, long gpa, int request, WalkResult result) {
        long spteAddress = SpteAccess.addressOf(table & ADDRESS, Gfn.of(gpa), PagingLevel.L1G);
        long spte = SpteAccess.readAcquire(table & ADDRESS, Gfn.of(gpa), PagingLevel.L1G);
        if ((spte & tableMask) != TABLE_VALUE) {
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
        if ((spte & tableMask) != TABLE_VALUE) {
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

    /** The low bits of {@code above} are what the entries above the leaf allow, as {@link #permissionsOf} says it. */
    @HotPath
    private int takeLeaf(
            Tlb tlb, long gpa, int request, WalkResult result, long spteAddress, long leaf, long above, int level) {
        int permissions = permissionsOf(leaf) & (int) above;
        if ((request & ALL_PERMISSIONS & ~permissions) != 0 || (leaf & (reserved | lowReservedBits(level))) != 0) {
            return refuse(tlb, gpa, request, result, leaf, permissions, level);
        }
        long used = leaf | ACCESSED | ((request & Access.WRITE) != 0 ? DIRTY : 0);
        if (used != leaf && !SpteAccess.compareAndSet(spteAddress, leaf, used)) {
            return UNUSUAL;
        }
        boolean cacheable = (permissions & Access.WRITE) != 0 && (used & DIRTY) != 0;
        result.entryPermissions = permissions;
        result.found(frameOf(leaf, gpa, level), level, permissionsForEveryone(permissions), cacheable);
        return OK;
    }

    @HotPath
    @Override
    int requestOf(int access) {
        if (Debug.CHECK) {
            checkAccess(access);
        }
        boolean guestTable = (access & WalkAccess.GUEST_TABLE) != 0;
        int request = guestTable ? access & ~WalkAccess.PRIVILEGED | Access.WRITE : access;
        if (!guestModeExecuteTrap) {
            return request;
        }
        if ((request & WalkAccess.PRIVILEGED) == 0) {
            return request | WalkResult.USER;
        }
        return (request & Access.EXECUTE) != 0 ? request | REFUSES_USER : request;
    }

    /** With the trap no fetch is for everyone: user pages refuse one kind, the supervisor's the other. */
    @HotPath
    @Override
    int permissionsForEveryone(int permissions) {
        if (!guestModeExecuteTrap) {
            return permissions & Access.ALL;
        }
        return (permissions & WalkResult.USER) != 0 ? permissions & (Access.READ | Access.WRITE) : 0;
    }

    @Override
    public long makeRootPointer(long rootHpa) {
        return rootHpa;
    }

    @Override
    void checkRootPointer(long rootPointer) {
        if ((rootPointer & (~ADDRESS | reservedAddress)) != 0) {
            throw new IllegalArgumentException("nested CR3 has a reserved bit: rootPointer=0x"
                    + Long.toHexString(rootPointer) + ", physicalAddressBits=" + physicalAddressBits);
        }
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
        if ((spte & reserved) != 0) {
            return true;
        }
        if (!isLeaf(spte, level)) {
            return level > PagingLevel.MAX_HUGE && (spte & (LARGE | GLOBAL)) != 0;
        }
        return level > largestLeaf || (spte & lowReservedBits(level)) != 0;
    }

    private static long lowReservedBits(int level) {
        return lowAddressBits(level) & ~HUGE_PAT;
    }

    @HotPath
    @Override
    int permissionsOf(long spte) {
        if ((spte & (PRESENT | USER)) != (PRESENT | USER)) {
            return guestModeExecuteTrap ? permissionsOfSupervisor(spte) : 0;
        }
        return permissionsOfUser(spte);
    }

    @HotPath
    private static int permissionsOfUser(long spte) {
        int executable = (int) (~spte >>> NO_EXECUTE_SHIFT) * Access.EXECUTE;
        return Access.READ | (int) spte & Access.WRITE | executable | WalkResult.USER;
    }

    @HotPath
    private static int permissionsOfSupervisor(long spte) {
        return (spte & PRESENT) != 0 ? permissionsOfUser(spte) & ~WalkResult.USER : 0;
    }

    @Override
    long violationExit(int request, int permissions, boolean present) {
        return NptErrorCode.of(request, present, reportsFetch);
    }

    @Override
    long misconfigurationExit(int request) {
        return NptErrorCode.of(request, true, reportsFetch) | NptErrorCode.RESERVED;
    }
}
