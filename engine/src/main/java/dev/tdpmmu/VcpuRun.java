package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.hardware.ExitQualification;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.LinearResult;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.hardware.NptErrorCode;
import dev.tdpmmu.hardware.PmlBuffer;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.MemoryCapExceededException;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * What a vCPU does when an access is not a mere TLB hit: requests, hardware walk, exits, faults, devices. The loop of
 * {@code vcpu_enter_guest}, one access long.
 *
 * <p>Fields are read by {@link Vcpu}'s accesses. Belongs to one thread at a time.
 */
final class VcpuRun {
    /** The access has to be done by a device. */
    static final long MMIO = -2;

    /** Violations in a row without progress after which the thread lets others run; it is outside every section then. */
    private static final int RETRIES_BEFORE_YIELD = 8;

    private final Vm vm;
    private final VcpuMmu mmu;
    private final FaultHandler faults;
    private final HardwareWalker walker;
    private final TlbShootdown shootdown;
    private final DirtyLogging dirty;
    private final DirtyRing ring;
    private final boolean ept;
    private final long addressLimit;
    private final WalkResult walk = new WalkResult();

    final Tlb tlb;

    /** Slot of this vCPU; after close the VM's tombstone, since the slot may have a new owner. */
    ReaderSlot slot;

    /** Flush sequence that was applied last. */
    long seenSequence;

    /** Fetches, touches and others that do not begin in {@link GuestEntry}. */
    long accesses;

    long tlbMisses;
    long exits;
    FaultObserver observer;

    /** What the vCPU does while its guest's own paging is on; null until it is for the first time. */
    LinearRun linear;

    private GuestEntry entry;
    private long rootPointer;
    private boolean closed;

    /**
     * The hardware's log of stores; absent until stores were logged for the first time. Read by who collects: a log
     * that it does not see yet is empty, since its maker acknowledges the flush that comes with the switch only after.
     */
    private volatile PmlBuffer log;

    private boolean hardwareLogs;
    private Runnable ringFullHandler;

    /** Whether the last thing this vCPU wanted was memory that was not there. */
    private boolean starved;

    VcpuRun(Vm vm, VcpuMmu mmu, HardwareWalker walker, TlbShootdown shootdown) {
        this.vm = vm;
        this.mmu = mmu;
        this.walker = walker;
        this.shootdown = shootdown;
        this.dirty = vm.dirtyLogging();
        this.ring = mmu.ring();
        this.slot = mmu.slot();
        this.faults = vm.mmu().faults();
        this.ept = vm.config().pagingMode().isEpt();
        this.addressLimit = vm.config().guestAddressLimit();
        this.seenSequence = HostWords.readVolatile(shootdown.sequenceAddress());
        // What the slot's last owner acknowledged, or 0, may count as later than a flush to come once the sequence
        // has wrapped: that flush would not wait for us.
        slot.acknowledge(seenSequence);
        this.tlb = shootdown.newTlb(vm.config().hardware().tlb(), slot.name(), seenSequence);
        followLogSwitch();
    }

    /**
     * Translates an access that missed, or that found a request; faults until it can be done.
     *
     * @param gpa guest physical address
     * @param access one bit of {@link Access}
     * @return host physical address, the slot being in the guest; or {@link #MMIO}, the slot being outside
     * @throws GuestAccessException if the access cannot be done; the slot is outside then
     */
    long translate(long gpa, int access) {
        long hpa = translateAny(gpa, access);
        if (hpa >= 0 && !HostMemory.isFrame(hpa)) {
            slot.leave(ReaderSlot.OUTSIDE);
            throw new GuestAccessException(GuestAccessException.Reason.NO_BYTES, gpa, access);
        }
        return hpa;
    }

    long translateFetch(long gpa) {
        long hpa = translate(gpa, Access.EXECUTE);
        if (hpa < 0) {
            throw fetchFromMmio(gpa);
        }
        return hpa;
    }

    GuestAccessException fetchFromMmio(long gpa) {
        // Throws itself if no device is there either.
        mmioHandler(gpa, Integer.BYTES, Access.EXECUTE);
        return new GuestAccessException(GuestAccessException.Reason.FETCH_FROM_MMIO, gpa, Access.EXECUTE);
    }

    @HotPath
    boolean touch(long gpa, int access) {
        accesses++;
        slot.enter(ReaderSlot.IN_GUEST);
        long hpa = translateAny(gpa, access);
        if (hpa < 0) {
            return false;
        }
        slot.leave(ReaderSlot.OUTSIDE);
        return true;
    }

