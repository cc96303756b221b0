package dev.tdpmmu.mmu;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Arms pages so that the next store to them is logged: takes D from their leaves where the hardware logs stores itself,
 * W elsewhere.
 *
 * <p>The flush is the caller's, once, before it tells anybody which pages are armed. Unlike the kernel this runs under
 * the shared lock too: each bit is taken by a compare-and-set, which a lost race repeats with all its conditions.
 *
 * <p>Only 4 KiB leaves are armed here. A huge leaf of a slot that is logged never is writable: it was protected when
 * logging began, and the store that meets it splits it.
 *
 * @kvm kvm_tdp_mmu_clear_dirty_slot, kvm_tdp_mmu_clear_dirty_pt_masked
 */
final class DirtyClearer {
    private static final long NO_TABLE = -1;

    private final SpteFormat format;
    private final MmuLock lock;
    private final SpteUpdater updater;
    private final boolean pml;

    DirtyClearer(SpteFormat format, MmuLock lock, SpteUpdater updater, boolean pml) {
        this.format = format;
        this.lock = lock;
        this.updater = updater;
        this.pml = pml;
    }

    /**
     * Takes D from all 4 KiB leaves of a range.
     *
     * @param slot of the worker
     * @param root valid root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves that had D
     * @locking takes the MMU lock shared; yields
     */
    long clearRange(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn) {
        TdpIterator cursor = new TdpIterator(format);
        long cleared = 0;
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                if (cursor.isLeafTable()) {
                    cleared += clearTable(Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive());
                }
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
        return cleared;
    }

    /**
     * Takes D from the leaves of one table of 4 KiB leaves.
     *
     * @return leaves that had it
     * @locking MMU lock in any mode, inside an epoch
     */
    @HotPath
    int clearTable(long table, long startGfn, long endGfn) {
        int cleared = 0;
        long dirty = format.dirtyBit();
        boolean dense = false;
        long gfn = startGfn;
        while (gfn < endGfn) {
            long blockEnd = Math.min((gfn | SpteAccess.BLOCK_ENTRIES - 1) + 1, endGfn);
            long first = SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
            // A block mostly has no D at all; behind one that had some it is not asked. FROZEN and MMIO entries may
            // have the bit too and are sorted out below.
            if (dense || blockEnd - gfn < SpteAccess.BLOCK_ENTRIES || (SpteAccess.orPlain(first) & dirty) != 0) {
                int found = clearBlock(first, gfn, blockEnd);
                cleared += found;
                dense = found != 0;
            }
            gfn = blockEnd;
        }
        return cleared;
    }

    @HotPath
    private int clearBlock(long first, long startGfn, long endGfn) {
        int cleared = 0;
        long wanted = Spte.MMU_PRESENT | format.dirtyBit();
        long address = first;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            long spte = SpteAccess.readAcquire(address);
            if ((spte & wanted) == wanted && clear(address, gfn, spte, wanted)) {
                cleared++;
            }
            address += Long.BYTES;
        }
        return cleared;
    }

    @HotPath
    private boolean clear(long address, long gfn, long seenSpte, long wanted) {
        long spte = seenSpte;
        while ((spte & wanted) == wanted) {
            if (updater.tryChangeBits(address, gfn, PagingLevel.L4K, spte, spte & ~format.dirtyBit())) {
                return true;
            }
            spte = SpteAccess.readAcquire(address);
        }
        return false;
    }

    /**
     * Arms some of 64 neighbouring pages.
     *
     * @param root valid root
     * @param firstGfn frame of bit 0
     * @param mask pages to arm
     * @return whether any entry changed, so that a flush is needed
     * @locking MMU lock in any mode, inside an epoch; does not yield
     * @kvm clear_dirty_pt_masked
     */
    @HotPath
    boolean arm(TdpRoot root, long firstGfn, long mask) {
        boolean changed = false;
        long table = NO_TABLE;
        long tableNumber = NO_TABLE;
        for (long left = mask; left != 0; left &= left - 1) {
            long gfn = firstGfn + Long.numberOfTrailingZeros(left);
            // 64 pages of a slot may lie in two tables.
            if (gfn >>> PagingLevel.INDEX_BITS != tableNumber) {
                tableNumber = gfn >>> PagingLevel.INDEX_BITS;
                table = leafTable(root, gfn);
            }
            if (table != NO_TABLE) {
                changed |= armLeaf(SpteAccess.addressOf(table, gfn, PagingLevel.L4K), gfn);
            }
        }
        return changed;
    }

    @HotPath
    private long leafTable(TdpRoot root, long gfn) {
        long table = root.hpa();
        for (int level = root.level(); level > PagingLevel.L4K; level--) {
            long spte = SpteAccess.readAcquire(table, gfn, level);
            if (!Spte.isTable(spte)) {
                return NO_TABLE;
            }
            table = Spte.address(spte);
        }
        return table;
    }

    @HotPath
    private boolean armLeaf(long address, long gfn) {
        long spte = SpteAccess.readAcquire(address);
        while (Spte.isMmuPresent(spte)) {
            long armed = pml ? spte & ~format.dirtyBit() : format.clearWritable(spte);
            if (armed == spte) {
                return false;
            }
            if (updater.tryChangeBits(address, gfn, PagingLevel.L4K, spte, armed)) {
                return true;
            }
            // The whole condition again: what won may have taken the leaf away.
            spte = SpteAccess.readAcquire(address);
        }
        return false;
    }
}
