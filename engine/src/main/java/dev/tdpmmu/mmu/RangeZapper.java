package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;

/**
 * Zaps the leaves of a gfn range and keeps the tables, which the next faults use again.
 *
 * <p>The caller has begun an invalidation of the range, so that no fault brings back between two yields what is zapped.
 * A huge leaf that reaches beyond the range is zapped whole, and flushed whole.
 *
 * <p>Exclusive: entries are cleared, and what was cleared is flushed before every yield and at the end, so that the
 * flush is never lost:
 *
 * <pre>
 *  zap                                        | guest
 *  clears leaf A, remembers "flush needed"    |
 *  yields without the flush                   |
 *                                             | stores through its TLB to A, whose frame somebody was told is free
 * </pre>
 *
 * <p>Shared: every leaf is frozen, flushed and thawed, a table at a time, while faults elsewhere go on.
 *
 * @kvm tdp_mmu_zap_leafs, kvm_tdp_mmu_unmap_gfn_range
 */
final class RangeZapper {
    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;
    private final RemoteTlb remoteTlb;

    RangeZapper(SpteFormat format, MmuLock lock, SpteUpdater updater, RemoteTlb remoteTlb) {
        this.format = format;
        this.lock = lock;
        this.updater = updater;
        this.remoteTlb = remoteTlb;
    }

    /**
     * Zaps the leaves of a range in one root.
     *
     * @param slot of the worker
     * @param root valid or invalid, on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param mayYield whether others may come in meanwhile
     * @return leaves zapped, all of them flushed
     * @locking MMU lock exclusive; it may be dropped for a moment
     */
    long zapExclusive(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn, boolean mayYield) {
        TdpIterator cursor = new TdpIterator(format);
        long zapped = 0;
        long flushed = 0;
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (mayYield && cursor.mustYield(lock, LockMode.EXCLUSIVE)) {
                flushPending(zapped - flushed, startGfn, endGfn);
                flushed = zapped;
                cursor.yieldNow(lock, slot, LockMode.EXCLUSIVE);
                continue;
            }
            zapped += zapExclusive(slot, cursor);
        }
        flushPending(zapped - flushed, startGfn, endGfn);
        return zapped;
    }

    private int zapExclusive(ReaderSlot slot, TdpIterator cursor) {
        if (cursor.isLeafTable()) {
            return updater.zapLeavesExclusive(
                    slot, Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive());
        }
        if (!format.isLeaf(cursor.spte(), cursor.level())) {
            return 0;
        }
        // A leaf cuts off no table: the batch stays empty.
        updater.set(
                slot,
                cursor.spteAddress(),
                cursor.gfn(),
                cursor.level(),
                cursor.spte(),
                Spte.NON_PRESENT,
                new RetiredBatch());
        return 1;
    }

    private void flushPending(long leaves, long startGfn, long endGfn) {
        if (leaves > 0) {
            flushWholeLeaves(startGfn, endGfn);
        }
    }

    private void flushWholeLeaves(long startGfn, long endGfn) {
        remoteTlb.flushRange(
                Gfn.alignDown(startGfn, PagingLevel.MAX_HUGE),
                Gfn.alignDown(endGfn - 1, PagingLevel.MAX_HUGE) + PagingLevel.pages(PagingLevel.MAX_HUGE));
    }

    /**
     * Zaps the leaves of a range in one root beside faults and other shared operations.
     *
     * @param slot of the worker, in no section
     * @param root valid or invalid, on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves zapped, all of them flushed
     * @locking takes the MMU lock shared; yields
     */
    long zapShared(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn) {
        TdpIterator cursor = new TdpIterator(format);
        long[] frozen = new long[PagingLevel.ENTRIES / Long.SIZE];
        long zapped = 0;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                zapped += zapShared(slot, cursor, frozen);
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return zapped;
    }

    private int zapShared(ReaderSlot slot, TdpIterator cursor, long[] frozen) {
        long spte = cursor.spte();
        while (format.isLeaf(spte, cursor.level())) {
            if (updater.tryZap(slot, cursor.spteAddress(), cursor.gfn(), cursor.level(), spte)) {
                return 1;
            }
            spte = cursor.reread();
        }
        // Also if the huge leaf has just been split: the table that took its place holds what is to be zapped.
        return cursor.isLeafTable()
                ? updater.zapLeavesShared(
                        slot, Spte.address(spte), cursor.firstGfn(), cursor.lastGfnExclusive(), frozen)
                : 0;
    }

    /**
     * Flushes a range after shared zaps in all roots, also if they found nothing: another shared operation may have
     * taken a leaf away before us and not have flushed yet, and our caller is told that nobody uses the range.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     */
    void flushAfterShared(long startGfn, long endGfn) {
        flushWholeLeaves(startGfn, endGfn);
    }
}
