package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;
import dev.tdpmmu.trace.Trace;

/**
 * Puts huge leaves back in the place of tables when the reason for small ones has gone.
 *
 * <p>In place, by one compare-and-set of the table's entry: a guest sees the small translations or the huge one, never
 * a hole. The first present leaf below gives the permissions, the leaves together give A and D. The tables that were
 * cut off are flushed before the lock is dropped or yielded, and retired after the flush.
 *
 * @kvm kvm_tdp_mmu_recover_huge_pages
 */
final class HugePageRecoverer {
    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;
    private final RemoteTlb remoteTlb;
    private final RcuDomain rcu;
    private final WriteTracks tracks;
    private final NxPolicy nx;
    private final int maxLevel;

    HugePageRecoverer(
            SpteFormat format,
            MmuLock lock,
            SpteUpdater updater,
            RemoteTlb remoteTlb,
            RcuDomain rcu,
            WriteTracks tracks,
            NxPolicy nx,
            int maxLevel) {
        this.format = format;
        this.lock = lock;
        this.updater = updater;
        this.remoteTlb = remoteTlb;
        this.rcu = rcu;
        this.tracks = tracks;
        this.nx = nx;
        this.maxLevel = maxLevel;
    }

    /**
     * Recovers the huge leaves of a slot whose stores are not logged any more.
     *
     * @param slot of the worker, in no section
     * @param root valid root on which the caller holds a reference
     * @param memSlot live slot, which stays while this runs
     * @return tables replaced
     * @locking slots lock held; takes the MMU lock shared; yields; may wait for room among retired pages
     */
    long recover(ReaderSlot slot, TdpRoot root, MemSlot memSlot) {
        if (memSlot.logsDirty() || !memSlot.isLinear()) {
            return 0;
        }
        long recovered = 0;
        // 2 MiB first: then a table of level 2 that gives way to 1 GiB holds 512 leaves, not 512 tables, and the step
        // between two yields stays as short as it is for all others. One that still leads to tables is left to
        // faults.
        for (int level = PagingLevel.L2M; level <= Math.min(PagingLevel.MAX_HUGE, maxLevel); level++) {
            recovered += recoverLevel(slot, root, memSlot, level);
        }
        return recovered;
    }

    private long recoverLevel(ReaderSlot slot, TdpRoot root, MemSlot memSlot, int level) {
        TdpIterator cursor = new TdpIterator(format);
        RetiredBatch batch = new RetiredBatch();
        long recovered = 0;
        long endGfn = memSlot.endGfn();
        long nextGfn = memSlot.baseGfn();
        while (nextGfn < endGfn) {
            rcu.awaitRoom();
            lock.lock(slot, LockMode.SHARED);
            try {
                for (cursor.start(root, level, nextGfn, endGfn); cursor.isValid(); cursor.next()) {
                    if (batch.pages() > 0 && (cursor.mustYield(lock, LockMode.SHARED) || rcu.isOverBound())) {
                        break;
                    }
                    if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                        continue;
                    }
                    if (cursor.level() == level) {
                        recovered += recover(slot, cursor, memSlot, batch) ? 1 : 0;
                    }
                }
                nextGfn = cursor.isValid() ? cursor.firstGfn() : endGfn;
                flush(batch, memSlot);
            } finally {
                lock.unlock(slot, LockMode.SHARED);
            }
            rcu.retire(batch);
            batch = new RetiredBatch();
        }
        return recovered;
    }

    private void flush(RetiredBatch batch, MemSlot memSlot) {
        if (!batch.isEmpty()) {
            remoteTlb.flushRange(memSlot.baseGfn(), memSlot.endGfn());
        }
    }

    private boolean recover(ReaderSlot slot, TdpIterator cursor, MemSlot memSlot, RetiredBatch batch) {
        int level = cursor.level();
        long gfn = cursor.gfn();
        long spte = cursor.spte();
        if (!format.isTable(spte, level) || level > goalLevel(memSlot, gfn)) {
            return false;
        }
        long small = firstLeaf(Spte.address(spte), level - 1);
        if (small == Spte.NON_PRESENT) {
            return false;
        }
        long huge = Spte.makeHuge(small, memSlot.hpa(gfn));
        if (nx.mitigation()) {
            huge = format.clearExecutable(huge);
        }
        if (!updater.tryReplaceTableUnflushed(slot, cursor.spteAddress(), gfn, level, spte, huge, batch)) {
            return false;
        }
        slot.count(Counter.PROMOTIONS, 1);
        Trace.recovered(gfn, level);
        return true;
    }

    private int goalLevel(MemSlot memSlot, long gfn) {
        // The entry may begin before the slot does: then nothing huge fits there.
        if (!memSlot.contains(gfn)) {
            return PagingLevel.L4K;
        }
        return tracks.maxLevel(gfn, Math.min(memSlot.recoveryLevel(gfn), maxLevel));
    }

    /**
     * The first present leaf of a table; non-present if there is none, or if the table leads to others: the pass
     * before has left those because they are empty, or may not become huge. To search them all would be one long
     * step.
     */
    private long firstLeaf(long table, int level) {
        long leaf = Spte.NON_PRESENT;
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long spte = SpteAccess.readAcquire(table + ((long) i << 3));
            if (format.isTable(spte, level)) {
                return Spte.NON_PRESENT;
            }
            if (leaf == Spte.NON_PRESENT && format.isLeaf(spte, level)) {
                leaf = spte;
            }
        }
        return leaf;
    }
}
