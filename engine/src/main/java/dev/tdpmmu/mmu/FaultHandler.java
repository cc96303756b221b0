package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.slot.HostPageWord;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.MmioSpte;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.trace.FaultEvent;
import dev.tdpmmu.trace.Trace;
import java.util.concurrent.locks.LockSupport;

/**
 * Answers a violation: finds the frame, takes the MMU lock, and installs what is missing on the way to it.
 *
 * <p>The steps, in this order: the lock-free fix if the leaf is present; the snapshot of invalidations; the slot and
 * its frame; the lock; the check that snapshot and root are still good; the walk with compare-and-sets; the unlock. If
 * tables are missing on the way, the lock is dropped, their pages are fetched into the vCPU's stock, and the last steps
 * are done again. A lost race is never fought under the lock: it returns {@link FaultResult#RETRY} to the guest, which
 * executes the access again.
 *
 * <p>The walk to the goal is written out level by level, and what is known of a fault travels in parameters: as a loop
 * the walk takes about twice as long, and fields of an object would have to leave the store buffer before the lock's
 * fence.
 *
 * @kvm kvm_tdp_page_fault, kvm_tdp_mmu_map
 */
public final class FaultHandler {
    private static final int LEVEL_BITS = 2;

    /** A vCPU waits for a moment at every so many of its retries; between them it yields. */
    private static final int RETRIES_BEFORE_PARK = 64;

    private static final long PARK_NANOS = 50_000;

    private final int vmId;
    private final SpteFormat format;
    private final MmuLock lock;
    private final InvalidationTracker tracker;
    private final SlotRegistry registry;
    private final SpteUpdater updater;
    private final RcuDomain rcu;
    private final FastFaultFixer fastFixer;
    private final boolean fastFix;
    private final boolean mmioCaching;
    private final int maxLevel;
    private final TableLinker linker;
    private final WriteTracks tracks;
    private final NxPolicy nx;
    private final DirtyMarker marker;

    /** A leaf without its address for each slot access and level, so that a fault only has to add where the frame is. */
    private final long[] leafTemplates = new long[(Access.ALL + 1) << LEVEL_BITS];

    /** The same without X in huge leaves. */
    private final long[] nxLeafTemplates = new long[(Access.ALL + 1) << LEVEL_BITS];

    FaultHandler(
            VmConfig config,
            int vmId,
            SpteFormat format,
            MmuLock lock,
            InvalidationTracker tracker,
            SlotRegistry registry,
            SpteUpdater updater,
            RcuDomain rcu,
            TableLinker linker,
            WriteTracks tracks,
            NxPolicy nx) {
        this.vmId = vmId;
        this.format = format;
        this.lock = lock;
        this.tracker = tracker;
        this.registry = registry;
        this.updater = updater;
        this.rcu = rcu;
        this.linker = linker;
        this.tracks = tracks;
        this.nx = nx;
        this.marker = new DirtyMarker(config.dirtyLog());
        this.fastFixer = new FastFaultFixer(format, registry, marker);
        this.fastFix = config.fastFix();
        this.mmioCaching = config.mmioCaching() && format.mmioCaching();
        this.maxLevel = config.hugePages().level();
        for (int access = Access.READ; access <= Access.ALL; access++) {
            for (int level = PagingLevel.L4K; level <= PagingLevel.MAX_HUGE; level++) {
                long leaf = format.makeLeaf(0, level, access, true, false);
                leafTemplates[access << LEVEL_BITS | level] = leaf;
                nxLeafTemplates[access << LEVEL_BITS | level] =
                        level == PagingLevel.L4K ? leaf : format.clearExecutable(leaf);
            }
        }
    }

