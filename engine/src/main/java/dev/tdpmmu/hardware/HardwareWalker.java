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
 * Translates a guest physical address as the processor does: from the root down, judging every entry on the way.
 *
 * <p>Immutable, so one walker serves all vCPUs of a VM.
 *
 * <p>What a processor may do and this one does:
 *
 * <ul>
 *   <li>It starts at a table that the {@link Tlb} remembers, without looking at the entries above. A table that was
 *       unlinked without a flush is therefore really used.
 *   <li>It sets A in every entry used and D in the leaf of a store, from the top down, and only when the whole
 *       walk has succeeded: a walk that fails changes nothing.
 *   <li>With a log attached to the {@link WalkResult}, it stores the 4 KiB address of the access in the log each time
 *       that it turns D of a leaf from 0 to 1, also inside a huge page. If the log is full, an access that needs any
 *       flag, A or D, at any level, exits before the first is set, with {@link #LOG_FULL}; one that needs none is
 *       done.
 *   <li>A violation removes everything that the TLB knows about the address, so that the access, when it is
 *       repeated, sees what software has added without a flush. A misconfiguration and a full log remove nothing.
 *   <li>A misconfigured entry is reported at the level where it is, before permissions are looked at; an entry
 *       that is not present ends the walk before lower levels are looked at.
 * </ul>
 */
public abstract sealed class HardwareWalker permits EptWalker, NptWalker {
    /** The walk succeeded. */
    public static final int OK = 0;

    /**
     * An entry is not present or forbids the access: an EPT violation, or a nested page fault without reserved bit.
     */
    public static final int VIOLATION = 1;

    /** An entry is present and malformed: an EPT misconfiguration, or a nested page fault with the reserved bit. */
    public static final int MISCONFIGURATION = 2;

    /**
     * The access needs a flag set and {@link PmlBuffer} is full, so nothing is set and the access is not done: a VM
     * exit for a full page-modification log.
     */
    public static final int LOG_FULL = 3;

    /** Never leaves the walkers: a fast walk met what only the slow one knows how to treat, or lost an exchange. */
    static final int UNUSUAL = -1;

    /** Bits 51:12. */
    static final long ADDRESS = ((1L << 52) - 1) & -Gfn.PAGE_SIZE;

    /** Bit 7, in a leaf of level 2 or 3. */
    static final long LARGE = 1L << 7;

    final int levels;
    final long reservedAddress;
    final boolean gigabytePages;

    /** A, or 0 if the hardware does not maintain it. */
    final long accessed;

    /** D, or 0 if the hardware does not maintain it. */
    final long dirty;

    private final long addressLimit;

    // Design note. A walk is tried fast first: unrolled, with one test an entry, which accepts only tables that
    // forbid nothing and have A. These are all that an MMU makes, so the slow walk, a loop that knows everything,
    // serves hand-made tables, missing tables, and lost exchanges. What is right is said once, in the small
    // predicates below that the families fill in; the masks of the fast walks are computed from them or tested
    // against them.

    HardwareWalker(int levels, int physicalAddressBits, boolean gigabytePages, long accessed, long dirty) {
        this.levels = levels;
        this.reservedAddress = ADDRESS & -(1L << physicalAddressBits);
        this.gigabytePages = gigabytePages;
        this.accessed = accessed;
        this.dirty = dirty;
        this.addressLimit = Math.min(1L << physicalAddressBits, PagingLevel.bytes(levels) << PagingLevel.INDEX_BITS);
    }

    /**
     * Returns the walker of a VM. It supports leaves of 1 GiB.
     *
     * @param config of the VM
     * @return the walker
     */
    public static HardwareWalker of(VmConfig config) {
        return config.pagingMode().isEpt() ? new EptWalker(config, true) : new NptWalker(config, true);
    }

    /**
     * Translates one access. The caller puts a found leaf into the TLB; the walk itself caches only tables there.
     *
     * @param tlb of the vCPU that runs on this thread
     * @param rootPointer from {@link #makeRootPointer}
     * @param gpa guest physical address in bytes, below the width of addresses and of the tables
     * @param access bits of {@link Access}, at least one
     * @param result gets what was found, or why nothing was; says whether pages that become dirty are logged
     * @return {@link #OK}, {@link #VIOLATION}, {@link #MISCONFIGURATION} or {@link #LOG_FULL}
     * @locking none; inside an epoch, because tables may be unlinked meanwhile
     * @ordering entries are read with acquire; A and D are set by volatile exchanges, before the result is returned;
     *     the address of a page is logged after its D is set, also before
     */
    @RequiresEpoch
    @HotPath
    public abstract int walk(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result);

    /**
     * Returns what the hardware is given to find a root: an EPT pointer, or nested CR3.
     *
     * @param rootHpa host physical address of the root table
     * @return the pointer
     */
    public abstract long makeRootPointer(long rootHpa);

    /** Whether the family has a page-modification log. */
    abstract boolean obeysLog();

    abstract boolean isPresent(long spte);

    /** Whether a present entry of a level has a bit that must not be set, or a combination that must not be. */
    abstract boolean isMisconfigured(long spte, int level);

    /** Bits of {@link Access} that a present entry allows. */
    abstract int permissionsOf(long spte);

    abstract long violationExit(int access, int permissions, boolean present);

    abstract long misconfigurationExit(int access);

    final boolean isLeaf(long spte, int level) {
        return level == PagingLevel.L4K || level <= PagingLevel.MAX_HUGE && (spte & LARGE) != 0;
    }

    /** Reserved bits below the address of a leaf of a level. */
    static long lowAddressBits(int level) {
        return (PagingLevel.bytes(level) - 1) & ADDRESS;
    }

    /** Reports a leaf that cannot serve the access. Cold. */
    final int refuse(Tlb tlb, long gpa, int access, WalkResult result, long spte, int permissions, int level) {
        if (isPresent(spte) && isMisconfigured(spte, level)) {
            result.failed(misconfigurationExit(access), level, true);
            return MISCONFIGURATION;
        }
        boolean present = isPresent(spte);
        result.failed(violationExit(access, present ? permissions : 0, present), level, false);
        tlb.forget(gpa);
        return VIOLATION;
    }

    /** Does the whole walk, whatever the entries are. Out of line: rare. */
    final int walkSlow(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        if (Debug.CHECK) {
            checkArguments(rootPointer, gpa, access);
        }
        int outcome;
        do {
            outcome = walkOnce(tlb, rootPointer, gpa, access, result);
            // An exchange was lost: the MMU, or another vCPU's walk, has changed an entry that this walk has judged.
            // What it found may no longer be true, so it starts again; somebody else made progress.
        } while (outcome == UNUSUAL);
        return outcome;
    }

    private int walkOnce(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        long start = tlb.leafTable(gpa);
        int top = PagingLevel.L4K;
        if (start == Tlb.MISS) {
            start = tlb.middleTable(gpa);
            top = PagingLevel.L2M;
        }
        if (start == Tlb.MISS) {
            start = rootPointer & ADDRESS | Access.ALL;
            top = levels;
        }

        int level = top;
        long table = start & ADDRESS;
        int permissions = (int) start & Access.ALL;
        int middlePermissions = 0;
        while (true) {
            long spteAddress = SpteAccess.addressOf(table, Gfn.of(gpa), level);
            long spte = SpteAccess.readAcquire(spteAddress);
            result.addresses[level] = spteAddress;
            result.entries[level] = spte;
            if (!isPresent(spte) || isMisconfigured(spte, level)) {
                return refuse(tlb, gpa, access, result, spte, 0, level);
            }
            permissions &= permissionsOf(spte);
            if (isLeaf(spte, level)) {
                break;
            }
            table = spte & ADDRESS;
            if (level == PagingLevel.L1G) {
                middlePermissions = permissions;
            }
            level--;
        }
        if ((access & ~permissions) != 0) {
            return refuse(tlb, gpa, access, result, result.entries[level], permissions, level);
        }
        if (obeysLog() && result.isLogFull() && needsFlag(result, top, level, access)) {
            return LOG_FULL;
        }
        if (!markUsed(result, gpa, top, level, access)) {
            return UNUSUAL;
        }
        cacheTables(tlb, gpa, result, top, level, middlePermissions);
        long leaf = result.entries[level];
        result.found(
                frameOf(leaf, gpa, level),
                level,
                permissions,
                (permissions & Access.WRITE) != 0 && (leaf & dirty) == dirty);
        return OK;
    }

    private boolean needsFlag(WalkResult result, int top, int leafLevel, int access) {
        for (int level = top; level >= leafLevel; level--) {
            if ((flagsAt(level, leafLevel, access) & ~result.entries[level]) != 0) {
                return true;
            }
        }
        return false;
    }

    private boolean markUsed(WalkResult result, long gpa, int top, int leafLevel, int access) {
        for (int level = top; level >= leafLevel; level--) {
            long spte = result.entries[level];
            long missing = flagsAt(level, leafLevel, access) & ~spte;
            if (missing == 0) {
                continue;
            }
            if (!SpteAccess.compareAndSet(result.addresses[level], spte, spte | missing)) {
                return false;
            }
            // At once, not when the walk has succeeded: a D that is set is logged, whatever comes of the walk.
            if ((missing & dirty) != 0 && obeysLog()) {
                result.logStore(gpa);
            }
            result.entries[level] = spte | missing;
        }
        return true;
    }

    /** What an entry must have set before the access is done. */
    private long flagsAt(int level, int leafLevel, int access) {
        return level == leafLevel && (access & Access.WRITE) != 0 ? accessed | dirty : accessed;
    }

    /** Remembers tables whose entries have A by now; a leaf above level 1 has none of level 1. */
    private void cacheTables(Tlb tlb, long gpa, WalkResult result, int top, int leafLevel, int middlePermissions) {
        int permissions = middlePermissions;
        if (top > PagingLevel.L2M && leafLevel < PagingLevel.L1G) {
            tlb.insertUpper(gpa, PagingLevel.L2M, result.entries[PagingLevel.L1G] & ADDRESS, permissions);
        } else if (top == PagingLevel.L2M) {
            permissions = (int) tlb.middleTable(gpa) & Access.ALL;
        }
        if (top > PagingLevel.L4K && leafLevel == PagingLevel.L4K) {
            long spte = result.entries[PagingLevel.L2M];
            tlb.insertUpper(gpa, PagingLevel.L4K, spte & ADDRESS, permissions & permissionsOf(spte));
        }
    }

    @HotPath
    static long frameOf(long leaf, long gpa, int level) {
        long offsetMask = PagingLevel.bytes(level) - 1;
        return (leaf & ~offsetMask | gpa & offsetMask) & ADDRESS;
    }

    private void checkArguments(long rootPointer, long gpa, int access) {
        if (gpa < 0 || gpa >= addressLimit || access == 0 || (access & ~Access.ALL) != 0) {
            throw new IllegalArgumentException("walk of an impossible access: gpa=0x" + Long.toHexString(gpa)
                    + ", limit=0x" + Long.toHexString(addressLimit) + ", access=" + access);
        }
        if (rootPointer != makeRootPointer(rootPointer & ADDRESS)) {
            throw new IllegalArgumentException(
                    "root pointer is malformed: rootPointer=0x" + Long.toHexString(rootPointer) + ", expected=0x"
                            + Long.toHexString(makeRootPointer(rootPointer & ADDRESS)));
        }
    }
}
