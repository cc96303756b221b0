package dev.tdpmmu;

import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotChange;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.RcuDomain;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * Makes changes of slots true everywhere: publishes them while no host notification is under way, zaps what is stale,
 * switches the dirty log, waits for who still looks at the old slot, frees what is gone.
 *
 * <p>Everything runs under the slots lock.
 *
 * @kvm kvm_set_memslot, kvm_arch_commit_memory_region
 */
final class SlotChanges {
    private final VmConfig config;
    private final SlotRegistry slots;
    private final TdpMmu mmu;
    private final RcuDomain rcu;
    private final DirtyLogging dirty;
    private final HostNotifier notifier;

    /** Changes whose zap did not come to its end; their frames are kept until it does. Under the slots lock. */
    private final Set<SlotChange> unfinished = new LinkedHashSet<>();

    /** Backings of slots that have gone. Under the slots lock. */
    private final List<Backing> gone = new ArrayList<>();

    SlotChanges(
            VmConfig config, SlotRegistry slots, TdpMmu mmu, RcuDomain rcu, DirtyLogging dirty, HostNotifier notifier) {
        this.config = config;
        this.slots = slots;
        this.mmu = mmu;
        this.rcu = rcu;
        this.dirty = dirty;
        this.notifier = notifier;
    }

    MemSlot add(int slotId, long gpa, long bytes, Backing backing, Set<SlotFlag> flags) {
        SlotChange change;
        notifier.holdOff();
        try {
            change = slots.add(slotId, gpa, bytes, backing, flags);
        } finally {
            notifier.letGo();
        }
        finish(change);
        return change.newSlot();
    }

    void remove(MemSlot slot) {
        SlotChange change;
        notifier.holdOff();
        try {
            change = slots.remove(slot);
            notifier.keep(slot);
        } finally {
            notifier.letGo();
        }
        finish(change);
    }

    MemSlot move(MemSlot slot, long newGpa) {
        // Before the old place is unknown: what the hardware has logged names it.
        dirty.beginMove(slot);
        try {
            SlotChange change;
            notifier.holdOff();
            try {
                change = slots.move(slot, newGpa);
                notifier.keep(slot);
            } finally {
                notifier.letGo();
            }
            finish(change);
            return change.newSlot();
        } finally {
            // Also if the move was refused: marks would be made in the slot's bitmap when both have gone.
            dirty.endMove();
        }
    }

    MemSlot changeFlags(MemSlot slot, Set<SlotFlag> flags) {
        SlotChange change;
        notifier.holdOff();
        try {
            change = slots.changeFlags(slot, flags);
        } finally {
            notifier.letGo();
        }
        finish(change);
        return change.newSlot();
    }

    private void finish(SlotChange change) {
        unfinished.add(change);
        // MMIO entries carry only part of the generation. When that part wraps, entries of an old generation would look
        // new.
        boolean generationWrapped = (slots.current().generation() & SpteFormat.MMIO_GENERATION_MASK) == 0;
        // Of an earlier change that is unfinished, only the zap failed: this one does it again, or its frames would be
        // given away under a device that still uses them.
        if (generationWrapped || unfinished.size() > 1) {
            zapAll(change.oldSlot());
        } else if (change.needsZap()) {
            zap(change.oldSlot());
        }
        if (change.startsLog()) {
            dirty.start(change.newSlot());
        } else if (change.stopsLog()) {
            // Faults and devices that saw the log have marked its bitmap for the last time when this returns.
            mmu.ranges()
                    .retryFaults(change.oldSlot().baseGfn(), change.oldSlot().endGfn());
        }
        if (change.oldSlot().logsDirty() && !change.newSlot().logsDirty()) {
            dirty.stopped();
        }
        for (SlotChange done : unfinished) {
            complete(done);
        }
        unfinished.clear();
        if (change.stopsLog()) {
            mmu.ranges().recover(change.newSlot());
        }
    }

    private void complete(SlotChange change) {
        notifier.forget(change.oldSlot());
        if (change.kind() == SlotChange.Kind.REMOVE) {
            gone.add(change.oldSlot().backing());
        }
        change.complete();
    }

    /** Takes the backings of slots that have gone since the last call: nobody needs to listen to them any more. */
    List<Backing> takeGone() {
        List<Backing> backings = List.copyOf(gone);
        gone.clear();
        return backings;
    }

    private void zap(MemSlot old) {
        if (config.slotZap() == SlotZap.ALL_ROOTS) {
            zapAll(old);
            return;
        }
        mmu.ranges().unmap(old.baseGfn(), old.endGfn(), config.unmapLock(), true);
        // Devices found the frames through the old slots; they are inside an epoch while they use them.
        rcu.synchronize();
    }

    private void zapAll(MemSlot old) {
        mmu.zapAllFast(old.exists() ? old.baseGfn() : 0, old.exists() ? old.endGfn() : Long.MAX_VALUE);
        rcu.synchronize();
    }

    /** Lets the frames of changes go whose zap failed; nothing maps them any more. */
    void close() {
        for (SlotChange change : unfinished) {
            complete(change);
        }
        unfinished.clear();
        for (MemSlot slot : slots.current().asList()) {
            gone.add(slot.backing());
        }
    }
}
