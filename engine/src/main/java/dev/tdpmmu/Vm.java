package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.mmu.MmuCorruptionException;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.TreeCensus;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotChange;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.sync.Reclaimer;
import dev.tdpmmu.sync.StallReport;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A virtual machine: memory slots, vCPUs, second-level page tables, and all that keeps them in step.
 *
 * <p>Safe for use by many threads. Slot changes are serialised; vCPUs run on meanwhile. {@link #close} returns every
 * byte, and is idempotent; whoever uses the VM afterwards, or is inside an access then, gets a {@link
 * VmClosedException}.
 *
 * <p>Lock order: slots lock (of this class), MMU lock, pages lock.
 */
public final class Vm implements AutoCloseable {
    private static final AtomicInteger NEXT_ID = new AtomicInteger(1);

    private final VmConfig config;
    private final int id = NEXT_ID.getAndIncrement();
    private final MemoryAccount account;
    private final TablePool pool;
    private final ReaderSlots readers = new ReaderSlots();
    private final TlbShootdown shootdown = new TlbShootdown(readers);
    private final RcuDomain rcu;
    private final SlotRegistry slots;
    private final TdpMmu mmu;
    private final HardwareWalker walker;
    private final Reclaimer reclaimer;
    private final GuestMemory memory = new GuestMemory(this);

    /** Where closed vCPUs point; never waited for in earnest, since nothing runs under it. */
    private final ReaderSlot tombstone = readers.take("closed vCPUs");

    private final RankedLock slotsLock = new RankedLock(LockRank.SLOTS);

    @GuardedBy("slotsLock")
    private final Set<VcpuRun> vcpus = new LinkedHashSet<>();

    /** Changes whose zap did not come to its end; their frames are kept until it does. */
    @GuardedBy("slotsLock")
    private final Set<SlotChange> unfinished = new LinkedHashSet<>();

    /** Replaced under the slots lock, read by any thread. */
    private volatile MmioRanges mmio = MmioRanges.NONE;

    /** Set once, before the flush that makes every vCPU look at it. */
    private volatile boolean closing;

    @GuardedBy("slotsLock")
    private boolean closed;

    /** Accesses and misses of vCPUs that are closed. */
    @GuardedBy("slotsLock")
    private long closedAccesses;

    @GuardedBy("slotsLock")
    private long closedMisses;

    /**
     * Makes a VM without memory and without vCPUs.
     *
     * @param config everything that is fixed
     */
    public Vm(VmConfig config) {
        this.config = Objects.requireNonNull(config, "config");
        this.account = new MemoryAccount(config.memoryCapInBytes());
        this.pool = new TablePool(id, account);
        this.rcu = new RcuDomain(readers, pool, config.maxRetiredPages(), config.stallTimeout());
        this.slots = new SlotRegistry(config, new FrameAllocator(account), id);
        this.mmu = new TdpMmu(config, id, readers, pool, slots, rcu, shootdown);
        this.walker = HardwareWalker.of(config);
        this.reclaimer = new Reclaimer(rcu, "tdpmmu-reclaim-" + config.name() + "-" + id);
        if (config.backgroundReclaim()) {
            reclaimer.start();
        }
    }

    /**
     * Allocates frames that the caller holds, to put them behind several slots or VMs with {@link Backing#held}.
     *
     * @param pageSize size of the frames
     * @param bytes length, a positive multiple of the frame size
     * @return frames, zero; close them when no new slot shall use them
     */
    public static FrameRun allocateSharedFrames(PageSize pageSize, long bytes) {
        return new FrameAllocator(new MemoryAccount(Long.MAX_VALUE)).allocate(pageSize.level(), bytes);
    }

    /**
     * Adds a memory slot.
     *
     * @param slotId 0 to 32763, not in use
     * @param gpa first guest physical address, multiple of 4096
     * @param bytes length, a positive multiple of 4096
     * @param backing what stands behind it
     * @param flags what it is told
     * @return the slot
     * @throws dev.tdpmmu.slot.SlotException naming what is wrong; nothing is changed then
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the frames do not fit under the cap; nothing is changed
     *     then
     * @kvm KVM_SET_USER_MEMORY_REGION
     */
    public MemSlot addSlot(int slotId, long gpa, long bytes, Backing backing, SlotFlag... flags) {
        lockSlots();
        try {
            SlotChange change = slots.add(slotId, gpa, bytes, backing, Set.of(flags));
            finish(change);
            return change.newSlot();
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Adds a memory slot with fresh, zero frames of its own: the usual one, for callers that never change it.
     *
     * @param slotId 0 to 32763, not in use
     * @param gpa first guest physical address, multiple of 4096
     * @param bytes length, a positive multiple of the page size
     * @param pageSize size of the frames, and so of the largest leaf
     * @param flags what it is told
     * @throws dev.tdpmmu.slot.SlotException naming what is wrong; nothing is changed then
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the frames do not fit under the cap; nothing is changed
     *     then
     */
    public void addMemory(int slotId, long gpa, long bytes, PageSize pageSize, SlotFlag... flags) {
        addSlot(slotId, gpa, bytes, Backing.anonymous(pageSize), flags);
    }

    /**
     * Removes a slot. When the call returns no vCPU and no device reaches its frames any more, and they are free.
     *
     * @param slot as added, moved or changed last
     */
    public void removeSlot(MemSlot slot) {
        lockSlots();
        try {
            finish(slots.remove(slot));
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Moves a slot with its content. When the call returns nobody reaches the frames at the old place.
     *
     * @param slot as added, moved or changed last
     * @param newGpa first guest physical address of the new place, multiple of 4096
     * @return the slot at its new place
     */
    public MemSlot moveSlot(MemSlot slot, long newGpa) {
        lockSlots();
        try {
            SlotChange change = slots.move(slot, newGpa);
            finish(change);
            return change.newSlot();
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Changes what a slot is told, while vCPUs run.
     *
     * @param slot as added, moved or changed last
     * @param flags the new flags; {@link SlotFlag#READ_ONLY} must stay as it is
     * @return the slot with its new flags
     */
    public MemSlot changeSlotFlags(MemSlot slot, SlotFlag... flags) {
        lockSlots();
        try {
            SlotChange change = slots.changeFlags(slot, Set.of(flags));
            finish(change);
            return change.newSlot();
        } finally {
            slotsLock.unlock();
        }
    }

    /** Makes a published change true everywhere: zap what is stale, wait for who still looks at it, free what is gone. */
    private void finish(SlotChange change) {
        unfinished.add(change);
        // MMIO entries carry only part of the generation. When that part wraps, entries of an old generation would look
        // new.
        boolean generationWrapped = (slots.current().generation() & SpteFormat.MMIO_GENERATION_MASK) == 0;
        // Of an earlier change that is unfinished, only the zap failed: this one does it again, or its frames would
        // be given away under a device that still uses them.
        if (change.needsZap() || generationWrapped || unfinished.size() > 1) {
            MemSlot old = change.oldSlot();
            mmu.zapAllFast(old.exists() ? old.baseGfn() : 0, old.exists() ? old.endGfn() : Long.MAX_VALUE);
            // Devices found the frames through the old slots; they are inside an epoch while they use them.
            rcu.synchronize();
        }
        for (SlotChange done : unfinished) {
            done.complete();
        }
        unfinished.clear();
    }

    /**
     * Puts a device behind a range of addresses. Slots win where both are.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0
     * @param handler the device
     */
    public void addMmio(long gpa, long bytes, MmioHandler handler) {
        Objects.requireNonNull(handler, "handler");
        if (gpa < 0 || bytes <= 0 || gpa > config.guestAddressLimit() - bytes) {
            throw new IllegalArgumentException("MMIO range does not exist: gpa=0x" + Long.toHexString(gpa) + ", bytes="
                    + bytes + ", limit=0x" + Long.toHexString(config.guestAddressLimit()));
        }
        lockSlots();
        try {
            mmio = mmio.with(gpa, bytes, handler);
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Removes a device.
     *
     * @param gpa first address of its range
     */
    public void removeMmio(long gpa) {
        lockSlots();
        try {
            mmio = mmio.without(gpa);
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Makes a vCPU.
     *
     * @return vCPU for one thread at a time; close it when it is not needed any more
     */
    public Vcpu createVcpu() {
        lockSlots();
        try {
            if (vcpus.size() >= config.maxVcpus()) {
                throw new IllegalStateException("too many vCPUs: count=" + vcpus.size() + ", max=" + config.maxVcpus());
            }
            VcpuMmu part = mmu.createVcpu(config.name() + " vCPU " + vcpus.size());
            VcpuRun run = new VcpuRun(this, part, walker, shootdown);
            vcpus.add(run);
            return new Vcpu(run, shootdown.sequenceAddress());
        } finally {
            slotsLock.unlock();
        }
    }

    void closeVcpu(VcpuRun run) {
        slotsLock.lock();
        try {
            if (run.isClosed() || closed) {
                return;
            }
            forget(run);
            vcpus.remove(run);
        } finally {
            slotsLock.unlock();
        }
    }

    private void forget(VcpuRun run) {
        closedAccesses += run.accesses;
        closedMisses += run.tlbMisses;
        run.markClosed(tombstone);
        mmu.closeVcpu(run.mmu());
    }

    /**
     * Returns the device view of this VM's memory.
     *
     * @return view, safe for use by many threads
     */
    public GuestMemory memory() {
        return memory;
    }

    /**
     * Tells where an address is mapped now, without any effect: no fault, no A or D bit, no TLB.
     *
     * @param gpa guest physical address
     * @return the mapping, or nothing if there is none
     */
    public Optional<Translation> translate(long gpa) {
        if (gpa < 0 || gpa >= config.guestAddressLimit()) {
            throw new IllegalArgumentException("address does not exist: gpa=0x" + Long.toHexString(gpa) + ", limit=0x"
                    + Long.toHexString(config.guestAddressLimit()));
        }
        ReaderSlot reader = takeReader();
        try {
            reader.enter(ReaderSlot.WALKING);
            checkOpen();
            for (TdpRoot root : mmu.roots().roots()) {
                if (!root.isInvalid()) {
                    return translate(root, gpa);
                }
            }
            return Optional.empty();
        } finally {
            giveReader(reader);
        }
    }

    private Optional<Translation> translate(TdpRoot root, long gpa) {
        SpteFormat format = mmu.format();
        long[] sptes = new long[config.pagingMode().levels() + 1];
        int level = mmu.walk().read(root, Gfn.of(gpa), sptes);
        long spte = sptes[level];
        if (!format.isLeaf(spte, level)) {
            return Optional.empty();
        }
        PageSize pageSize = PageSize.values()[level - 1];
        return Optional.of(new Translation(
                gpa,
                format.address(spte) | gpa & (pageSize.bytes() - 1),
                pageSize,
                format.isReadable(spte),
                format.isWritable(spte),
                format.isExecutable(spte),
                format.isAccessed(spte),
                format.isDirty(spte)));
    }

    /**
     * Returns the slots of now.
     *
     * @return immutable list, by address
     */
    public List<MemSlot> memorySlots() {
        checkOpen();
        return slots.current().asList();
    }

    /** Waits until every table page that was retired before the call is free again. */
    public void barrier() {
        checkOpen();
        rcu.barrier();
    }

    /**
     * Reports who holds the current grace period up, if it takes longer than the stall timeout.
     *
     * @return the report, or nothing if no grace period is stalled
     */
    public Optional<StallReport> stalledReader() {
        checkOpen();
        return rcu.isStalled() ? Optional.of(rcu.stallReport()) : Optional.empty();
    }

    /**
     * Takes table pages from the operating system ahead of time, so that faults do not pay its first touch.
     *
     * @param pages how many
     * @return how many the cap allowed
     */
    public int prewarmTables(int pages) {
        checkOpen();
        return pool.prewarm(pages);
    }

    /**
     * Walks all tables and checks every invariant, while faults wait.
     *
     * @return what was found
     * @throws MmuCorruptionException naming what is broken
     */
    public TreeCensus verify() {
        lockSlots();
        try {
            return mmu.verify();
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Walks all tables as {@link #verify} does, for callers that do not want to know what is in them.
     *
     * @throws MmuCorruptionException naming what is broken
     */
    public void checkTables() {
        verify();
    }

    /**
     * Returns statistics.
     *
     * @return values of now
     */
    public VmStats stats() {
        slotsLock.lock();
        try {
            long accesses = closedAccesses;
            long misses = closedMisses;
            for (VcpuRun run : vcpus) {
                accesses += run.accesses;
                misses += run.tlbMisses;
            }
            long tables = readers.sum(Counter.TABLES);
            return new VmStats(
                    readers.sum(Counter.PAGES_4K),
                    readers.sum(Counter.PAGES_2M),
                    readers.sum(Counter.PAGES_1G),
                    tables,
                    TablePool.bytesOf(tables),
                    readers.sum(Counter.PF_TAKEN),
                    readers.sum(Counter.PF_FIXED),
                    readers.sum(Counter.PF_FAST),
                    readers.sum(Counter.PF_SPURIOUS),
                    readers.sum(Counter.PF_EMULATE),
                    readers.sum(Counter.PF_RETRY),
                    readers.sum(Counter.MMIO_SPTE_CREATED),
                    readers.sum(Counter.SPLITS),
                    readers.sum(Counter.PROMOTIONS),
                    accesses,
                    misses,
                    shootdown.requested(),
                    shootdown.completed(),
                    shootdown.coalesced(),
                    readers.sum(Counter.LOCK_WAITS),
                    readers.sum(Counter.YIELDS),
                    rcu.retiredPages(),
                    rcu.reclaimedPages(),
                    account.usedInBytes(),
                    account.capInBytes());
        } finally {
            slotsLock.unlock();
        }
    }

    /**
     * Returns what the VM was made with.
     *
     * @return configuration
     */
    public VmConfig config() {
        return config;
    }

    /**
     * Returns the MMU, for benchmarks and tests of its parts. Its operations must have ended before the VM is closed.
     *
     * @return MMU of this VM
     */
    public TdpMmu mmu() {
        return mmu;
    }

    /**
     * Tells whether {@link #close} has begun.
     *
     * @return whether the VM cannot be used any more
     */
    public boolean isClosed() {
        return closing;
    }

    MemoryAccount account() {
        return account;
    }

    SlotRegistry slots() {
        return slots;
    }

    TlbShootdown shootdown() {
        return shootdown;
    }

    boolean isClosing() {
        return closing;
    }

    VmClosedException closedException() {
        return new VmClosedException(config.name());
    }

    void checkOpen() {
        if (closing) {
            throw closedException();
        }
    }

    MmioHandler mmioHandler(long gpa, int bytes, int access) {
        MemSlot slot = slots.current().find(Gfn.of(gpa));
        return mmio.find(gpa, bytes, access, slot.exists() && slot.isReadOnly());
    }

    ReaderSlot takeReader() {
        return readers.take("device");
    }

    void giveReader(ReaderSlot reader) {
        reader.leave(ReaderSlot.OUTSIDE);
        readers.give(reader);
    }

    private void lockSlots() {
        slotsLock.lock();
        if (closing) {
            slotsLock.unlock();
            throw closedException();
        }
    }

    /**
     * Ends the VM: stops its vCPUs at their next access, zaps everything, and returns all memory. A second call does
     * nothing. May be called from a device's handler.
     *
     * @throws IllegalStateException if something was leaked, after everything else has been returned
     * @kvm kvm_mmu_uninit_tdp_mmu
     */
    @Override
    public void close() {
        slotsLock.lock();
        try {
            if (closed) {
                return;
            }
            closed = true;
            closing = true;
            shootdown.flushAll();
            rcu.awaitAllOutside();
            for (VcpuRun run : vcpus) {
                closedAccesses += run.accesses;
                closedMisses += run.tlbMisses;
                mmu.detachVcpu(run.mmu());
            }
            vcpus.clear();
            mmu.zapAllForTeardown();
            rcu.barrier();
            reclaimer.close();
            for (SlotChange change : unfinished) {
                change.complete();
            }
            unfinished.clear();
            slots.close();
            mmu.close();
            pool.close();
        } finally {
            slotsLock.unlock();
        }
    }
}
