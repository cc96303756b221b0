package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.DirtyLogConfig;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.hardware.PmlBuffer;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.trace.DirtyHarvestEvent;
import dev.tdpmmu.trace.Trace;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;

/**
 * The dirty log of a VM: switches it for a slot, collects what was stored to, arms pages again.
 *
 * <p>Switching on, in this order: the slot with the flag and a bitmap is published; faults that saw the old slot retry,
 * epochs that saw it end; the hardware of every vCPU is made to log; huge leaves are split or protected; leaves are
 * armed; one flush. From the flush on no store is missed: one that came before it is one of the time before the log.
 *
 * <p>Harvest: drain the hardware's logs; take the marks; arm exactly those pages; flush; hand out. A store after the
 * taking of its page's mark either went through an entry that was not armed yet, and is in the memory that the caller
 * reads after the flush, or is logged anew.
 *
 * <p>Everything here runs under the slots lock; vCPUs mark and drain without it.
 */
final class DirtyLogging {
    /** Entries of a ring that are reset before pages are armed and others are let in. */
    private static final int RESET_STEP = 4096;

    private final DirtyLogConfig config;
    private final SlotRegistry slots;
    private final RangeOperations ranges;
    private final TlbShootdown shootdown;
    private final VcpuSet vcpus;

    /** Reader of whoever holds the slots lock. */
    private final ReaderSlot reader;

    /** Slots whose stores are logged. */
    @GuardedBy("slots lock")
    private int loggingSlots;

    /** Whether the hardware shall log; vCPUs look at it when they apply a flush. */
    private volatile boolean hardwareLogs;

    /** A slot whose move is under way: its marks go on counting. */
    private volatile MemSlot moving = MemSlot.NONE;

    private final LongAdder harvestedPages = new LongAdder();
    private final LongAdder logFullExits = new LongAdder();
    private final LongAdder ringFullExits = new LongAdder();

    DirtyLogging(
            DirtyLogConfig config, SlotRegistry slots, RangeOperations ranges, TlbShootdown shootdown, VcpuSet vcpus) {
        this.config = config;
        this.slots = slots;
        this.ranges = ranges;
        this.shootdown = shootdown;
        this.vcpus = vcpus;
        this.reader = vcpus.reader();
    }

    DirtyLogConfig config() {
        return config;
    }

    /** Tells whether vCPUs shall have the hardware log their stores. */
    boolean hardwareLogs() {
        return hardwareLogs;
    }

    /** Arms a slot whose log has just been published. */
    void start(MemSlot slot) {
        long startGfn = slot.baseGfn();
        long endGfn = slot.endGfn();
        ranges.retryFaults(startGfn, endGfn);
        loggingSlots++;
        if (config.pml() && !hardwareLogs) {
            hardwareLogs = true;
            // Before any D is cleared: a vCPU that sets D again must log it.
            shootdown.flushAll();
        }
        if (config.tracking() == DirtyTracking.INITIALLY_SET) {
            // Every page counts as dirty already: there is nothing that a store could add before its page is cleared.
            return;
        }
        if (config.eagerSplit()) {
            ranges.split(startGfn, endGfn, PagingLevel.L4K);
        }
        if (config.pml()) {
            ranges.writeProtect(startGfn, endGfn, PagingLevel.L2M);
            ranges.clearDirty(startGfn, endGfn);
        } else {
            ranges.writeProtect(startGfn, endGfn);
        }
    }

    /** Says that a slot does not log any more, or has gone: the last one lets the hardware stop. */
    void stopped() {
        loggingSlots--;
        if (loggingSlots == 0 && hardwareLogs) {
            hardwareLogs = false;
            // Each vCPU drains and stops its log before it acknowledges, or before its next access.
            shootdown.flushAll();
        }
        // Of the slot that has stopped nothing may stay behind where a ring has no room: it would be reported by the
        // slot's next log, for stores that came before that.
        drainCompletely();
    }

    /** Keeps the marks of a slot that is about to move: what hardware has logged names its old place. */
    void beginMove(MemSlot slot) {
        if (slot.logsDirty()) {
            moving = slot;
        }
    }

    /** Ends {@link #beginMove}: no store goes to the old place any more. */
    void endMove() {
        if (moving.exists()) {
            // Soon nobody knows what the rest names.
            drainCompletely();
            moving = MemSlot.NONE;
        }
    }

    /**
     * Takes what was stored to since the last harvest; with manual protection copies it.
     *
     * @return pages
     */
    long harvest(MemSlot slot, DirtyPages into) {
        checkSize(slot, into);
        DirtyHarvestEvent event = Trace.beginDirtyHarvest();
        long pages = harvestLocked(slot, into);
        Trace.endDirtyHarvest(event, slot.id(), pages);
        return pages;
    }

