package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Asks which pages were used, and makes them old: in an epoch alone, without the MMU lock.
 *
 * <p>With A/D bits a leaf is made old by taking A; without, by taking its permissions, so that the next access faults
 * and the fast fix makes it young again. A lost exchange leaves the page young: somebody has just used or changed it.
 * A compare-and-set, not an atomic AND: the entry may have become FROZEN since it was read, and that marker has bits
 * where A is.
 *
 * <p>Nothing here flushes: a page whose translation stays in a TLB is used without a walk and may look old. A caller
 * who wants to know exactly flushes afterwards. D is never touched.
 *
 * @kvm kvm_tdp_mmu_age_gfn_range, kvm_tdp_mmu_test_age_gfn
 */
final class AgeScanner {
    private final SpteFormat format;
    private final SpteUpdater updater;

    AgeScanner(SpteFormat format, SpteUpdater updater) {
        this.format = format;
        this.updater = updater;
    }

    /**
     * Makes the leaves of a range old.
     *
     * @param slot of the worker, in no section
     * @param root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param sink told of each leaf that was young
     * @return 4 KiB pages of the range that young leaves mapped
     * @locking none; enters epochs
     */
    long clearYoung(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn, YoungLeaves sink) {
        TdpIterator cursor = new TdpIterator(format);
        long young = 0;
        slot.enter(ReaderSlot.WALKING);
        try {
            for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.renewEpochIfDue(slot)) {
                    continue;
                }
                if (cursor.isLeafTable()) {
                    young += ageTable(Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive(), sink);
                } else if (tryAge(cursor.spteAddress(), cursor.gfn(), cursor.level())) {
                    long pages = cursor.lastGfnExclusive() - cursor.firstGfn();
                    sink.young(cursor.firstGfn(), pages);
                    young += pages;
                }
            }
        } finally {
            slot.leave(ReaderSlot.OUTSIDE);
        }
        return young;
    }

    private long ageTable(long table, long startGfn, long endGfn, YoungLeaves sink) {
        long young = 0;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            if (tryAge(SpteAccess.addressOf(table, gfn, PagingLevel.L4K), gfn, PagingLevel.L4K)) {
                sink.young(gfn, 1);
                young++;
            }
        }
        return young;
    }

    /** Makes a leaf old and tells whether it was young; once only, since a lost exchange means that it is young again. */
    private boolean tryAge(long address, long gfn, int level) {
        long spte = SpteAccess.readAcquire(address);
        if (!format.isLeaf(spte, level) || !format.isAccessed(spte)) {
            return false;
        }
        updater.tryChangeBits(address, gfn, level, spte, format.trackAccess(spte));
        return true;
    }

    /**
     * Tells whether any leaf of a range is young.
     *
     * @param slot of the worker, in no section
     * @param root on which the caller holds a reference
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return whether one is
     * @locking none; enters epochs
     */
    boolean testYoung(ReaderSlot slot, TdpRoot root, long startGfn, long endGfn) {
        TdpIterator cursor = new TdpIterator(format);
        slot.enter(ReaderSlot.WALKING);
        try {
            for (cursor.start(root, PagingLevel.L4K, startGfn, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.renewEpochIfDue(slot)) {
                    continue;
                }
                if (format.isLeaf(cursor.spte(), cursor.level()) && format.isAccessed(cursor.spte())) {
                    return true;
                }
            }
        } finally {
            slot.leave(ReaderSlot.OUTSIDE);
        }
        return false;
    }
}
