package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockDep;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Takes write permission from leaves, for two users who must not be confused:
 *
 * <ul>
 *   <li><em>dirty logging</em> wants to see the next store: only W goes, MMU-writable stays, and the fast fix gives W
 *       back. The flush is the caller's, once for the whole range, and not before a yield either: a store that still
 *       goes through a cached translation is one that came before the protection, which counts only from the flush on;
 *   <li><em>page tracking</em> wants to see every store: W and MMU-writable go, and no fault gives them back while the
 *       page is watched. The flush comes before the lock is dropped.
 * </ul>
 *
 * @kvm kvm_tdp_mmu_wrprot_slot, kvm_tdp_mmu_write_protect_gfn
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
     * Takes W from the leaves of a range.
     *
     * @param slot of the worker
     * @param root valid root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param minLevel lowest level whose leaves are protected, 1 to 3
     * @return whether any entry changed, so that a flush is needed
     * @locking takes the MMU lock shared; yields
     */
    boolean protect(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn, int minLevel) {
        TdpIterator cursor = new TdpIterator(format);
        boolean changed = false;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                changed |= protect(cursor, minLevel);
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return changed;
    }

    private boolean protect(TdpIterator cursor, int minLevel) {
        long spte = cursor.spte();
        if (cursor.level() >= minLevel) {
            // After a lost exchange everything is asked again: the entry may have become a table or gone away.
            while (format.isLeaf(spte, cursor.level())) {
                long newSpte = protectedFor(spte, minLevel);
                if (newSpte == spte) {
                    break;
                }
                if (updater.tryChangeBits(cursor.spteAddress(), cursor.gfn(), cursor.level(), spte, newSpte)) {
                    return true;
                }
                spte = cursor.reread();
            }
        }
        return minLevel == PagingLevel.L4K
                && cursor.isLeafTable()
                && protectTable(Spte.address(spte), cursor.firstGfn(), cursor.lastGfnExclusive());
    }

    /**
     * The huge leaf that makes the next store to it visible. Where huge leaves alone are protected, D tells of stores
     * to the small ones: the pieces inherit D when the leaf is split, and a piece with D would never be logged. So D
     * goes also where W has gone before, as from a page that was watched.
     */
    private long protectedFor(long spte, int minLevel) {
        long cleaned = minLevel > PagingLevel.L4K ? spte & ~format.dirtyBit() : spte;
        return format.clearWritable(cleaned);
    }

    /**
     * Takes W from the leaves of one table of 4 KiB leaves.
     *
     * @return whether any entry changed
     * @locking MMU lock shared, inside an epoch
     */
    @HotPath
    boolean protectTable(long table, long startGfn, long endGfn) {
        boolean changed = false;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            long address = SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
            long spte = SpteAccess.readAcquire(address);
            while (Spte.isMmuPresent(spte) && format.isWritable(spte)) {
                if (updater.tryChangeBits(address, gfn, PagingLevel.L4K, spte, format.clearWritable(spte))) {
                    changed = true;
                    break;
                }
                spte = SpteAccess.readAcquire(address);
            }
        }
        return changed;
    }

    /**
     * Takes W and MMU-writable from the leaves that map a range, whatever their level, and flushes what has changed
     * before each yield and at the end.
     *
     * @param slot of the worker
     * @param root valid root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param remoteTlb told of what has changed
     * @locking MMU lock exclusive; it may be dropped for a moment
     * @kvm kvm_tdp_mmu_write_protect_gfn
     */
    void protectForWatch(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn, RemoteTlb remoteTlb) {
        LockDep.assertHeldExclusive(LockRank.MMU);
        TdpIterator cursor = new TdpIterator(format);
        boolean pending = false;
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.mustYield(lock, LockMode.EXCLUSIVE)) {
                flush(pending, startGfn, endGfn, remoteTlb);
                pending = false;
                cursor.yieldNow(lock, slot, LockMode.EXCLUSIVE);
                continue;
            }
            pending |= protectForWatch(cursor);
        }
        flush(pending, startGfn, endGfn, remoteTlb);
    }

    private static void flush(boolean pending, long startGfn, long endGfn, RemoteTlb remoteTlb) {
        if (pending) {
            // Whole leaves: one that reaches beyond the range has changed everywhere.
            remoteTlb.flushRange(
                    Gfn.alignDown(startGfn, PagingLevel.MAX_HUGE),
                    Gfn.alignDown(endGfn - 1, PagingLevel.MAX_HUGE) + PagingLevel.pages(PagingLevel.MAX_HUGE));
        }
    }

    private boolean protectForWatch(TdpIterator cursor) {
        if (!cursor.isLeafTable()) {
            return protectForWatch(cursor.spteAddress(), cursor.gfn(), cursor.level());
        }
        long table = Spte.address(cursor.spte());
        boolean changed = false;
        for (long gfn = cursor.firstGfn(); gfn < cursor.lastGfnExclusive(); gfn++) {
            changed |= protectForWatch(SpteAccess.addressOf(table, gfn, PagingLevel.L4K), gfn, PagingLevel.L4K);
        }
        return changed;
    }

    private boolean protectForWatch(long address, long gfn, int level) {
        long spte = SpteAccess.readAcquire(address);
        // Both bits are asked: a leaf that logging has protected lacks W, and the fast fix would still give it back.
        while (format.isLeaf(spte, level) && (format.isWritable(spte) || format.isMmuWritable(spte))) {
            // Exclusive, but hardware may set D and the fast fix W.
            if (updater.tryChangeBits(address, gfn, level, spte, format.clearWritableAndMmuWritable(spte))) {
                return true;
            }
            spte = SpteAccess.readAcquire(address);
        }
        return false;
    }
}
