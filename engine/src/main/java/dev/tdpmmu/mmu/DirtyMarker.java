package dev.tdpmmu.mmu;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.config.DirtyLogConfig;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.slot.MemSlot;

/**
 * Logs the stores that faults let through.
 *
 * <p>The mark comes after the entry has become writable. The other order loses a store:
 *
 * <pre>
 *  fault                               | harvest
 *  marks the page                      |
 *                                      | takes the mark, arms the page: nothing to take from its entry
 *  makes the entry writable            |
 *  guest stores                        |   -- no later harvest will ever report the page
 * </pre>
 *
 * <p>Where the hardware logs stores itself, faults log nothing: the store that sets D will.
 *
 * @kvm mark_page_dirty_in_slot
 */
final class DirtyMarker {
    private final boolean hardwareLogs;
    private final boolean ring;

    DirtyMarker(DirtyLogConfig config) {
        this.hardwareLogs = config.pml();
        this.ring = config.tracking() == DirtyTracking.RING;
    }

    /** Tells whether a page-modification log takes the place of write protection. */
    @HotPath
    boolean hardwareLogs() {
        return hardwareLogs;
    }

    /**
     * Logs a page whose entry has just become writable.
     *
     * @param vcpu the faulting one
     * @param memSlot slot that logs, as found inside the caller's epoch
     * @param gfn guest frame number in it
     * @locking inside the epoch in which the slot was found
     */
    @HotPath
    void mark(VcpuMmu vcpu, MemSlot memSlot, long gfn) {
        if (hardwareLogs) {
            return;
        }
        long page = gfn - memSlot.baseGfn();
        if (ring) {
            vcpu.ring.push(memSlot.id(), page);
        } else {
            memSlot.dirtyBitmap().mark(page);
        }
    }
}