    private long harvestLocked(MemSlot slot, DirtyPages into) {
        drain();
        if (config.tracking() == DirtyTracking.MANUAL_PROTECT || config.tracking() == DirtyTracking.INITIALLY_SET) {
            return slot.dirtyBitmap().copy(into);
        }
        long pages = slot.dirtyBitmap().harvest(into);
        if (pages > 0) {
            ranges.arm(slot, into, config.clearLock());
        }
        harvestedPages.add(pages);
        return pages;
    }

    /**
     * Clears pages of a slot under manual protection and arms them.
     *
     * @return pages that were dirty
     */
    long clear(MemSlot slot, DirtyPages pages) {
        if (config.tracking() != DirtyTracking.MANUAL_PROTECT && config.tracking() != DirtyTracking.INITIALLY_SET) {
            throw new IllegalStateException("pages are cleared by the harvest: dirtyTracking=" + config.tracking());
        }
        checkSize(slot, pages);
        // Or pages would be found dirty later for stores that the caller is about to read.
        drain();
        DirtyPages cleared = new DirtyPages(slot.pages());
        for (long page = pages.next(0); page >= 0; page = nextWord(pages, page)) {
            int word = (int) (page >>> 6);
            long bits = slot.dirtyBitmap().clearWord(word, pages.word(word));
            for (long left = bits; left != 0; left &= left - 1) {
                cleared.add(((long) word << 6) + Long.numberOfTrailingZeros(left));
            }
        }
        if (cleared.count() == 0) {
            return 0;
        }
        if (config.tracking() == DirtyTracking.INITIALLY_SET) {
            splitFor(slot, cleared);
        }
        ranges.arm(slot, cleared, config.clearLock());
        harvestedPages.add(cleared.count());
        return cleared.count();
    }

    private static void checkSize(MemSlot slot, DirtyPages pages) {
        if (pages.pages() != slot.pages()) {
            throw new IllegalArgumentException("set of pages has another size than the slot: pages=" + pages.pages()
                    + ", slotPages=" + slot.pages());
        }
    }

    private static long nextWord(DirtyPages pages, long page) {
        long next = (page >>> 6 << 6) + Long.SIZE;
        return next < pages.pages() ? pages.next(next) : -1;
    }

    /** Splits and protects the huge leaves around pages; enabling the log has left them as they were. */
    private void splitFor(MemSlot slot, DirtyPages pages) {
        long page = pages.next(0);
        while (page >= 0) {
            long startGfn = Gfn.alignDown(slot.baseGfn() + page, PagingLevel.L2M);
            long endGfn = startGfn;
            do {
                endGfn += PagingLevel.pages(PagingLevel.L2M);
                long next = endGfn - slot.baseGfn();
                page = next < pages.pages() ? pages.next(next) : -1;
                // Neighbouring blocks in one go.
            } while (page >= 0 && slot.baseGfn() + page < endGfn + PagingLevel.pages(PagingLevel.L2M));
            long from = Math.max(startGfn, slot.baseGfn());
            long to = Math.min(endGfn, slot.endGfn());
            if (config.eagerSplit()) {
                ranges.split(from, to, PagingLevel.L4K);
            }
            ranges.writeProtect(from, to, PagingLevel.L2M);
        }
    }

    /**
     * Gives the entries that a user has collected back to all rings, and arms their pages.
     *
     * @return entries
     */
    long resetRings() {
        long entries = 0;
        for (VcpuRun run : vcpus) {
            int ofRing = 0;
            int reset;
            do {
                Map<Integer, DirtyPages> armed = new HashMap<>();
                reset = run.mmu()
                        .ring()
                        .reset((slotId, firstPage, mask) -> add(armed, slotId, firstPage, mask), RESET_STEP);
                armed.forEach((slotId, pages) -> ranges.arm(slots.current().byId(slotId), pages, config.clearLock()));
                ofRing += reset;
                // At most one lap: a user who collects as fast as we reset would keep us here for ever.
            } while (reset == RESET_STEP && ofRing < run.mmu().ring().entries());
            entries += ofRing;
        }
        harvestedPages.add(entries);
        return entries;
    }

    private void add(Map<Integer, DirtyPages> armed, int slotId, long firstPage, long mask) {
        MemSlot slot = slots.current().byId(slotId);
        if (!slot.logsDirty()) {
            // Removed or not logged any more since the entry was pushed: nothing to arm.
            return;
        }
        DirtyPages pages = armed.computeIfAbsent(slotId, id -> new DirtyPages(slot.pages()));
        for (long left = mask; left != 0; left &= left - 1) {
            long page = firstPage + Long.numberOfTrailingZeros(left);
            if (page < slot.pages()) {
                pages.add(page);
            }
        }
    }

