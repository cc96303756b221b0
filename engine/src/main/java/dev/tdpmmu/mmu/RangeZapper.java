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
 * <p>Entries are cleared, and what was cleared is flushed before every yield and at the end, in either mode, so that
 * the flush is never lost:
 *
 * <pre>
 *  zap                                        | guest
 *  clears leaf A, remembers "flush needed"    |
 *  yields without the flush                   |
 *                                             | stores through its TLB to A, whose frame somebody was told is free
 * </pre>
 *
 * @kvm tdp_mmu_zap_leafs, kvm_tdp_mmu_unmap_gfn_range
 */
final class RangeZapper {
    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;
    private final RemoteTlb remoteTlb;

    // Design note. Under the shared lock a leaf of a live root is otherwise frozen, flushed and thawed, one flush for
    // each entry or table, so that nothing takes its place while a TLB holds it. Here one flush serves the range, and
    // entries become non-present at once, because the invalidation does what FROZEN would:
    //
    // - A fault on a frame of the range retries, from before the first exchange to after the last flush: no other
    //   leaf appears in the place of a cleared one. A huge leaf that reaches beyond the range also maps frames whose
    //   faults go on, so it alone is frozen, flushed and thawed; a root has two at most.
    // - Hardware sets A and D by compare-and-set, which fails on a cleared entry. A store through a TLB sets no D:
    //   the entry had D when it was cached for stores, and our exchange has taken that D along.
    // - Another shared operation that finds nothing to change does not know of our pending flush. Those that promise
    //   something about TLBs flush their range in any case: unmap, write protection, both ways of clearing D. NX
    //   recovery and replacements flush what they change themselves.
    // - Whoever holds the lock exclusively finds no flush pending: it is done before we yield or unlock. A watch, an
    //   exclusive zap and the zap of all roots rely on that.
    // - In an invalid root nobody holds translations. Its table pages may be cut off meanwhile, but are not reused
    //   before our epoch ends. A table that is detached from a live root has FROZEN entries, which we leave alone, and
    //   is flushed by who detached it.
    //
    // A flush that fails leaves entries cleared that a TLB may still hold; the caller is told by the exception, as it
    // is when a frozen entry is thawed without its flush.

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
        long zapped = 0;
        long flushed = 0;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.mustYield(lock, LockMode.SHARED)) {
                    flushPending(zapped - flushed, startGfn, endGfn);
                    flushed = zapped;
                    cursor.yieldNow(lock, slot, LockMode.SHARED);
                    continue;
                }
                zapped += zapShared(slot, cursor, startGfn, endGfn);
            }
            // Also if nothing was found: another shared operation may have taken a leaf away before us and not have
            // flushed yet, and our caller is told that nobody uses the range.
            flushWholeLeaves(startGfn, endGfn);
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return zapped;
    }

    private int zapShared(ReaderSlot slot, TdpIterator cursor, long startGfn, long endGfn) {
        long spte = cursor.spte();
        while (format.isLeaf(spte, cursor.level())) {
            if (tryZapLeaf(slot, cursor, spte, startGfn, endGfn)) {
                return 1;
            }
            spte = cursor.reread();
        }
        // Also if the huge leaf has just been split: the table that took its place holds what is to be zapped.
        return cursor.isLeafTable()
                ? updater.zapLeavesShared(slot, Spte.address(spte), cursor.firstGfn(), cursor.lastGfnExclusive())
                : 0;
    }

    private boolean tryZapLeaf(ReaderSlot slot, TdpIterator cursor, long spte, long startGfn, long endGfn) {
        long gfn = cursor.gfn();
        int level = cursor.level();
        if (gfn < startGfn || gfn + PagingLevel.pages(level) > endGfn) {
            return updater.tryZap(slot, cursor.spteAddress(), gfn, level, spte);
        }
        return updater.trySet(slot, cursor.spteAddress(), gfn, level, spte, Spte.NON_PRESENT);
    }
}
