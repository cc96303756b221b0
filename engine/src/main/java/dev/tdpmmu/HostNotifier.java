package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.slot.AnonymousBacking;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostBacking;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.HostPagesListener;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;
import dev.tdpmmu.sync.RcuDomain;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;

/**
 * Carries what the host does to frames into the page tables: an announced range is unmapped before the host changes it,
 * and faults on it retry until the host has.
 *
 * <p>Slots stay as they are while a notification is under way, because its end must find the same gfns as its begin: a
 * slot that moved between the two would have been mapped anew at its new place, with frames that are about to go.
 *
 * <pre>
 *  notification                             | slot change
 *  begins: gfns of the slot's place         |
 *                                           | publishes the slot at its new place
 *                                           | guest faults there: the old frame, and no invalidation of those gfns
 *  host gives the frame away                |   -- the guest writes to somebody else's memory
 * </pre>
 *
 * <p>So a slot change is published only while no notification is under way; both count under one short lock. And a slot
 * that has left its place is still told of as long as leaves of that place may exist: until its zap has ended.
 *
 * @kvm kvm_mmu_notifier_ops, mn_active_invalidate_count
 */
final class HostNotifier implements HostPagesListener {
    private final SlotRegistry slots;
    private final RangeOperations ranges;
    private final RcuDomain rcu;
    private final OperationLock how;
    private final RankedLock gate = new RankedLock(LockRank.NOTIFIER);

    /** Notifications under way; guarded by the gate. */
    private int active;

    /** Slots that have left a place which may still be mapped; replaced under the gate while no notification is under way. */
    private volatile List<MemSlot> leaving = List.of();

    /** Set once under the gate, while no notification is under way. */
    private volatile boolean closed;

    HostNotifier(SlotRegistry slots, RangeOperations ranges, RcuDomain rcu, OperationLock how) {
        this.slots = slots;
        this.ranges = ranges;
        this.rcu = rcu;
        this.how = how;
    }

    /** Waits until no notification is under way and keeps new ones out until {@link #letGo}; for publishing slots. */
    void holdOff() {
        while (true) {
            gate.lock();
            if (active == 0) {
                return;
            }
            gate.unlock();
            if (!Interleave.blocked()) {
                Thread.yield();
            }
        }
    }

    void letGo() {
        gate.unlock();
    }

    /** Keeps telling of a slot that leaves its place; called between {@link #holdOff} and {@link #letGo}. */
    void keep(MemSlot slot) {
        List<MemSlot> more = new ArrayList<>(leaving);
        more.add(slot);
        leaving = List.copyOf(more);
    }

    /** Ends {@link #keep}: no leaf of the slot's old place exists any more. */
    void forget(MemSlot slot) {
        if (!leaving.contains(slot)) {
            return;
        }
        List<MemSlot> fewer = new ArrayList<>(leaving);
        fewer.remove(slot);
        holdOff();
        leaving = List.copyOf(fewer);
        letGo();
    }

    /** Ends everything: no vCPU and no device uses the VM any more, and what the MMU consists of is about to go. */
    void close() {
        holdOff();
        closed = true;
        letGo();
    }

    private void enter() {
        gate.lock();
        active++;
        gate.unlock();
    }

    private void exit() {
        gate.lock();
        active--;
        gate.unlock();
    }

    /**
     * Listens to the pages behind a slot that is about to be added, so that no change of the host is missed, and adds
     * it. No lock of the VM held.
     */
    MemSlot attached(Backing backing, Supplier<MemSlot> add) {
        if (!(backing instanceof HostBacking host)) {
            return add.get();
        }
        host.pages().addListener(this);
        boolean added = false;
        try {
            MemSlot slot = add.get();
            added = true;
            return slot;
        } finally {
            if (!added) {
                detach(backing);
            }
        }
    }

