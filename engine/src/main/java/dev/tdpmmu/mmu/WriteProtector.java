package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Takes W from the leaves of a range so that the next store to each page is seen; the fast fix gives it back.
 *
 * <p>MMU-writable stays: only the hardware's permission goes. The flush is the caller's, once for the whole range, and
 * it is not made before a yield either: a store that still goes through a cached translation is one that came before
 * the protection, which counts only from the flush on.
 *
 * @kvm kvm_tdp_mmu_wrprot_slot
 */
final class WriteProtector {
    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;

    WriteProtector(SpteFormat format, MmuLock lock, SpteUpdater updater) {
        this.format = format;
        this.lock = lock;
        this.updater = updater;
    }

    /**
     * Write-protects the leaves of a range.
     *
     * @param slot of the worker
     * @param root valid root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return whether any entry changed, so that a flush is needed
     * @locking takes the MMU lock shared; yields
     */
    boolean protect(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn) {
        TdpIterator cursor = new TdpIterator(format);
        boolean changed = false;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, PagingLevel.L4K, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                changed |= protect(slot, cursor);
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return changed;
    }

    private boolean protect(ReaderSlot slot, TdpIterator cursor) {
        long spte = cursor.spte();
        // After a lost exchange everything is asked again: the entry may have become a table or gone away.
        while (format.isLeaf(spte, cursor.level()) && format.isWritable(spte)) {
            if (updater.trySet(
                    slot, cursor.spteAddress(), cursor.gfn(), cursor.level(), spte, format.clearWritable(spte))) {
                return true;
            }
            spte = cursor.reread();
        }
        return false;
    }
}
