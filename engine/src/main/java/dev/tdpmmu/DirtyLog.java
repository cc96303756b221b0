package dev.tdpmmu;

import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.HashSet;
import java.util.Set;

/**
 * Which pages of a slot were stored to, by vCPUs and devices, since the log was started or they were taken last.
 *
 * <p>How the pages are handed out depends on the VM's {@link DirtyTracking}:
 *
 * <ul>
 *   <li>{@link DirtyTracking#GET_AND_CLEAR}: {@link #harvest} takes them and arms them again. A page that is handed out
 *       is stored to before the call returns, or is handed out again later;
 *   <li>{@link DirtyTracking#MANUAL_PROTECT}, {@link DirtyTracking#INITIALLY_SET}: {@link #harvest} copies, {@link
 *       #clear} clears and arms. Clear a page first, then read its memory;
 *   <li>{@link DirtyTracking#RING}: stores of vCPUs are in their rings ({@link Vcpu#collectDirty}); {@link #harvest} hands
 *       out what devices stored, what a closed vCPU has left in its ring, and what found no room in a ring while its slot
 *       moved.
 * </ul>
 *
 * <p>Safe for use by many threads, which take turns. vCPUs run on meanwhile.
 */
public final class DirtyLog {
    private final Vm vm;
    private final int slotId;

    DirtyLog(Vm vm, int slotId) {
        this.vm = vm;
        this.slotId = slotId;
    }

    /**
     * Hands out the dirty pages.
     *
     * @return pages of the slot
     * @throws IllegalStateException if the slot is not logged any more
     * @kvm KVM_GET_DIRTY_LOG
     */
    public DirtyPages harvest() {
        DirtyPages pages = new DirtyPages(slot().pages());
        harvest(pages);
        return pages;
    }

    /**
     * Hands out the dirty pages into a set of the caller, for loops that allocate nothing.
     *
     * @param into as large as the slot; what it held is forgotten
     * @return number of dirty pages
     * @throws IllegalStateException if the slot is not logged any more
     * @throws IllegalArgumentException if the set has another size than the slot
     */
    public long harvest(DirtyPages into) {
        return vm.underSlotsLock(() -> vm.dirtyLogging().harvest(slot(), into));
    }

    /**
     * Clears pages and arms them, under manual protection.
     *
     * @param pages of the slot
     * @return how many of them were dirty
     * @throws IllegalStateException if the slot is not logged any more, or the VM has no manual protection
     * @throws IllegalArgumentException if the set has another size than the slot
     * @kvm KVM_CLEAR_DIRTY_LOG
     */
    public long clear(DirtyPages pages) {
        return vm.underSlotsLock(() -> vm.dirtyLogging().clear(slot(), pages));
    }

    /**
     * Clears a range of pages and arms them, under manual protection. Any range will do.
     *
     * @param firstPage first page of the slot
     * @param count pages, not negative
     * @return how many of them were dirty
     * @throws IllegalStateException if the slot is not logged any more, or the VM has no manual protection
     * @throws IllegalArgumentException if the slot has no such pages
     */
    public long clear(long firstPage, long count) {
        long pages = slot().pages();
        if (firstPage < 0 || count < 0 || firstPage > pages - count) {
            throw new IllegalArgumentException(
                    "slot has no such pages: firstPage=" + firstPage + ", count=" + count + ", pages=" + pages);
        }
        DirtyPages set = new DirtyPages(pages);
        for (long page = firstPage; page < firstPage + count; page++) {
            set.add(page);
        }
        return clear(set);
    }

    /**
     * Returns the slot.
     *
     * @return its live version
     * @throws IllegalStateException if it is not logged any more
     */
    public MemSlot slot() {
        return vm.dirtyLogging().logged(slotId);
    }

    /**
     * Stops the log. What was not harvested is forgotten, and huge leaves come back where the slot allows them.
     *
     * @throws IllegalStateException if the slot is not logged any more
     */
    public void stop() {
        vm.underSlotsLock(() -> {
            MemSlot slot = slot();
            Set<SlotFlag> flags = new HashSet<>(slot.flags());
            flags.remove(SlotFlag.LOG_DIRTY);
            return vm.changeSlotFlagsLocked(slot, flags);
        });
    }
}