    /**
     * Handles a violation.
     *
     * @param vcpu the faulting one, its root loaded, {@link ReaderSlot#HANDLING}
     * @param gpa guest physical address, below the VM's limit
     * @param access what was tried, bits of {@link Access}
     * @param present whether hardware found a usable entry that forbade the access
     * @return what the vCPU does next
     * @locking none held, in no section; the MMU lock is taken
     */
    @HotPath
    public FaultResult handle(VcpuMmu vcpu, long gpa, int access, boolean present) {
        long gfn = Gfn.of(gpa);
        FaultEvent event = Trace.beginFault();
        if (fastFix && fastFixer.mayFix(access, present)) {
            FaultResult fast = fastFixer.tryFix(vcpu, gfn, access);
            if (fast != FaultResult.RETRY) {
                vcpu.slot.count(fast == FaultResult.FIXED ? Counter.PF_FAST : Counter.PF_SPURIOUS, 1);
                Trace.endFault(event, vmId, gfn, 0, access, true, fast);
                return fast;
            }
        }
        vcpu.slot.count(Counter.PF_TAKEN, 1);
        FaultResult result = handleSlowly(vcpu, gfn, access);
        count(vcpu, result);
        Trace.endFault(event, vmId, gfn, 0, access, false, result);
        return result;
    }

    @HotPath
    private static void count(VcpuMmu vcpu, FaultResult result) {
        if (result == FaultResult.FIXED) {
            vcpu.slot.count(Counter.PF_FIXED, 1);
        } else {
            countUnusual(vcpu, result);
        }
    }

    private static void countUnusual(VcpuMmu vcpu, FaultResult result) {
        ReaderSlot slot = vcpu.slot;
        switch (result) {
            case RETRY -> {
                slot.count(Counter.PF_RETRY, 1);
                vcpu.retries++;
                if (vcpu.retries % RETRIES_BEFORE_PARK == 0) {
                    park();
                }
            }
            case EMULATE -> slot.count(Counter.PF_EMULATE, 1);
            case SPURIOUS -> slot.count(Counter.PF_SPURIOUS, 1);
            case FIXED, OUT_OF_MEMORY, MEMORY_FAULT -> {
                // Fixed is counted by the caller; an access that fails is no handled fault.
            }
        }
    }