    /** Marks what the hardware of all vCPUs has logged so far, while they run. */
    long drain() {
        long drained = 0;
        if (config.pml()) {
            for (VcpuRun run : vcpus) {
                drained += drain(run);
            }
        }
        return drained;
    }

    /** Marks what the hardware of one vCPU has logged so far. */
    long drain(VcpuRun run) {
        reader.enter(ReaderSlot.WALKING);
        try {
            return run.drainLogFromOutside();
        } finally {
            reader.leave(ReaderSlot.OUTSIDE);
        }
    }

    /** Marks all that the hardware of all vCPUs has logged: in the bitmaps what the rings have no room for. */
    private void drainCompletely() {
        drain();
        if (config.pml()) {
            for (VcpuRun run : vcpus) {
                drainIntoBitmaps(run);
            }
        }
    }

    private void drainIntoBitmaps(VcpuRun run) {
        reader.enter(ReaderSlot.WALKING);
        try {
            run.drainLogIntoBitmaps();
        } finally {
            reader.leave(ReaderSlot.OUTSIDE);
        }
    }

    /**
     * Moves what a vCPU's log and ring hold into the bitmaps, before they go. Also what was collected and not reset:
     * its pages are not armed yet.
     */
    void close(VcpuRun run) {
        drain(run);
        drainIntoBitmaps(run);
        DirtyRing ring = run.mmu().ring();
        ring.collect((slotId, page) -> {}, Integer.MAX_VALUE);
        ring.reset(this::markAgain, Integer.MAX_VALUE);
    }

    private void markAgain(int slotId, long firstPage, long mask) {
        MemSlot slot = slots.current().byId(slotId);
        for (long left = slot.logsDirty() ? mask : 0; left != 0; left &= left - 1) {
            long page = firstPage + Long.numberOfTrailingZeros(left);
            if (page < slot.pages()) {
                slot.dirtyBitmap().mark(page);
            }
        }
    }

    /**
     * Marks what a hardware log holds, as long as the ring has room for what the vCPU itself may still push.
     *
     * @param log locked by the caller
     * @param ring of the vCPU
     * @param all whether to go on although the ring counts as full: its spare entries are for this
     * @return entries marked
     */
    long drain(PmlBuffer log, DirtyRing ring, boolean all) {
        long drained = 0;
        while ((all || !ring.isSoftFull()) && log.pending() > 0) {
            mark(ring, Gfn.of(log.next()));
            drained++;
        }
        return drained;
    }

    /** Logs one page, inside an epoch. */
    private void mark(DirtyRing ring, long gfn) {
        MemSlot slot = slots.current().find(gfn);
        if (slot.logsDirty()) {
            mark(ring, slot, gfn);
        }
        MemSlot old = moving;
        if (old != slot && old.contains(gfn)) {
            mark(ring, old, gfn);
        }
    }

    private void mark(DirtyRing ring, MemSlot slot, long gfn) {
        // Where two slots are marked for each entry, the ring's spare room may not do: then the bitmap keeps the mark.
        if (config.tracking() == DirtyTracking.RING && ring.used() < ring.entries()) {
            ring.push(slot.id(), gfn - slot.baseGfn());
        } else {
            slot.dirtyBitmap().mark(gfn - slot.baseGfn());
        }
    }

    /** Logs a store by a device, after it was made, inside the epoch in which the slot was found. */
    static void markStore(MemSlot slot, long gpa, long bytes) {
        if (slot.logsDirty() && bytes > 0) {
            long first = Gfn.of(gpa);
            slot.dirtyBitmap().markRange(first - slot.baseGfn(), Gfn.of(gpa + bytes - 1) - first + 1);
        }
    }

    /** Finds the live version of a slot that logs, or throws. */
    MemSlot logged(int slotId) {
        MemSlots now = slots.current();
        MemSlot slot = now.byId(slotId);
        if (!slot.logsDirty()) {
            throw new IllegalStateException("stores to the slot are not logged: slotId=" + slotId + ", slot=" + slot);
        }
        return slot;
    }

    void countLogFull() {
        logFullExits.increment();
    }

    void countRingFull() {
        ringFullExits.increment();
    }

    long harvestedPages() {
        return harvestedPages.sum();
    }

    long logFullExits() {
        return logFullExits.sum();
    }

    long ringFullExits() {
        return ringFullExits.sum();
    }
}
