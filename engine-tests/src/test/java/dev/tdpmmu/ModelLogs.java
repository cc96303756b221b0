package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.slot.DirtyPages;
import java.util.BitSet;
import java.util.SplittableRandom;

/** Switches logs, and compares what they hand out: nothing lost, nothing that was not opened for a store. */
final class ModelLogs {
    private static final int RING_LIMIT = 2048;

    private final ModelWorld world;
    private final Vm vm;
    private final SplittableRandom random;
    private final DirtyTracking tracking;
    private final boolean keepsPagesAside;

    /** Pages that were handed out, to see that something was. */
    long handedOut;

    ModelLogs(ModelWorld world) {
        this.world = world;
        this.vm = world.vm;
        this.random = world.random;
        this.tracking = vm.config().dirtyLog().tracking();
        this.keepsPagesAside = vm.config().dirtyLog().pml() || tracking == DirtyTracking.RING;
        world.onFullRing = this::takeRings;
    }

    void step() {
        switch (random.nextInt(8)) {
            case 0, 1 -> startOrStop();
            case 2 -> clear();
            case 3 -> burst();
            default -> take();
        }
    }

    private void startOrStop() {
        ModelSlot slot = world.anySlot();
        world.last = "start or stop log of " + slot.handle;
        if (slot.handle.gpa() == ModelWorld.LARGE && random.nextInt(6) != 0) {
            return;
        }
        if (slot.logs) {
            stop(slot);
        } else {
            slot.handle = vm.startDirtyLog(slot.handle).slot();
            started(slot);
        }
    }

    /** Notes that a log has started. */
    void started(ModelSlot slot) {
        slot.logs = true;
        slot.must.clear();
        if (!keepsPagesAside) {
            slot.may.clear();
        }
        if (tracking == DirtyTracking.INITIALLY_SET) {
            slot.must.set(0, (int) slot.handle.pages());
        }
    }

    private void stop(ModelSlot slot) {
        vm.dirtyLog(slot.handle).stop();
        slot.handle = vm.memorySlots().stream()
                .filter(now -> now.id() == slot.handle.id())
                .findFirst()
                .orElseThrow();
        slot.logs = false;
        slot.may.or(slot.must);
        slot.may.or(slot.inFlight);
        slot.stale.or(slot.inFlight);
        slot.must.clear();
        slot.inFlight.clear();
        assertThrows(IllegalStateException.class, () -> vm.dirtyLog(slot.handle));
    }

    void take() {
        world.last = "take what was logged";
        if (tracking == DirtyTracking.RING) {
            if (random.nextInt(3) == 0) {
                collect();
            } else {
                takeRings();
            }
            return;
        }
        for (ModelSlot slot : world.slots.values()) {
            if (slot.logs) {
                BitSet pages = harvest(slot);
                requireExact(slot, pages);
                world.openedGfns.clear();
                if (tracking == DirtyTracking.GET_AND_CLEAR) {
                    taken(slot);
                }
            }
        }
    }

    private BitSet harvest(ModelSlot slot) {
        DirtyPages pages = vm.dirtyLog(slot.handle).harvest();
        BitSet bits = bitsOf(pages);
        assertEquals(bits.cardinality(), pages.count());
        handedOut += pages.count();
        return bits;
    }

    private static BitSet bitsOf(DirtyPages pages) {
        BitSet bits = new BitSet();
        for (long page = pages.next(0); page >= 0; page = page + 1 < pages.pages() ? pages.next(page + 1) : -1) {
            bits.set((int) page);
        }
        return bits;
    }

    private static void requireExact(ModelSlot slot, BitSet pages) {
        BitSet lost = (BitSet) slot.must.clone();
        lost.andNot(pages);
        assertTrue(lost.isEmpty(), () -> "stores are not in the log: slot=" + slot.handle + ", pages=" + lost);
        BitSet phantom = (BitSet) pages.clone();
        phantom.andNot(slot.must);
        phantom.andNot(slot.may);
        assertTrue(phantom.isEmpty(), () -> "log has what was not stored: slot=" + slot.handle + ", pages=" + phantom);
    }

    private void taken(ModelSlot slot) {
        world.takings++;
        slot.must.clear();
        slot.may.clear();
    }

