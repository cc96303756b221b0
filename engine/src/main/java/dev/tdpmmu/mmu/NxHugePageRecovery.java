package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;

/**
 * Gives up the oldest tables that exist only because a huge leaf was executed, so that a huge leaf can come back.
 *
 * <p>Under the shared lock: a table that was taken from the list may have been detached meanwhile, or its place may
 * have another table. So the entry above is read, and is cut off only if it still points to the table. Every table that
 * is taken from the list uses up one unit of the budget, zapped or not: otherwise one that cannot be zapped would be
 * tried for ever. No yield while a table is in hand; between two tables there may be one, with everything flushed.
 *
 * @kvm kvm_recover_nx_huge_pages, kvm_tdp_mmu_zap_possible_nx_huge_page
 */
final class NxHugePageRecovery {
    private static final int TABLES_IN_EPOCH = 64;

    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;
    private final RemoteTlb remoteTlb;
    private final RcuDomain rcu;
    private final SlotRegistry slots;
    private final PossibleNxPages pages;

    NxHugePageRecovery(
            SpteFormat format,
            MmuLock lock,
            SpteUpdater updater,
            RemoteTlb remoteTlb,
            RcuDomain rcu,
            SlotRegistry slots,
            PossibleNxPages pages) {
        this.format = format;
        this.lock = lock;
        this.updater = updater;
        this.remoteTlb = remoteTlb;
        this.rcu = rcu;
        this.slots = slots;
        this.pages = pages;
    }

    /**
     * Takes tables off the list and zaps them.
     *
     * @param slot of the worker, in no section
     * @param budget most tables to take off
     * @return tables zapped and flushed
     * @locking takes the MMU lock shared; yields between two tables; may wait for room among retired pages
     */
    long recover(ReaderSlot slot, long budget) {
        long left = budget;
        long zapped = 0;
        while (left > 0 && pages.size() > 0) {
            rcu.awaitRoom();
            long part = Math.min(left, TABLES_IN_EPOCH);
            zapped += recoverPart(slot, part);
            left -= part;
        }
        return zapped;
    }

    /** Zaps some tables in one hold of the lock, less if somebody waits for it. */
    private long recoverPart(ReaderSlot slot, long budget) {
        RetiredBatch batch = new RetiredBatch();
        long zapped = 0;
        long startGfn = Long.MAX_VALUE;
        long endGfn = 0;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (long left = budget; left > 0; left--) {
                if (zapped > 0 && lock.isContended(LockMode.SHARED)) {
                    remoteTlb.flushRange(startGfn, endGfn);
                    startGfn = Long.MAX_VALUE;
                    endGfn = 0;
                    lock.yield(slot, LockMode.SHARED);
                }
                long table = pages.takeOldest();
                if (table == 0) {
                    break;
                }
                long gfn = TableHeaders.gfn(table);
                int level = TableHeaders.level(table) + 1;
                if (tryZap(slot, table, gfn, level, batch)) {
                    startGfn = Math.min(startGfn, Gfn.alignDown(gfn, level));
                    endGfn = Math.max(endGfn, Gfn.alignDown(gfn, level) + PagingLevel.pages(level));
                    zapped++;
                }
            }
            if (startGfn < endGfn) {
                remoteTlb.flushRange(startGfn, endGfn);
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        rcu.retire(batch);
        return zapped;
    }

    private boolean tryZap(ReaderSlot slot, long table, long gfn, int level, RetiredBatch batch) {
        if (slots.current().find(gfn).logsDirty()) {
            // Its leaves stay small as long as stores are logged: a zap would only make the guest fault them in again.
            return false;
        }
        long parent = TableHeaders.parentSpteAddress(table);
        long spte = SpteAccess.readAcquire(parent);
        return format.isTable(spte, level)
                && Spte.address(spte) == table
                && updater.tryCutOffLive(slot, parent, gfn, level, spte, batch);
    }
}
