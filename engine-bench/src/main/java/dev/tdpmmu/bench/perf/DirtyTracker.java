package dev.tdpmmu.bench.perf;

import dev.tdpmmu.DirtyLog;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.config.DirtyLogConfig;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.DirtyRingConsumer;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/** What the user of a dirty log does in a round: gets what was written, and clears it, by bitmap or by ring. */
final class DirtyTracker {
    private static final DirtyRingConsumer DISCARD = (slotId, page) -> {};

    private final Vm vm;
    private final DirtyTracking tracking;
    private final List<Vcpu> vcpus;

    /** Entries at which a ring counts as full. */
    private final int softLimit;

    private final List<DirtyLog> logs = new ArrayList<>();
    private final List<DirtyPages> bitmaps = new ArrayList<>();

    /** Collected by vCPUs whose ring was full, on their own threads. */
    private final AtomicLong collectedWhenFull = new AtomicLong();

    private final AtomicLong ringFull = new AtomicLong();

    DirtyTracker(PerfVm perf) {
        this.vm = perf.vm();
        DirtyLogConfig config = vm.config().dirtyLog();
        this.tracking = config.tracking();
        this.softLimit = config.ringEntries() - config.reservedRingEntries();
        this.vcpus = perf.fleet().vcpus();
        for (MemSlot slot : perf.slots()) {
            bitmaps.add(new DirtyPages(slot.pages()));
        }
        if (tracking == DirtyTracking.RING) {
            for (Vcpu vcpu : vcpus) {
                vcpu.onDirtyRingFull(() -> emptyFullRing(vcpu));
            }
        }
    }

    private void emptyFullRing(Vcpu vcpu) {
        ringFull.incrementAndGet();
        collectedWhenFull.addAndGet(vcpu.collectDirty(DISCARD, Integer.MAX_VALUE));
        vm.resetDirtyRings();
    }

    /** Starts logging in every slot. */
    void enable(List<MemSlot> slots) {
        slots.forEach(slot -> logs.add(vm.startDirtyLog(slot)));
    }

    /** Gets what was written since the last round, while no vCPU runs; returns how many pages. */
    long get() {
        long pages = collectedWhenFull.getAndSet(0);
        if (tracking == DirtyTracking.RING) {
            return pages + emptyRings();
        }
        for (int slot = 0; slot < logs.size(); slot++) {
            pages += logs.get(slot).harvest(bitmaps.get(slot));
        }
        return pages;
    }

    private long emptyRings() {
        long pages = 0;
        boolean wasFull;
        do {
            // No vCPU has an exit now that would do it.
            vm.drainHardwareLogs();
            wasFull = false;
            for (Vcpu vcpu : vcpus) {
                int collected = vcpu.collectDirty(DISCARD, Integer.MAX_VALUE);
                pages += collected;
                wasFull |= collected >= softLimit;
            }
            if (wasFull) {
                // The hardware's log may hold more than its ring had room for.
                vm.resetDirtyRings();
            }
        } while (wasFull);
        return pages;
    }

    /** Tells whether getting leaves the pages as they are, so that they must be cleared. */
    boolean clears() {
        return tracking != DirtyTracking.GET_AND_CLEAR;
    }

    /** Clears what {@link #get} got, and arms those pages again; returns how many. */
    long clear() {
        if (tracking == DirtyTracking.RING) {
            return vm.resetDirtyRings();
        }
        long pages = 0;
        for (int slot = 0; slot < logs.size(); slot++) {
            pages += logs.get(slot).clear(bitmaps.get(slot));
        }
        return pages;
    }

    /** Ends logging in every slot. */
    void disable() {
        logs.forEach(DirtyLog::stop);
    }

    /** How often a vCPU had to empty its ring before it could go on. */
    long timesRingFull() {
        return ringFull.get();
    }
}