    /**
     * Lets go of the processor, in no section and without a lock. A guest that only tried again, and yielded between,
     * could keep those out that it waits for: a virtual thread that yields stays in its carrier's own queue, and a
     * carrier looks for threads that were woken from outside only when that queue is empty.
     *
     * <pre>
     *  guests, all virtual threads            | one more guest              | unmap
     *                                         | queues for the MMU lock     | begins
     *  retry, yield, retry, yield, ...        | is woken, waits for a       | waits behind that guest
     *                                         | carrier, and none looks     |   -- and the guests wait for the unmap
     * </pre>
     */
    private static void park() {
        if (!Interleave.blocked()) {
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    @HotPath
    private FaultResult handleSlowly(VcpuMmu vcpu, long gfn, int access) {
        // Before the look-up: an invalidation that ends after this point makes the fault stale, whatever it looked up.
        long snapshot = tracker.snapshot();
        MemSlots memSlots = registry.current();
        MemSlot memSlot = memSlots.find(gfn, vcpu.lastSlot);
        if (!memSlot.exists()) {
            return handleWithoutSlot(vcpu, gfn, access, snapshot, memSlots.generation());
        }
        if (memSlot != vcpu.lastSlot) {
            vcpu.lastSlot = memSlot;
        }
        if ((access & ~memSlot.access()) != 0) {
            return FaultResult.EMULATE;
        }
        if (tracker.isInProgress(snapshot, gfn)) {
            // Only a hint, without the lock: saves taking it for a fault that it would send back anyway.
            return FaultResult.RETRY;
        }
        if (!memSlot.isLinear()) {
            return mapHostPage(vcpu, memSlot, gfn, access, snapshot);
        }
        return mapLocked(vcpu, memSlot, gfn, access, snapshot);
    }

    /** Lets the host make the page present, and private to the guest if it is stored to, before the lock is taken. */
    private FaultResult mapHostPage(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long snapshot) {
        boolean store = (access & Access.WRITE) != 0;
        if (isReady(vcpu.slot, memSlot, gfn, store)) {
            return mapLocked(vcpu, memSlot, gfn, access, snapshot);
        }
        return switch (memSlot.hostPages().faultIn(memSlot.hostPage(gfn), store)) {
            // The host may take it away again before we are inside: then the leaf is not made, and the fault retried.
            case READY -> mapLocked(vcpu, memSlot, gfn, access, snapshot);
            case PROTECTED -> FaultResult.MEMORY_FAULT;
            case GONE -> FaultResult.RETRY;
        };
    }

    /** Whether the host need not be asked. The slot is looked up again: only inside an epoch its pages are there. */
    private boolean isReady(ReaderSlot slot, MemSlot memSlot, long gfn, boolean store) {
        slot.enter(ReaderSlot.WALKING);
        boolean ready = false;
        if (registry.current().find(gfn) == memSlot) {
            long word = memSlot.hostPages().word(memSlot.hostPage(gfn));
            ready = store ? HostPageWord.isWritable(word) : HostPageWord.isPresent(word);
        }
        slot.leave(ReaderSlot.HANDLING);
        return ready;
    }

    /** Does the part of a fault that begins when its slot is known: locks, maps, and if tables are missing fetches some first. */
    @HotPath
    private FaultResult mapLocked(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long snapshot) {
        FaultResult result = tryMapLocked(vcpu, memSlot, gfn, access, snapshot);
        return result == FaultResult.OUT_OF_MEMORY ? topUpAndMap(vcpu, memSlot, gfn, access, snapshot) : result;
    }

    /**
     * Maps again with enough pages in stock. Pages are fetched only when a table turned out to be missing, and only as
     * many: a stock for the worst case would keep three pages idle in each of thousands of vCPUs.
     */
    private FaultResult topUpAndMap(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long snapshot) {
        // More tables may be missing at the second try, if a zap came between; never more than the levels below the
        // root.
        while (vcpu.tables.topUp(vcpu.tablesWanted)) {
            FaultResult result = tryMapLocked(vcpu, memSlot, gfn, access, snapshot);
            if (result != FaultResult.OUT_OF_MEMORY) {
                return result;
            }
        }
        return FaultResult.OUT_OF_MEMORY;
    }

    @HotPath
    private FaultResult tryMapLocked(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long snapshot) {
        TdpRoot root = vcpu.root();
        lock.lockForFault(vcpu.slot);
        try {
            if (root.isInvalid() || tracker.isStale(snapshot, gfn)) {
                return FaultResult.RETRY;
            }
            return isPlain(memSlot)
                    ? map(vcpu, root, memSlot, gfn, access)
                    : mapSpecially(vcpu, root, memSlot, gfn, access);
        } finally {
            lock.unlockForFault(vcpu.slot);
        }
    }

    /** Whether nothing but slot and level decides what a leaf of the slot looks like. */
    @HotPath
    private boolean isPlain(MemSlot memSlot) {
        return memSlot.isPlain() && tracks.isEmpty();
    }

    /** Maps where stores are logged or watched, or where the host decides page by page. */
    private FaultResult mapSpecially(VcpuMmu vcpu, TdpRoot root, MemSlot memSlot, long gfn, int access) {
        boolean store = (access & Access.WRITE) != 0;
        if (store && tracks.contains(gfn)) {
            return FaultResult.EMULATE;
        }
        int goal = tracks.maxLevel(gfn, Math.min(memSlot.maxLevel(gfn), maxLevel));
        FaultResult result = mapHuge(vcpu, root, memSlot, gfn, access, goal);
        if (result == FaultResult.FIXED && store && memSlot.logsDirty()) {
            // After the entry: see the marker.
            marker.mark(vcpu, memSlot, gfn);
        }
        return result;
    }

    /**
     * Maps one frame as a fault does once its slot is known: lock, epoch, staleness check, walk, unlock. For benchmarks
     * of exactly these steps.
     *
     * @param vcpu the faulting one, its root loaded, in no section
     * @param memSlot slot that holds the gfn
     * @param gfn guest frame number
     * @param access bits of {@link Access} that the slot allows
     * @return as {@link #handle}
     */
    @HotPath
    public FaultResult map(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access) {
        return mapLocked(vcpu, memSlot, gfn, access, tracker.snapshot());
    }

    @HotPath
    private FaultResult map(VcpuMmu vcpu, TdpRoot root, MemSlot memSlot, long gfn, int access) {
        int goal = Math.min(memSlot.maxLevel(gfn), maxLevel);
        if (goal != PagingLevel.L4K) {
            return mapHuge(vcpu, root, memSlot, gfn, access, goal);
        }
        long table = root.hpa();
        if (root.level() == PagingLevel.L256T) {
            long spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L256T);
            if (!Spte.isTable(spte)) {
                return mapFrom(vcpu, memSlot, gfn, access, table, PagingLevel.L256T, goal, 0);
            }
            table = Spte.address(spte);
        }
        long spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L512G);
        if (!Spte.isTable(spte)) {
            return mapFrom(vcpu, memSlot, gfn, access, table, PagingLevel.L512G, goal, 0);
        }
        table = Spte.address(spte);
        spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L1G);
        if (!Spte.isTable(spte)) {
            return mapFrom(vcpu, memSlot, gfn, access, table, PagingLevel.L1G, goal, 0);
        }
        table = Spte.address(spte);
        spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L2M);
        if (!Spte.isTable(spte)) {
            return mapFrom(vcpu, memSlot, gfn, access, table, PagingLevel.L2M, goal, 0);
        }
        return mapLeaf(vcpu, memSlot, gfn, access, Spte.address(spte), PagingLevel.L4K);
    }

    /** Maps by a leaf of a level, or by a 4 KiB one if the guest fetches from a huge one and must not. */
    private FaultResult mapHuge(VcpuMmu vcpu, TdpRoot root, MemSlot memSlot, long gfn, int access, int level) {
        if (level != PagingLevel.L4K && (access & Access.EXECUTE) != 0 && nx.mitigation()) {
            return mapFrom(vcpu, memSlot, gfn, access, root.hpa(), root.level(), PagingLevel.L4K, level);
        }
        return mapFrom(vcpu, memSlot, gfn, access, root.hpa(), root.level(), level, 0);
    }

    /**
     * Goes on where a table is missing, a huge leaf is in the way, or somebody else is at work.
     *
     * @param disallowed level of the huge leaf that would be there if it could be executed; 0 if that is not the reason
     */
    private FaultResult mapFrom(
            VcpuMmu vcpu,
            MemSlot memSlot,
            long gfn,
            int access,
            long startTable,
            int startLevel,
            int goal,
            int disallowed) {
        long table = startTable;
        for (int level = startLevel; level > goal; level--) {
            long address = SpteAccess.addressOf(table, gfn, level);
            long spte = SpteAccess.readAcquire(address);
            if (Spte.isFrozen(spte)) {
                return FaultResult.RETRY;
            }
            if (!format.isTable(spte, level)) {
                if (vcpu.tables.size() < level - goal) {
                    // Nothing is allocated under the lock: the caller drops it, fetches them, and comes back.
                    vcpu.tablesWanted = level - goal;
                    return FaultResult.OUT_OF_MEMORY;
                }
                boolean splits = format.isLeaf(spte, level);
                spte = linker.tryLink(vcpu.slot, vcpu.tables, gfn, address, level, spte, level <= disallowed);
                if (spte == Spte.NON_PRESENT) {
                    return FaultResult.RETRY;
                }
                if (splits) {
                    Trace.split(gfn, level, false);
                }
            }
            table = format.address(spte);
        }
        return mapLeaf(vcpu, memSlot, gfn, access, table, goal);
    }

    @HotPath
    private FaultResult mapLeaf(VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long table, int level) {
        long address = SpteAccess.addressOf(table, gfn, level);
        long oldSpte = SpteAccess.readAcquire(address);
        long leaf = isPlain(memSlot) ? makeLeaf(memSlot, gfn, level) : makeSpecialLeaf(memSlot, gfn, level, access);
        if (oldSpte != Spte.NON_PRESENT) {
            return mapOverExisting(vcpu, memSlot, gfn, access, address, level, oldSpte, leaf);
        }
        return leaf != Spte.NON_PRESENT && updater.trySet(vcpu.slot, address, gfn, level, oldSpte, leaf)
                ? FaultResult.FIXED
                : FaultResult.RETRY;
    }

    @HotPath
    private long makeLeaf(MemSlot memSlot, long gfn, int level) {
        long[] templates = level != PagingLevel.L4K && nx.mitigation() ? nxLeafTemplates : leafTemplates;
        return templates[memSlot.access() << LEVEL_BITS | level] | memSlot.hpa(Gfn.alignDown(gfn, level));
    }

    /** Makes a leaf that lets only through what nobody needs to see; non-present if the host has taken the page away. */
    private long makeSpecialLeaf(MemSlot memSlot, long gfn, int level, int access) {
        long leaf = memSlot.isLinear() ? makeLeaf(memSlot, gfn, level) : makeHostLeaf(memSlot, gfn);
        if (leaf == Spte.NON_PRESENT) {
            return leaf;
        }
        if (tracks.contains(gfn)) {
            return format.clearWritableAndMmuWritable(leaf);
        }
        // Only a store makes it writable: a page that is only read is not to be reported. Where the hardware logs
        // stores itself, D is what it waits for, and D is clear.
        boolean armed = memSlot.logsDirty() && !marker.hardwareLogs() && (access & Access.WRITE) == 0;
        return armed ? format.clearWritable(leaf) : leaf;
    }

    /** Inside the section in which the fault asked whether it is stale: the host changes the page only after that. */
    private long makeHostLeaf(MemSlot memSlot, long gfn) {
        long word = memSlot.hostPages().word(memSlot.hostPage(gfn));
        if (!HostPageWord.isPresent(word)) {
            return Spte.NON_PRESENT;
        }
        return format.makeLeaf(
                HostPageWord.hpa(word), PagingLevel.L4K, memSlot.access(), HostPageWord.isWritable(word), false);
    }

    private FaultResult mapOverExisting(
            VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long address, int level, long oldSpte, long leaf) {
        if (Spte.isFrozen(oldSpte) || leaf == Spte.NON_PRESENT) {
            return FaultResult.RETRY;
        }
        if (format.isTable(oldSpte, level)) {
            return mapOverTable(vcpu, memSlot, gfn, access, address, level, oldSpte, leaf);
        }
        long newSpte = leaf;
        if (Spte.isMmuPresent(oldSpte)) {
            if (format.allows(oldSpte, access)) {
                return FaultResult.SPURIOUS;
            }
            if (format.address(oldSpte) != format.address(leaf)) {
                // A slot was moved onto a part of its old place, and the zap of the old leaves is still to come. A
                // leaf never changes its frame without a flush between.
                return FaultResult.RETRY;
            }
            // A and D say what the guest did, not what it may do: they stay. No flush: permissions only grow.
            newSpte |= oldSpte & (format.accessedBit() | format.dirtyBit());
        }
        return updater.trySet(vcpu.slot, address, gfn, level, oldSpte, newSpte) ? FaultResult.FIXED : FaultResult.RETRY;
    }

    /** A huge leaf is wanted where a table is: replaces it, unless so much memory is retired that it may retire no more. */
    private FaultResult mapOverTable(
            VcpuMmu vcpu, MemSlot memSlot, long gfn, int access, long address, int level, long oldSpte, long leaf) {
        long table = format.address(oldSpte);
        if (rcu.isOverBound() || TableHeaders.nxState(table) != TableHeaders.NX_NONE) {
            // A fault never waits for a grace period, and a huge leaf where one was executed would be split by the next
            // fetch. Smaller leaves in the old table serve the guest as well.
            return mapFrom(vcpu, memSlot, gfn, access, table, level - 1, level - 1, 0);
        }
        if (!updater.tryReplaceTable(vcpu.slot, address, gfn, level, oldSpte, leaf)) {
            return FaultResult.RETRY;
        }
        vcpu.slot.count(Counter.PROMOTIONS, 1);
        return FaultResult.FIXED;
    }

    /**
     * Installs an MMIO entry.
     *
     * @param generation of the very snapshot of slots in which none was found; with a later one the entry would say for
     *     good that there is no slot although one was added meanwhile
     */
    private FaultResult handleWithoutSlot(VcpuMmu vcpu, long gfn, int access, long snapshot, long generation) {
        if (!mmioCaching || !vcpu.tables.topUp(vcpu.root().level() - 1)) {
            // The entry only saves time: without memory for it the access is emulated all the same.
            return FaultResult.EMULATE;
        }
        lock.lockForFault(vcpu.slot);
        try {
            if (vcpu.root().isInvalid() || tracker.isStale(snapshot, gfn)) {
                return FaultResult.RETRY;
            }
            return mapMmio(vcpu, gfn, access, generation);
        } finally {
            lock.unlockForFault(vcpu.slot);
        }
    }

    private FaultResult mapMmio(VcpuMmu vcpu, long gfn, int access, long generation) {
        long table = vcpu.root().hpa();
        for (int level = vcpu.root().level(); level > PagingLevel.L4K; level--) {
            long address = SpteAccess.addressOf(table, gfn, level);
            long spte = SpteAccess.readAcquire(address);
            if (Spte.isFrozen(spte) || format.isLeaf(spte, level)) {
                return FaultResult.RETRY;
            }
            if (!format.isTable(spte, level)) {
                spte = linker.tryLink(vcpu.slot, vcpu.tables, gfn, address, level, spte, false);
                if (spte == Spte.NON_PRESENT) {
                    return FaultResult.RETRY;
                }
            }
            table = format.address(spte);
        }
        long address = SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
        long oldSpte = SpteAccess.readAcquire(address);
        if (Spte.isFrozen(oldSpte) || Spte.isMmuPresent(oldSpte)) {
            // Never an MMIO entry over a present one: the leaf belongs to a slot that is being removed, whose zap will
            // come.
            return FaultResult.RETRY;
        }
        long mmio = format.makeMmio(gfn, access, generation & SpteFormat.MMIO_GENERATION_MASK);
        if (mmio != oldSpte) {
            if (!updater.trySet(vcpu.slot, address, gfn, PagingLevel.L4K, oldSpte, mmio)) {
                return FaultResult.RETRY;
            }
            vcpu.slot.count(Counter.MMIO_SPTE_CREATED, 1);
        }
        return FaultResult.EMULATE;
    }

    /**
     * Handles a misconfiguration: hardware met an entry that it cannot use, which should be an MMIO entry.
     *
     * @param vcpu the faulting one, its root loaded, {@link ReaderSlot#HANDLING}
     * @param gpa guest physical address, below the VM's limit
     * @param access what was tried
     * @return {@link FaultResult#EMULATE} if the entry is current; otherwise as {@link #handle}
     * @kvm handle_mmio_page_fault
     */
    public FaultResult handleMisconfiguration(VcpuMmu vcpu, long gpa, int access) {
        ReaderSlot slot = vcpu.slot;
        slot.enter(ReaderSlot.WALKING);
        long spte = fastFixer.readLast(vcpu.root(), Gfn.of(gpa));
        slot.leave(ReaderSlot.HANDLING);
        if (format.isMmio(spte)) {
            long generation = registry.current().generation() & SpteFormat.MMIO_GENERATION_MASK;
            if (MmioSpte.generation(spte) == generation) {
                slot.count(Counter.PF_EMULATE, 1);
                return FaultResult.EMULATE;
            }
        }
        // Stale, or replaced since hardware read it: the slow path looks at slots and entry again.
        return handle(vcpu, gpa, access, false);
    }
}