    private void clear() {
        ModelSlot slot = world.anySlot();
        world.last = "clear pages of " + slot.handle;
        if (!slot.logs) {
            return;
        }
        DirtyLog log = vm.dirtyLog(slot.handle);
        int first = random.nextInt((int) slot.handle.pages());
        int count = random.nextInt((int) slot.handle.pages() - first + 1);
        if (tracking == DirtyTracking.GET_AND_CLEAR || tracking == DirtyTracking.RING) {
            assertThrows(IllegalStateException.class, () -> log.clear(first, count));
            return;
        }
        BitSet cleared = new BitSet();
        cleared.set(first, first + count);
        world.takings++;
        if (random.nextBoolean()) {
            BitSet dirty = harvest(slot);
            dirty.and(cleared);
            assertEquals(dirty.cardinality(), log.clear(first, count), "pages that were dirty");
        } else {
            // What the hardware keeps aside may be handed out later; what was stored is read after the clear.
            log.clear(first, count);
            BitSet aside = (BitSet) slot.must.clone();
            aside.and(cleared);
            slot.may.or(aside);
            slot.must.andNot(cleared);
            return;
        }
        slot.must.andNot(cleared);
        slot.may.andNot(cleared);
    }

    /** Takes everything: rings until nothing comes, and what devices stored. */
    private void takeRings() {
        world.takings++;
        BitSet[] found = new BitSet[maxSlotId() + 1];
        int collected;
        long drained;
        do {
            drained = vm.drainHardwareLogs();
            collected = collectInto(found);
            assertTrue(vm.resetDirtyRings() >= collected, "entries reset");
        } while (drained + collected > 0);
        for (ModelSlot slot : world.slots.values()) {
            slot.stale.clear();
            if (slot.logs) {
                BitSet pages = harvest(slot);
                addFound(found, slot, pages);
                requireExact(slot, pages);
                taken(slot);
                slot.inFlight.clear();
            }
        }
        world.openedGfns.clear();
    }

    /** Collects without giving the entries back, so that the pages are not armed yet. */
    private void collect() {
        world.takings++;
        vm.drainHardwareLogs();
        boolean mayBeMore = false;
        for (Vcpu vcpu : world.vcpus) {
            mayBeMore |= vcpu.run().mmu().ring().isSoftFull();
        }
        BitSet[] found = new BitSet[maxSlotId() + 1];
        collectInto(found);
        for (ModelSlot slot : world.slots.values()) {
            if (!slot.logs) {
                addFound(found, slot, slot.stale);
                continue;
            }
            BitSet inRings = new BitSet();
            addFound(found, slot, inRings);
            BitSet pages = harvest(slot);
            pages.or(inRings);
            if (mayBeMore) {
                // A full ring takes nothing from the hardware's log.
                slot.may.or(slot.must);
                slot.must.andNot(pages);
                slot.inFlight.or(inRings);
                continue;
            }
            requireExact(slot, pages);
            taken(slot);
            slot.inFlight.or(inRings);
        }
    }

    private int maxSlotId() {
        return world.slots.values().stream()
                .mapToInt(slot -> slot.handle.id())
                .max()
                .orElseThrow();
    }

    private int collectInto(BitSet[] found) {
        int entries = 0;
        for (Vcpu vcpu : world.vcpus) {
            entries += vcpu.collectDirty(
                    (slotId, page) -> {
                        if (slotId < found.length) {
                            found[slotId] = found[slotId] == null ? new BitSet() : found[slotId];
                            found[slotId].set((int) page);
                        }
                    },
                    Integer.MAX_VALUE);
        }
        handedOut += entries;
        return entries;
    }

    private static void addFound(BitSet[] found, ModelSlot slot, BitSet pages) {
        BitSet inRings = found[slot.handle.id()];
        if (inRings != null) {
            pages.or(inRings);
        }
    }

    /** Opens more pages of a slot than a ring has entries: its vCPU must be stopped, and loses nothing. */
    private void burst() {
        ModelSlot slot = world.anySlot();
        world.last = "burst over " + slot.handle;
        if (tracking != DirtyTracking.RING
                || !slot.logs
                || slot.handle.pages() < RING_LIMIT
                || !world.watches.isEmpty()
                || slot.handle.isReadOnly()
                || !slot.isProtected.isEmpty()) {
            return;
        }
        takeRings();
        long before = vm.stats().dirtyRingFull();
        Vcpu vcpu = world.vcpu();
        for (int page = 0; page < RING_LIMIT; page++) {
            long gpa = slot.handle.gpa() + page * ModelWorld.PAGE;
            world.guestOpen(gpa, 1, () -> vcpu.touch(gpa, Access.WRITE));
        }
        assertTrue(vm.stats().dirtyRingFull() > before, "ring was never full");
    }

    /** Notes that a vCPU closes: what its ring holds goes to the bitmaps, collected or not. */
    void vcpuCloses() {
        for (ModelSlot slot : world.slots.values()) {
            slot.may.or(slot.inFlight);
            slot.may.or(slot.stale);
        }
    }
}
