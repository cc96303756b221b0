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
 * have another table. So the entry above is read, and is cut off only if it still points to the table. Every table
 * that is taken from the list uses up one unit of the budget, zapped or not: otherwise one that cannot be zapped
 * would be tried for ever. No yield while a table is in hand; between two tables there may be one, with everything
 * flushed. A table of level 2 is emptied first, a table below at a time, and goes when none is left.
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

    /** What was zapped since the last flush, and in the whole hold of the lock. */
    private static final class Part {
        final RetiredBatch batch = new RetiredBatch();
        long zapped;
        long startGfn = Long.MAX_VALUE;
        long endGfn;

        /** Table of level 2 that is being emptied, and its first entry that was not looked at. */
        long emptied;

        int nextEntry;

        void add(long gfn, int level) {
            startGfn = Math.min(startGfn, Gfn.alignDown(gfn, level));
            endGfn = Math.max(endGfn, Gfn.alignDown(gfn, level) + PagingLevel.pages(level));
        }
    }

    /** Zaps some tables; lets others in between two of them. */
    private long recoverPart(ReaderSlot slot, long budget) {
        Part part = new Part();
        lock.lock(slot, LockMode.SHARED);
        try {
            long left = budget;
            while (left > 0) {
                if (part.startGfn < part.endGfn && lock.isContended(LockMode.SHARED)) {
                    flush(part);
                    lock.yield(slot, LockMode.SHARED);
                }
                // It stays in the list until it is empty: what was read of it before a yield is asked again.
                if (tryEmpty(slot, pages.oldest(), part)) {
                    continue;
                }
                long table = pages.takeOldest();
                if (table == 0) {
                    break;
                }
                long gfn = TableHeaders.gfn(table);
                int level = TableHeaders.level(table) + 1;
                if (tryZap(slot, table, gfn, level, part.batch)) {
                    part.add(gfn, level);
                    part.zapped++;
                }
                left--;
            }
            flush(part);
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        rcu.retire(part.batch);
        return part.zapped;
    }

    private void flush(Part part) {
        if (part.startGfn < part.endGfn) {
            remoteTlb.flushRange(part.startGfn, part.endGfn);
            part.startGfn = Long.MAX_VALUE;
            part.endGfn = 0;
        }
    }

    /**
     * Zaps the next table below one that takes the place of 1 GiB: with all of them at once the step would be as long
     * as a whole zap. The look for waiters comes after each.
     *
     * @return whether there was one; false if the table can be zapped itself
     */
    private boolean tryEmpty(ReaderSlot slot, long table, Part part) {
        if (table == 0 || TableHeaders.level(table) == PagingLevel.L4K || logsDirty(TableHeaders.gfn(table))) {
            return false;
        }
        if (part.emptied != table) {
            part.emptied = table;
            part.nextEntry = 0;
        }
        int level = TableHeaders.level(table);
        while (part.nextEntry < PagingLevel.ENTRIES) {
            long address = table + ((long) part.nextEntry << 3);
            long gfn = TableHeaders.gfn(table) + part.nextEntry * PagingLevel.pages(level);
            part.nextEntry++;
            long spte = SpteAccess.readAcquire(address);
            if (format.isTable(spte, level) && updater.tryCutOffLive(slot, address, gfn, level, spte, part.batch)) {
                part.add(gfn, level);
                return true;
            }
        }
        return false;
    }

    private boolean tryZap(ReaderSlot slot, long table, long gfn, int level, RetiredBatch batch) {
        if (logsDirty(gfn)) {
            // Its leaves stay small as long as stores are logged: a zap would only make the guest fault them in again.
            return false;
        }
        long parent = TableHeaders.parentSpteAddress(table);
        long spte = SpteAccess.readAcquire(parent);
        return format.isTable(spte, level)
                && Spte.address(spte) == table
                && updater.tryCutOffLive(slot, parent, gfn, level, spte, batch);
    }

    private boolean logsDirty(long gfn) {
        return slots.current().find(gfn).logsDirty();
    }
}
