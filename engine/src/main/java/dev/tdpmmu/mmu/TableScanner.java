package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import java.util.Arrays;

/**
 * Shows all entries of the tables to somebody who reports them, without the MMU lock: faults, zaps and splits go on.
 *
 * <p>Each entry is read once. Two entries may be of different moments: what is zapped, mapped or split behind the
 * scan is not seen any more. Frames come in ascending order and never twice: a huge leaf that has replaced a table
 * while the scan was inside is shown from the frame on at which the scan was.
 *
 * @kvm arch/x86/mm/dump_pagetables.c
 */
public final class TableScanner {
    private final SpteFormat format;
    private final ReaderSlots readers;
    private final RootRegistry roots;
    private final long endGfn;

    TableScanner(SpteFormat format, ReaderSlots readers, RootRegistry roots, long endGfn) {
        this.format = format;
        this.readers = readers;
        this.roots = roots;
        this.endGfn = endGfn;
    }

    /** Is shown what a scan reads. Called inside an epoch: it must not wait. */
    public interface Visitor {
        /**
         * Begins a root.
         *
         * @param root whose entries follow
         */
        void root(TdpRoot root);

        /**
         * Shows that a table page is linked; the root is one.
         *
         * @param level 1 to 5
         */
        void table(int level);

        /**
         * Shows an entry that is neither non-present nor points to a table.
         *
         * @param startGfn first frame that it covers and that was not shown before
         * @param endGfn frame behind the last that it covers
         * @param level level of the table that holds it, 1 to 5
         * @param spte the entry
         */
        void entry(long startGfn, long endGfn, int level, long spte);
    }

    /**
     * Scans the valid root, or every root.
     *
     * @param alsoInvalid whether roots that are being zapped are shown too
     * @param visitor told of what is found
     * @locking none; enters epochs
     */
    public void scan(boolean alsoInvalid, Visitor visitor) {
        ReaderSlot worker = readers.take("dump");
        try {
            for (TdpRoot root : roots.roots()) {
                if ((alsoInvalid || !root.isInvalid()) && root.tryGet()) {
                    try {
                        scan(worker, root, visitor);
                    } finally {
                        roots.put(worker, root);
                    }
                }
            }
        } finally {
            readers.give(worker);
        }
    }

    private void scan(ReaderSlot worker, TdpRoot root, Visitor visitor) {
        TdpIterator cursor = new TdpIterator(format);
        // A new epoch walks from the root again, past tables that were counted before.
        long[] counted = new long[PagingLevel.L256T + 1];
        Arrays.fill(counted, -1);
        visitor.root(root);
        visitor.table(root.level());
        worker.enter(ReaderSlot.WALKING);
        try {
            long end = Math.min(endGfn, PagingLevel.pages(root.level()) << PagingLevel.INDEX_BITS);
            for (cursor.start(root, PagingLevel.L4K, 0, end); cursor.isValid(); cursor.next()) {
                if (cursor.renewEpochIfDue(worker)) {
                    continue;
                }
                long spte = cursor.spte();
                int level = cursor.level();
                if (format.isTable(spte, level)) {
                    if (counted[level] != cursor.gfn()) {
                        counted[level] = cursor.gfn();
                        visitor.table(level - 1);
                    }
                } else if (spte != Spte.NON_PRESENT) {
                    visitor.entry(cursor.firstGfn(), cursor.lastGfnExclusive(), level, spte);
                }
            }
        } finally {
            worker.leave(ReaderSlot.OUTSIDE);
        }
    }
}
