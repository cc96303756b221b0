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
 *   <li>It starts at the lowest table that the {@link Tlb} remembers, without looking at the entries above. A table
 *       that was unlinked without a flush is therefore really used.
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
 *   <li>An access to a guest page table ({@link WalkAccess#GUEST_TABLE}) counts as a store if the hardware would set
 *       flags in that table: always with nested paging, with EPT if it maintains A and D.
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

    /** Permissions of a path of entries that forbid nothing. */
    static final int ALL_PERMISSIONS = Access.ALL | WalkResult.USER;

    /** In a request: the access is refused where {@link WalkResult#USER} is given. */
    static final int REFUSES_USER = WalkAccess.PRIVILEGED << 1;

    final int levels;
    final int physicalAddressBits;
    final long reservedAddress;

    /** Level of the largest leaf that the processor knows. */
    final int largestLeaf;

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
    //
    // What an access needs is found out once, before the walk (requestOf): its low four bits then say which permissions
    // all entries must give, its other bits are those of WalkAccess and only tell a failed walk what to report. A plain
    // access is its own request, unless the family says otherwise.

    HardwareWalker(VmConfig config, long accessed, long dirty) {
        this.levels = config.pagingMode().levels();
        this.physicalAddressBits = config.physicalAddressBits();
        this.reservedAddress = ADDRESS & -(1L << physicalAddressBits);
        this.largestLeaf = config.hardware().largestPage().level();
        this.accessed = accessed;
        this.dirty = dirty;
        this.addressLimit = Math.min(1L << physicalAddressBits, PagingLevel.bytes(levels) << PagingLevel.INDEX_BITS);
    }

    /**
     * Returns the walker of a VM's processor.
     *
     * @param config of the VM
     * @return the walker
     */
    public static HardwareWalker of(VmConfig config) {
        return config.pagingMode().isEpt() ? new EptWalker(config) : new NptWalker(config);
    }

    /**
     * Translates one access. The caller puts a found leaf into the TLB; the walk itself caches only tables there.
     *
     * @param tlb of the vCPU that runs on this thread
     * @param rootPointer from {@link #makeRootPointer}
     * @param gpa guest physical address in bytes, below the width of addresses and of the tables
     * @param access bits of {@link Access}, at least one, and of {@link WalkAccess}
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

    /**
     * Tells whether an access may go through entries whose permissions an earlier walk has found. Whoever keeps {@link
     * WalkResult#entryPermissions} asks this instead of walking again; A and D are not looked at.
     *
     * @param entryPermissions of a walk of this VM's processor
     * @param access bits of {@link Access} and of {@link WalkAccess}, as for {@link #walk}
     * @return whether the entries allow all of it
     */
    @HotPath
    public final boolean allows(int entryPermissions, int access) {
        return isAllowed(requestOf(access), entryPermissions);
    }

    @HotPath
    static boolean isAllowed(int request, int permissions) {
        return (request & ALL_PERMISSIONS & ~permissions) == 0
                && ((request & REFUSES_USER) == 0 || (permissions & WalkResult.USER) == 0);
    }

    /** Turns an access into a request: the permissions that it needs, and bits of {@link WalkAccess} for the report. */
    abstract int requestOf(int access);

    /** What of the permissions every access may use, whoever makes it: bits of {@link Access}. */
    abstract int permissionsForEveryone(int permissions);

    /** Whether the family has a page-modification log. */
    abstract boolean obeysLog();

    abstract boolean isPresent(long spte);

    /** Whether a present entry of a level has a bit that must not be set, or a combination that must not be. */
    abstract boolean isMisconfigured(long spte, int level);

    /** Bits of {@link Access} that a present entry allows, and {@link WalkResult#USER}. */
    abstract int permissionsOf(long spte);

    abstract long violationExit(int request, int permissions, boolean present);

    abstract long misconfigurationExit(int request);

    /** Throws if hardware would not take the root pointer. */
    abstract void checkRootPointer(long rootPointer);

    final boolean isLeaf(long spte, int level) {
        return level == PagingLevel.L4K || level <= PagingLevel.MAX_HUGE && (spte & LARGE) != 0;
    }

    /** Reserved bits below the address of a leaf of a level. */
    static long lowAddressBits(int level) {
        return (PagingLevel.bytes(level) - 1) & ADDRESS;
    }

    /**
     * Translates one access that the TLB has not served: by {@link #walk}, unless the TLB is unhelpful and has a
     * translation that forbids the access. That one makes a violation then, as if it still stood in the tables, and is
     * forgotten as after every violation, so that the access walks when it is repeated. One that only lacks D forbids
     * nothing: D is set by a walk.
     *
     * @param tlb of the vCPU that runs on this thread
     * @param rootPointer from {@link #makeRootPointer}
     * @param gpa guest physical address in bytes, below the width of addresses and of the tables
     * @param access as in {@link #walk}
     * @param result gets what was found, or why nothing was
     * @return as {@link #walk}
     * @locking none; inside an epoch, because tables may be unlinked meanwhile
     */
    @RequiresEpoch
    @HotPath
    public final int walkOrRefuse(Tlb tlb, long rootPointer, long gpa, int access, WalkResult result) {
        if (tlb.isUnhelpful() && isRefused(tlb, gpa, access, result)) {
            return VIOLATION;
        }
        return walk(tlb, rootPointer, gpa, access, result);
    }

    private boolean isRefused(Tlb tlb, long gpa, int access, WalkResult result) {
        int level = tlb.levelCached(gpa, access);
        if (level == 0 || allows(tlb.allowed(gpa, level), access)) {
            return false;
        }
        result.failed(violationExit(requestOf(access), tlb.allowed(gpa, level), true), level, false);
        tlb.forget(gpa);
        return true;
    }

    /** Reports an entry that cannot serve the access. Cold. */
    final int refuse(Tlb tlb, long gpa, int request, WalkResult result, long spte, int permissions, int level) {
        if (isPresent(spte) && isMisconfigured(spte, level)) {
            result.failed(misconfigurationExit(request), level, true);
            return MISCONFIGURATION;
        }
        // What is not present has no permission either.
        result.failed(violationExit(request, permissions, isPresent(spte)), level, false);
        tlb.forget(gpa);
        return VIOLATION;
    }

    /** Does the whole walk, whatever the entries are. Out of line: rare. */
    final int walkSlow(Tlb tlb, long rootPointer, long gpa, int request, WalkResult result) {
        if (Debug.CHECK) {
            checkArguments(rootPointer, gpa, request);
        }
        int outcome;
        do {
            outcome = walkOnce(tlb, rootPointer, gpa, request, result);
            // An exchange was lost: the MMU, or another vCPU's walk, has changed an entry that this walk has judged.
            // What it found may no longer be true, so it starts again; somebody else made progress.
        } while (outcome == UNUSUAL);
        return outcome;
    }

    private int walkOnce(Tlb tlb, long rootPointer, long gpa, int request, WalkResult result) {
        int top = PagingLevel.L4K;
        long start = tlb.leafTable(gpa);
        while (start == Tlb.MISS) {
            top++;
            start = top == levels ? rootPointer & ADDRESS | ALL_PERMISSIONS : rememberedTable(tlb, gpa, top);
        }

        int level = top;
        long table = start & ADDRESS;
        int permissions = (int) start & ALL_PERMISSIONS;
        while (true) {
            long spteAddress = SpteAccess.addressOf(table, Gfn.of(gpa), level);
            long spte = SpteAccess.readAcquire(spteAddress);
            result.addresses[level] = spteAddress;
            result.entries[level] = spte;
            if (!isPresent(spte) || isMisconfigured(spte, level)) {
                return refuse(tlb, gpa, request, result, spte, 0, level);
            }
            permissions &= permissionsOf(spte);
            if (isLeaf(spte, level)) {
                break;
            }
            table = spte & ADDRESS;
            level--;
        }
        if (!isAllowed(request, permissions)) {
            return refuse(tlb, gpa, request, result, result.entries[level], permissions, level);
        }
        if (obeysLog() && result.isLogFull() && needsFlag(result, top, level, request)) {
            return LOG_FULL;
        }
        if (!markUsed(result, gpa, top, level, request)) {
            return UNUSUAL;
        }
        cacheTables(tlb, gpa, result, top, level, (int) start & ALL_PERMISSIONS);
        long leaf = result.entries[level];
        boolean cacheable = (permissions & Access.WRITE) != 0 && (leaf & dirty) == dirty;
        result.entryPermissions = permissions;
        result.found(frameOf(leaf, gpa, level), level, permissionsForEveryone(permissions), cacheable);
        return OK;
    }

    private static long rememberedTable(Tlb tlb, long gpa, int level) {
        return switch (level) {
            case PagingLevel.L2M -> tlb.middleTable(gpa);
            case PagingLevel.L1G -> tlb.upperTable(gpa);
            default -> tlb.topTable(gpa);
        };
    }

    private boolean needsFlag(WalkResult result, int top, int leafLevel, int request) {
        for (int level = top; level >= leafLevel; level--) {
            if ((flagsAt(level, leafLevel, request) & ~result.entries[level]) != 0) {
                return true;
            }
        }
        return false;
    }

    private boolean markUsed(WalkResult result, long gpa, int top, int leafLevel, int request) {
        for (int level = top; level >= leafLevel; level--) {
            long spte = result.entries[level];
            long missing = flagsAt(level, leafLevel, request) & ~spte;
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
    private long flagsAt(int level, int leafLevel, int request) {
        return level == leafLevel && (request & Access.WRITE) != 0 ? accessed | dirty : accessed;
    }

    /** Remembers all tables below the one where the walk began. Their entries have A by now. */
    private void cacheTables(Tlb tlb, long gpa, WalkResult result, int top, int leafLevel, int permissionsAtTop) {
        int permissions = permissionsAtTop;
        for (int level = top; level > leafLevel; level--) {
            long spte = result.entries[level];
            permissions &= permissionsOf(spte);
            tlb.insertUpper(gpa, level - 1, spte & ADDRESS, permissions);
        }
    }

    @HotPath
    static long frameOf(long leaf, long gpa, int level) {
        long offsetMask = PagingLevel.bytes(level) - 1;
        return (leaf & ~offsetMask | gpa & offsetMask) & ADDRESS;
    }

    /** The caller's mistakes that a plain access cannot make. */
    static void checkAccess(int access) {
        boolean fetchesTable = (access & WalkAccess.GUEST_TABLE) != 0 && (access & Access.EXECUTE) != 0;
        if ((access & Access.ALL) == 0 || (access & ~(Access.ALL | WalkAccess.ALL)) != 0 || fetchesTable) {
            throw new IllegalArgumentException("walk of an impossible access: access=0x" + Integer.toHexString(access));
        }
    }

    private void checkArguments(long rootPointer, long gpa, int request) {
        if (gpa < 0 || gpa >= addressLimit || (request & ALL_PERMISSIONS) == 0) {
            throw new IllegalArgumentException("walk of an impossible access: gpa=0x" + Long.toHexString(gpa)
                    + ", limit=0x" + Long.toHexString(addressLimit) + ", access=0x" + Integer.toHexString(request));
        }
        checkRootPointer(rootPointer);
    }
}
