package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.trace.Trace;

/**
 * Splits huge leaves ahead of time, so that no vCPU has to do it in a fault.
 *
 * <p>No flush: the pieces translate as the whole did. Table pages are fetched with the lock dropped; then the walk
 * starts again at the same entry.
 *
 * @kvm kvm_tdp_mmu_try_split_huge_pages
 */
final class HugePageSplitter {
    private final SpteFormat format;
    private final MmuLock lock;
    private final TableLinker linker;

    HugePageSplitter(SpteFormat format, MmuLock lock, TableLinker linker) {
        this.format = format;
        this.lock = lock;
        this.linker = linker;
    }

    /**
     * Splits the huge leaves that map a part of a range.
     *
     * @param slot of the worker
     * @param tables stock of the worker, may be empty
     * @param root valid root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param targetLevel largest level that may stay, 1 or 2
     * @return leaves split, so far if the VM's memory cap ended it; stores then split the others
     * @locking takes the MMU lock shared; yields
     */
    long split(ReaderSlot slot, TableCache tables, TdpRoot root, long startGfn, long endGfn, int targetLevel) {
        TdpIterator cursor = new TdpIterator(format);
        long split = 0;
        lock.lock(slot, LockMode.SHARED);
        try {
            // Never to the 4 KiB leaves, which nobody splits.
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                if (cursor.level() <= targetLevel || !format.isLeaf(cursor.spte(), cursor.level())) {
                    continue;
                }
                if (tables.size() == 0) {
                    if (!cursor.topUpUnlocked(lock, slot, LockMode.SHARED, tables)) {
                        return split;
                    }
                    continue;
                }
                split += split(slot, tables, cursor) ? 1 : 0;
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return split;
    }

    private boolean split(ReaderSlot slot, TableCache tables, TdpIterator cursor) {
        long spte = cursor.spte();
        while (format.isLeaf(spte, cursor.level())) {
            if (linker.tryLink(slot, tables, cursor.gfn(), cursor.spteAddress(), cursor.level(), spte, false)
                    != Spte.NON_PRESENT) {
                Trace.split(cursor.gfn(), cursor.level(), true);
                return true;
            }
            spte = cursor.reread();
        }
        return false;
    }
}