    private long translateAny(long gpa, int access) {
        boolean done = false;
        try {
            long hpa = run(gpa, access);
            done = true;
            return hpa;
        } finally {
            if (!done) {
                // Whatever was thrown: nobody may wait for a section of ours any more.
                slot.leave(ReaderSlot.OUTSIDE);
            }
        }
    }

    /** Has the coherence oracle judge a hit. In the guest; leaves it if the hit is on what a flush should have removed. */
    void judgeHit(long gpa, int access) {
        boolean done = false;
        try {
            tlb.judgeHit(gpa, access);
            done = true;
        } finally {
            if (!done) {
                slot.leave(ReaderSlot.OUTSIDE);
            }
        }
    }

    /** Makes known whose accesses this runs. */
    void attach(GuestEntry front) {
        entry = front;
    }

    long accesses() {
        return entry == null ? accesses : accesses + entry.ownAccesses();
    }

    /** For who looks at what a vCPU leaves behind: not after the VM's close either. */
    DirtyRing openRing() {
        checkNotClosed();
        vm.checkOpen();
        return ring;
    }

    void checkNotClosed() {
        if (closed) {
            throw new IllegalStateException("vCPU is closed: vcpu=" + mmu.slot().name());
        }
    }

    private long run(long gpa, int access) {
        checkNotClosed();
        if (gpa < 0 || gpa >= addressLimit) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.BEYOND_LIMIT,
                    gpa,
                    access,
                    ", limit=0x" + Long.toHexString(addressLimit));
        }
        int fruitless = 0;
        boolean missed = false;
        while (true) {
            if (!serveRequests()) {
                continue;
            }
            if (isRingFull()) {
                leaveForFullRing(gpa, access);
                continue;
            }
            if (!missed) {
                // Once an access: what a violation was about is in no cache, however often the walk is repeated.
                long cached = cached(gpa, access);
                if (cached >= 0) {
                    return cached;
                }
                missed = true;
                tlbMisses++;
            }
            int outcome = walker.walkOrRefuse(tlb, rootPointer, gpa, access, walk);
            if (outcome == HardwareWalker.OK) {
                // A frame without bytes never enters the TLB, so that a hit need not ask whether there are any.
                if (HostMemory.isFrame(walk.frame)) {
                    tlb.insert(gpa, walk);
                }
                return walk.frame | gpa & Gfn.PAGE_OFFSET_MASK;
            }
            if (outcome == HardwareWalker.LOG_FULL) {
                drainFullLog();
                continue;
            }
            FaultResult result = exit(gpa, access, outcome);
            if (result == FaultResult.EMULATE) {
                slot.leave(ReaderSlot.OUTSIDE);
                return MMIO;
            }
            fruitless = reenter(result, fruitless);
        }
    }

    /** Enters the guest again after an exit; returns how many exits in a row were fruitless. */
    int reenter(FaultResult result, int fruitlessBefore) {
        int fruitless = result == FaultResult.FIXED ? 0 : fruitlessBefore + 1;
        if (fruitless == RETRIES_BEFORE_YIELD) {
            // Somebody keeps changing these tables, maybe a thread that waits for our processor.
            fruitless = 0;
            if (!Interleave.blocked()) {
                Thread.yield();
            }
        }
        slot.enter(ReaderSlot.IN_GUEST);
        return fruitless;
    }

    @HotPath
    private long cached(long gpa, int access) {
        if (access == Access.READ) {
            return tlb.readFrame(gpa);
        }
        return access == Access.WRITE ? tlb.writeFrame(gpa) : tlb.executeFrame(gpa);
    }

    /**
     * Applies flushes and loads a root, between two accesses.
     *
     * @return false if the guest was left meanwhile, so that there may be new requests
     */
    boolean serveRequests() {
        long sequence = HostWords.readVolatile(shootdown.sequenceAddress());
        if (sequence != seenSequence) {
            if (vm.isClosed()) {
                // The sequence stays unseen: every later access comes here as well.
                throw vm.closedException();
            }
            shootdown.apply(tlb, linear == null ? null : linear.tlb, seenSequence, sequence);
            followLogSwitch();
            seenSequence = sequence;
            slot.acknowledge(sequence);
        }
        if (Debug.PROVE) {
            tlb.applied(sequence);
            if (linear != null) {
                linear.tlb.applied(sequence);
            }
        }
        if (mmu.hasRoot() && !mmu.root().isInvalid()) {
            return true;
        }
        reloadRoot();
        return false;
    }

    private void reloadRoot() {
        slot.leave(ReaderSlot.HANDLING);
        vm.mmu().unloadRoot(mmu);
        if (!vm.mmu().loadRoot(mmu)) {
            awaitMemory();
        } else {
            starved = false;
            rootPointer = walker.makeRootPointer(mmu.root().hpa());
            flushTlbs();
        }
        slot.leave(ReaderSlot.HANDLING);
        slot.enter(ReaderSlot.IN_GUEST);
    }

    FaultResult exit(long gpa, int access, int outcome) {
        drainLog();
        slot.leave(ReaderSlot.HANDLING);
        exits++;
        long start = observer == null ? 0 : System.nanoTime();
        FaultResult result = outcome == HardwareWalker.VIOLATION
                ? faults.handle(mmu, gpa, access, isPresent(walk.exit))
                : faults.handleMisconfiguration(mmu, gpa, access);
        if (result == FaultResult.OUT_OF_MEMORY) {
            awaitMemory();
        } else if (result == FaultResult.MEMORY_FAULT) {
            throw new GuestAccessException(GuestAccessException.Reason.HOST_READ_ONLY, gpa, access);
        } else {
            starved = false;
        }
        if (observer != null) {
            observer.faultHandled(System.nanoTime() - start);
        }
        return result;
    }

    /** Turns the hardware's word into a neutral one: whether an entry was there that forbade the access. */
    private boolean isPresent(long exit) {
        return ept ? ExitQualification.isPresent(exit) : NptErrorCode.isPresent(exit);
    }

    /** Waits for retired table pages to come back and lets the access try again; if that did not help, the cap is final. */
    private void awaitMemory() {
        if (starved) {
            starved = false;
            throw new MemoryCapExceededException("table pages", TablePool.bytesOf(1), vm.account());
        }
        starved = true;
        vm.mmu().rcu().barrier();
    }

    /** Has the hardware log stores, or not any more, as the VM wants it. In the guest, before a flush is acknowledged. */
    private void followLogSwitch() {
        boolean wanted = dirty.hardwareLogs();
        if (wanted == hardwareLogs) {
            return;
        }
        hardwareLogs = wanted;
        if (!wanted) {
            drainLog();
            walk.stopLogging();
            return;
        }
        if (log == null) {
            log = new PmlBuffer();
        }
        walk.logStoresTo(log);
    }

    /** Marks everything that the hardware has logged and makes room. In the guest: inside an epoch. */
    @HotPath
    private void drainLog() {
        if (log != null && log.index() != PmlBuffer.ENTRIES - 1) {
            drainWholeLog();
        }
    }

    /** Makes room in a log without any. In the guest. */
    void drainFullLog() {
        dirty.countLogFull();
        drainLog();
    }

    private void drainWholeLog() {
        log.lock();
        try {
            dirty.drain(log, ring, true);
            log.reset();
        } finally {
            log.unlock();
        }
    }

    /** Marks what the hardware has logged so far, for somebody who collects while this vCPU runs. */
    long drainLogFromOutside() {
        PmlBuffer theirs = log;
        if (theirs == null) {
            return 0;
        }
        theirs.lock();
        try {
            return dirty.drain(theirs, ring, false);
        } finally {
            theirs.unlock();
        }
    }

    /** As {@link #drainLogFromOutside}, but all of it, into the bitmaps. */
    void drainLogIntoBitmaps() {
        PmlBuffer theirs = log;
        if (theirs == null) {
            return;
        }
        theirs.lock();
        try {
            dirty.drain(theirs, DirtyRing.NONE, true);
        } finally {
            theirs.unlock();
        }
    }

    /** Ends the access until the ring has room: by the handler, or by telling the caller. */
    void leaveForFullRing(long gpa, int access) {
        dirty.countRingFull();
        slot.leave(ReaderSlot.OUTSIDE);
        Runnable handler = ringFullHandler;
        if (handler == null) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.DIRTY_RING_FULL,
                    gpa,
                    access,
                    ", used=" + ring.used() + ", entries=" + ring.entries());
        }
        handler.run();
        vm.checkOpen();
        slot.enter(ReaderSlot.IN_GUEST);
    }

    boolean isRingFull() {
        return ring.isSoftFull();
    }

    void onDirtyRingFull(Runnable handler) {
        ringFullHandler = handler;
    }

    /** Whether a store that left the guest is to be made in memory: its page is, or was until now, watched. */
    boolean isMemory(long gpa) {
        MemSlot memSlot = vm.slots().current().find(Gfn.of(gpa));
        return memSlot.exists() && !memSlot.isReadOnly();
    }

    MmioHandler mmioHandler(long gpa, int bytes, int access) {
        MemSlot memSlot = vm.slots().current().find(Gfn.of(gpa));
        return vm.mmio().find(gpa, bytes, access, memSlot.exists() && memSlot.isReadOnly());
    }

    long mmioRead(long gpa, int bytes) {
        long value = mmioHandler(gpa, bytes, Access.READ).read(gpa, bytes);
        return bytes == Long.BYTES ? value : value & (1L << (bytes * Byte.SIZE)) - 1;
    }

    void mmioWrite(long gpa, int bytes, long value) {
        if (isMemory(gpa)) {
            vm.watches().store(gpa, bytes, value);
            return;
        }
        mmioHandler(gpa, bytes, Access.WRITE).write(gpa, bytes, value);
    }

    GuestAccessException bulkOnMmio(long gpa, int access) {
        // Throws itself if nothing at all is there.
        mmioHandler(gpa, 1, access);
        return new GuestAccessException(GuestAccessException.Reason.NO_BYTES, gpa, access, ", device=true");
    }

    GuestAccessException atomicOnMmio(long gpa, int bytes) {
        // Throws itself if no device is there either.
        mmioHandler(gpa, bytes, Access.WRITE);
        return new GuestAccessException(GuestAccessException.Reason.ATOMIC_ON_MMIO, gpa, Access.WRITE);
    }

    /** Replaces a value in a watched page, or says that a device cannot do it. */
    boolean compareAndSetEmulated(long gpa, int bytes, long expected, long value) {
        if (isMemory(gpa)) {
            return vm.watches().compareAndSet(gpa, bytes, expected, value);
        }
        throw atomicOnMmio(gpa, bytes);
    }

    /** Copies into one page that is watched, or says that nobody can. */
    void writeEmulated(long gpa, byte[] source, int offset, int length) {
        if (!isMemory(gpa)) {
            throw bulkOnMmio(gpa, Access.WRITE);
        }
        for (int i = 0; i < length; i++) {
            vm.watches().store(gpa + i, Byte.BYTES, source[offset + i]);
        }
    }

    /** Makes sure that later accesses to single bytes of one page will not be refused. */
    void requireMapped(long gpa, int bytes, int access) {
        if (!touch(gpa, access) && !isMemory(gpa)) {
            for (int i = 0; i < bytes; i++) {
                mmioHandler(gpa + i, 1, access);
            }
        }
    }

    static void checkAligned(long gpa, int bytes, int access) {
        if ((gpa & (bytes - 1)) != 0) {
            throw new GuestAccessException(GuestAccessException.Reason.MISALIGNED, gpa, access, ", alignment=" + bytes);
        }
    }

    String name() {
        return mmu.slot().name();
    }

    VcpuMmu mmu() {
        return mmu;
    }

    long rootPointer() {
        return rootPointer;
    }

    /** Turns the guest's own paging on, or changes its registers. */
    GuestLinear enablePaging(GuestPaging paging) {
        checkNotClosed();
        vm.checkOpen();
        if (linear == null) {
            LinearTlb own = shootdown.newLinearTlb(vm.config().hardware().tlb(), slot.name(), seenSequence);
            linear = new LinearRun(this, vm, walker, new LinearResult(walk), own, shootdown.sequenceAddress());
        }
        linear.load(paging);
        return linear.view;
    }

    /** Forgets all translations of this vCPU, whatever they are of. */
    void flushTlbs() {
        tlb.flushAll();
        if (linear != null) {
            linear.tlb.flushAll();
        }
    }

    WalkExplanation explain(long gpa, int access) {
        checkNotClosed();
        return Explainer.explain(vm, this, gpa, access);
    }

    /** Whether the next access begins with a flush. For who looks at a vCPU at rest. */
    boolean hasFlushPending() {
        return HostWords.readVolatile(shootdown.sequenceAddress()) != seenSequence;
    }

    boolean isClosed() {
        return closed;
    }

    void close() {
        vm.closeVcpu(this);
    }

    /** Gives the hardware's log back. No access is under way. */
    void closeLog() {
        walk.stopLogging();
        PmlBuffer old = log;
        if (old != null) {
            log = null;
            old.close();
        }
    }

    /** Points this vCPU at the tombstone, so that a late access cannot write the slot's next owner. */
    void markClosed(ReaderSlot tombstone) {
        closed = true;
        closeLog();
        slot = tombstone;
        if (entry != null) {
            entry.moveTo(tombstone);
        }
        flushTlbs();
    }
}
