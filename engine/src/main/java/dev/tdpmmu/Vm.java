package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
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
import dev.tdpmmu.mmu.TreeCensus;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.sync.Reclaimer;
import dev.tdpmmu.sync.StallReport;
import dev.tdpmmu.trace.Trace;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;

/**
 * A virtual machine: memory slots, vCPUs, second-level page tables, and all that keeps them in step.
 *
 * <p>Safe for use by many threads. Slot changes are serialised; vCPUs run on meanwhile. {@link #close} returns every
 * byte, and is idempotent; whoever uses the VM afterwards, or is inside an access then, gets a {@link
 * VmClosedException}.
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
    private final DirtyLogging dirty;
    private final SlotChanges changes;
    private final Ageing ageing;
    private final NxHugePages nxHugePages;
    private final NxRecoveryAgent nxRecovery;
    private final WriteWatches watches;
    private final HostNotifier notifier;

    private final VcpuSet vcpus = new VcpuSet(readers.take("closed vCPUs"));

    private final SlotsGate slotsGate = new SlotsGate();

    /** Replaced under the slots lock, read by any thread. */
    private volatile MmioRanges mmio = MmioRanges.NONE;

    /** Set once, before the flush that makes every vCPU look at it. */
    private volatile boolean closing;

    /**
     * Makes a VM without memory and without vCPUs.
     *
     * @param config everything that is fixed
     */
    public Vm(VmConfig config) {
        this.config = Objects.requireNonNull(config, "config");
        Trace.isOn(); // Looks for the flight recorder now, not in the first fault.
        this.account = new MemoryAccount(config.memoryCapInBytes());
        this.pool = new TablePool(id, account);
        this.rcu = new RcuDomain(readers, pool, config.maxRetiredPages(), config.stallTimeout());
        this.slots = new SlotRegistry(config, new FrameAllocator(account), id);
        this.mmu = new TdpMmu(config, id, readers, pool, slots, rcu, shootdown);
        this.dirty = new DirtyLogging(config.dirtyLog(), slots, mmu.ranges(), shootdown, vcpus);
        this.notifier = new HostNotifier(slots, mmu.ranges(), rcu, config.unmapLock());
        this.changes = new SlotChanges(config, slots, mmu, rcu, dirty, notifier);
        this.watches = new WriteWatches(memory, mmu.ranges());
        this.ageing = new Ageing(this, mmu.ranges());
        this.nxHugePages = new NxHugePages(this);
        this.walker = HardwareWalker.of(config);
        this.reclaimer = new Reclaimer(rcu, "tdpmmu-reclaim-" + config.name() + "-" + id);
        this.nxRecovery = new NxRecoveryAgent(
                nxHugePages,
                "tdpmmu-nx-" + config.name() + "-" + id,
                config.nx().effectivePeriod().toNanos());
        if (config.backgroundReclaim()) {
            reclaimer.start();
        }
        startNxRecovery();
    }

    void startNxRecovery() {
        if (mmu.nxMitigation() && config.nx().recoveryRatio() != 0 && config.backgroundReclaim()) {
            nxRecovery.start();
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
        Objects.requireNonNull(backing, "backing");
        // Listens before the slot exists, and outside the slots lock, which is inside the host's.
        return notifier.attached(
                backing, () -> underSlotsLock(() -> changes.add(slotId, gpa, bytes, backing, Set.of(flags))));
    }

    /**
     * Adds a memory slot with fresh, zero frames of its own, for callers that never change it; fails as {@link
     * #addSlot}.
     *
     * @param slotId 0 to 32763, not in use
     * @param gpa first guest physical address, multiple of 4096
     * @param bytes length, a positive multiple of the page size
     * @param pageSize size of the frames, and so of the largest leaf
     * @param flags what it is told
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
        underSlotsLock(() -> {
                    changes.remove(slot);
                    return changes.takeGone();
                })
                .forEach(notifier::detach);
    }

    /**
     * Moves a slot with its content. When the call returns nobody reaches the frames at the old place.
     *
     * @param slot as added, moved or changed last
     * @param newGpa first guest physical address of the new place, multiple of 4096
     * @return the slot at its new place
     */
    public MemSlot moveSlot(MemSlot slot, long newGpa) {
        return underSlotsLock(() -> changes.move(slot, newGpa));
    }

    /**
     * Changes what a slot is told, while vCPUs run.
     *
     * @param slot as added, moved or changed last
     * @param flags the new flags; {@link SlotFlag#READ_ONLY} must stay as it is
     * @return the slot with its new flags
     */
    public MemSlot changeSlotFlags(MemSlot slot, SlotFlag... flags) {
        return underSlotsLock(() -> changes.changeFlags(slot, Set.of(flags)));
    }

    /**
     * Begins to log the stores to a slot, while vCPUs run.
     *
     * @param slot as added, moved or changed last, without a log
     * @return its log
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the bitmap does not fit under the cap; nothing is changed
     *     then
     */
    public DirtyLog startDirtyLog(MemSlot slot) {
        Set<SlotFlag> flags = new HashSet<>(slot.flags());
        if (!flags.add(SlotFlag.LOG_DIRTY)) {
            throw new IllegalStateException("stores to the slot are logged already: slot=" + slot);
        }
        return dirtyLog(changeSlotFlags(slot, flags.toArray(SlotFlag[]::new)));
    }

    /**
     * Returns the log of a slot that has {@link SlotFlag#LOG_DIRTY}.
     *
     * @param slot any version of the slot
     * @return its log
     * @throws IllegalStateException if stores to the slot are not logged
     */
    public DirtyLog dirtyLog(MemSlot slot) {
        dirty.logged(slot.id());
        return new DirtyLog(this, slot.id());
    }

    /**
     * Gives the entries that were collected from all dirty rings back, and arms their pages: a store that comes after
     * the call is in a ring again.
     *
     * @return entries given back
     * @kvm KVM_RESET_DIRTY_RINGS
     */
    public long resetDirtyRings() {
        return underSlotsLock(dirty::resetRings);
    }

    /**
     * Moves what the hardware of all vCPUs has logged into bitmaps or rings, while they run. A ring that is full takes
     * no more: reset the rings and drain again.
     *
     * @return stores moved
     */
    public long drainHardwareLogs() {
        return underSlotsLock(dirty::drain);
    }

    /** Does something that needs the slots to stay as they are, unless the VM is closing. */
    <T> T underSlotsLock(Supplier<T> action) {
        return slotsGate.under(() -> {
            checkOpen();
            return action.get();
        });
    }

    MemSlot changeSlotFlagsLocked(MemSlot slot, Set<SlotFlag> flags) {
        return changes.changeFlags(slot, flags);
    }

    /**
     * Returns the view of which pages were used lately.
     *
     * @return view
     */
    public Ageing ageing() {
        return ageing;
    }

    /**
     * Makes an estimate of a slot's working set.
     *
     * @param slot whose pages are scanned
     * @return estimate without a scan
     */
    public WorkingSet workingSet(MemSlot slot) {
        checkOpen();
        return new WorkingSet(this, slot);
    }

    /**
     * Returns the mitigation that forbids the execution of huge pages.
     *
     * @return switch, statistic and recovery
     */
    public NxHugePages nxHugePages() {
        return nxHugePages;
    }

    /**
     * Begins to report the stores of vCPUs to some pages.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0; all pages that the range touches are watched
     * @param watcher told of each store to the range's pages
     * @return the watch, to be closed
     */
    public WriteWatch watchWrites(long gpa, long bytes, WriteWatcher watcher) {
        Objects.requireNonNull(watcher, "watcher");
        checkRange(gpa, bytes);
        WriteWatch watch = new WriteWatch(this, Gfn.of(gpa), Gfn.of(gpa + bytes - 1) + 1, watcher);
        return underSlotsLock(() -> {
            watches.add(watch);
            return watch;
        });
    }

    void unwatch(WriteWatch watch) {
        slotsGate.underUnlessShut(() -> watches.remove(watch));
    }

    WriteWatches watches() {
        return watches;
    }

    /**
     * Takes the memory of a range away, as a balloon does: unmaps it, forgets its content, gives it back to the
     * operating system. The next access finds zeros. vCPUs run on.
     *
     * @param gpa first guest physical address, multiple of 4096
     * @param bytes length, a positive multiple of 4096, within one slot
     * @throws IllegalArgumentException if the range is no such range, or its slot has no frames of its own
     */
    public void discard(long gpa, long bytes) {
        checkRange(gpa, bytes);
        if (!notifier.discard(gpa, bytes)) {
            throw closedException();
        }
    }

    /**
     * Removes all leaves of a range; they fault in again.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0
     * @return leaves removed
     * @kvm kvm_zap_gfn_range
     */
    public long zap(long gpa, long bytes) {
        checkRange(gpa, bytes);
        return underSlotsLock(
                () -> mmu.ranges().unmap(Gfn.of(gpa), Gfn.of(gpa + bytes - 1) + 1, config.unmapLock(), true));
    }

    void checkRange(long gpa, long bytes) {
        checkOpen();
        if (gpa < 0 || bytes <= 0 || gpa > config.guestAddressLimit() - bytes) {
            throw new IllegalArgumentException("range does not exist: gpa=0x" + Long.toHexString(gpa) + ", bytes="
                    + bytes + ", limit=0x" + Long.toHexString(config.guestAddressLimit()));
        }
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
        checkRange(gpa, bytes);
        underSlotsLock(() -> mmio = mmio.with(gpa, bytes, handler));
    }

    /**
     * Removes a device.
     *
     * @param gpa first address of its range
     */
    public void removeMmio(long gpa) {
        underSlotsLock(() -> mmio = mmio.without(gpa));
    }

    /**
     * Makes a vCPU.
     *
     * @return vCPU for one thread at a time; close it when it is not needed any more
     */
    public Vcpu createVcpu() {
        VcpuRun run = underSlotsLock(() -> vcpus.add(this, account, walker));
        return new Vcpu(run, shootdown.sequenceAddress());
    }

    void closeVcpu(VcpuRun run) {
        slotsGate.underUnlessShut(() -> {
            if (!run.isClosed()) {
                vcpus.remove(run, dirty, mmu);
            }
        });
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
        checkRange(gpa, 1);
        return Translation.find(this, gpa);
    }

    /**
     * Explains why an access is allowed or refused, by the tables alone and without any effect. {@link Vcpu#explain}
     * also looks at what a vCPU has cached.
     *
     * @param gpa guest physical address
     * @param access bits of {@link dev.tdpmmu.base.Access}, at least one
     * @return every entry on the way, the verdict, and what the MMU would do with the fault
     */
    public WalkExplanation explain(long gpa, int access) {
        return Explainer.explain(this, gpa, access);
    }

    /**
     * Returns all that the tables map, as ranges. Takes no lock; guests run on, so two entries may be of different
     * moments.
     *
     * @param options what to do differently
     * @return value that nothing changes any more
     * @kvm arch/x86/mm/dump_pagetables.c
     */
    public TableDump dump(DumpOption... options) {
        return Dumper.dump(this, options);
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
     * @throws dev.tdpmmu.hardware.StaleTranslationException in proof runs, if a vCPU was about to use a translation
     *     that had been flushed
     */
    public TreeCensus verify() {
        shootdown.requireCoherent();
        return underSlotsLock(mmu::verify);
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
     * Returns statistics. Takes no lock.
     *
     * @return values of now
     */
    public VmStats stats() {
        return new StatsCollector(readers, rcu, shootdown, account, mmu, dirty).collect(vcpus);
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

    DirtyLogging dirtyLogging() {
        return dirty;
    }

    TlbShootdown shootdown() {
        return shootdown;
    }

    VmClosedException closedException() {
        return new VmClosedException(config.name());
    }

    void checkOpen() {
        if (closing) {
            throw closedException();
        }
    }

    MmioRanges mmio() {
        return mmio;
    }

    ReaderSlot takeReader() {
        return readers.take("device");
    }

    void giveReader(ReaderSlot reader) {
        reader.leave(ReaderSlot.OUTSIDE);
        readers.give(reader);
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
        try {
            slotsGate.shut(this::closeLocked);
        } finally {
            changes.takeGone().forEach(notifier::detach);
        }
    }

    private void closeLocked() {
        // Before the VM counts as closing: a round that is under way ends as it would otherwise.
        nxRecovery.close();
        closing = true;
        shootdown.flushAll();
        rcu.awaitAllOutside();
        vcpus.detachAll(mmu);
        mmu.zapAllForTeardown();
        // The host may change pages until we stop to listen, which is outside the slots lock: it finds nothing
        // here. Before the barrier: a notification under way may drop the last reference on a root and retire it.
        notifier.close();
        rcu.barrier();
        reclaimer.close();
        changes.close();
        slots.close();
        mmu.close();
        pool.close();
    }
}