    /** Stops to listen for one slot, added by {@link #attached}. No lock of the VM held. */
    void detach(Backing backing) {
        if (backing instanceof HostBacking host) {
            host.pages().removeListener(this);
        }
    }

    @Override
    public void invalidateStart(HostPages pages, long firstPage, long endPage, boolean mayBlock) {
        List<MemSlot> places = List.of();
        int begun = 0;
        boolean done = false;
        enter();
        try {
            places = places();
            for (MemSlot slot : places) {
                if (startGfn(slot, pages, firstPage) < endGfn(slot, pages, endPage)) {
                    ranges.invalidateStart(
                            startGfn(slot, pages, firstPage), endGfn(slot, pages, endPage), how, mayBlock);
                }
                begun++;
            }
            done = true;
        } finally {
            if (!done) {
                end(places.subList(0, begun), pages, firstPage, endPage);
            }
        }
    }

    /** The same from the begin of a notification to its end: none is published or forgotten meanwhile. */
    private List<MemSlot> places() {
        if (closed) {
            return List.of();
        }
        List<MemSlot> places = new ArrayList<>(slots.current().asList());
        places.addAll(leaving);
        return places;
    }

    @Override
    public void awaitReaders(HostPages pages) {
        if (!closed) {
            rcu.synchronize();
        }
    }

    @Override
    public void invalidateEnd(HostPages pages, long firstPage, long endPage) {
        end(places(), pages, firstPage, endPage);
    }

    private void end(List<MemSlot> begun, HostPages pages, long firstPage, long endPage) {
        for (MemSlot slot : begun) {
            if (startGfn(slot, pages, firstPage) < endGfn(slot, pages, endPage)) {
                ranges.invalidateEnd(startGfn(slot, pages, firstPage), endGfn(slot, pages, endPage));
            }
        }
        exit();
    }

    /** First frame of a slot that an announced page may be behind; at or above {@link #endGfn} if there is none. */
    private static long startGfn(MemSlot slot, HostPages pages, long firstPage) {
        if (slot.isLinear() || slot.hostPages() != pages) {
            return Long.MAX_VALUE;
        }
        return slot.baseGfn() + Math.max(0, firstPage - slot.hostPage(slot.baseGfn()));
    }

    private static long endGfn(MemSlot slot, HostPages pages, long endPage) {
        if (slot.isLinear() || slot.hostPages() != pages) {
            return 0;
        }
        return Math.min(slot.endGfn(), slot.baseGfn() + endPage - slot.hostPage(slot.baseGfn()));
    }

    /** Forgets the content of a range of one slot, as told by {@link Vm#discard}; false if the VM has been closed. */
    boolean discard(long gpa, long bytes) {
        if (((gpa | bytes) & Gfn.PAGE_OFFSET_MASK) != 0) {
            throw new IllegalArgumentException("range is misaligned: gpa=0x" + Long.toHexString(gpa) + ", bytes=0x"
                    + Long.toHexString(bytes) + ", granule=" + Gfn.PAGE_SIZE);
        }
        long startGfn = Gfn.of(gpa);
        long endGfn = Gfn.of(gpa + bytes);
        enter();
        try {
            if (closed) {
                return false;
            }
            MemSlot slot = slots.current().find(startGfn);
            if (!slot.exists() || endGfn > slot.endGfn() || !(slot.backing() instanceof AnonymousBacking)) {
                throw new IllegalArgumentException("range is not in a slot with frames of its own: gpa=0x"
                        + Long.toHexString(gpa) + ", bytes=0x" + Long.toHexString(bytes) + ", slot=" + slot);
            }
            ranges.invalidateStart(startGfn, endGfn, how, true);
            try {
                // Devices find frames through the slots, and are inside an epoch while they use them.
                rcu.synchronize();
                slot.discard(startGfn, endGfn - startGfn);
                return true;
            } finally {
                ranges.invalidateEnd(startGfn, endGfn);
            }
        } finally {
            exit();
        }
    }
}
