package dev.tdpmmu.mmu;

import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;

/**
 * The tables that exist only because a huge leaf must not be executed, oldest first: what recovery gives up again.
 *
 * <p>A table is marked before it is linked and listed after. Between the two somebody may detach it:
 *
 * <pre>
 *  fault                                  | remover
 *  marks table T, links it                |
 *                                         | detaches T, forgets it: mark cleared, not in the list
 *  lists T                                |   -- a page that is free and in the list; recovery follows its header
 * </pre>
 *
 * <p>So {@link #track} asks for the mark again under the lock. The length of the list is the statistic
 * {@code nx_lpage_splits}, always.
 *
 * @kvm possible_nx_huge_pages
 */
final class PossibleNxPages {
    private final RankedLock lock = new RankedLock(LockRank.PAGES);

    @GuardedBy("lock")
    private long first;

    @GuardedBy("lock")
    private long last;

    /** Written under the lock, read by statistics. */
    private volatile long size;

    PossibleNxPages() {}

    /**
     * Lists a linked table, unless somebody has detached it since it was linked.
     *
     * @param table marked with {@link TableHeaders#NX_HUGE_DISALLOWED} before it was linked
     * @locking MMU lock in any mode, inside an epoch; takes the pages lock
     * @kvm track_possible_nx_huge_page
     */
    void track(long table) {
        lock.lock();
        try {
            if (TableHeaders.nxState(table) != TableHeaders.NX_HUGE_DISALLOWED) {
                return;
            }
            TableHeaders.setNxPrevious(table, last);
            TableHeaders.setNxNext(table, 0);
            if (last == 0) {
                first = table;
            } else {
                TableHeaders.setNxNext(last, table);
            }
            last = table;
            TableHeaders.setNxState(table, TableHeaders.NX_LISTED);
            size++;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Forgets a table that is being taken apart.
     *
     * @param table detached
     * @locking MMU lock in any mode, inside an epoch; takes the pages lock if the table is marked
     * @kvm untrack_possible_nx_huge_page, in tdp_mmu_unlink_sp
     */
    void forget(long table) {
        if (TableHeaders.nxState(table) == TableHeaders.NX_NONE) {
            // The mark was there before the table could be found, so nobody is about to list it.
            return;
        }
        lock.lock();
        try {
            remove(table);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Returns the oldest table, which stays in the list.
     *
     * @return host physical address of the table page, or 0 if the list is empty
     * @locking MMU lock in any mode, inside an epoch; takes the pages lock
     */
    long oldest() {
        lock.lock();
        try {
            return first;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Takes the oldest table off the list; a huge leaf is allowed in its place from now on.
     *
     * @return host physical address of the table page, or 0 if the list is empty
     * @locking MMU lock in any mode, inside an epoch; takes the pages lock
     * @kvm unaccount_nx_huge_page
     */
    long takeOldest() {
        lock.lock();
        try {
            long table = first;
            if (table != 0) {
                remove(table);
            }
            return table;
        } finally {
            lock.unlock();
        }
    }

    private void remove(long table) {
        if (TableHeaders.nxState(table) == TableHeaders.NX_LISTED) {
            long previous = TableHeaders.nxPrevious(table);
            long next = TableHeaders.nxNext(table);
            if (previous == 0) {
                first = next;
            } else {
                TableHeaders.setNxNext(previous, next);
            }
            if (next == 0) {
                last = previous;
            } else {
                TableHeaders.setNxPrevious(next, previous);
            }
            size--;
        }
        TableHeaders.setNxState(table, TableHeaders.NX_NONE);
    }

    /** Returns the length of the list. */
    long size() {
        return size;
    }
}
