package dev.tdpmmu.mmu;

import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockDep;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RankedLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;
import java.util.ArrayList;
import java.util.List;

/**
 * The roots of a VM. A valid root stays when its last vCPU leaves; only invalidation and the zap that follows free it.
 *
 * <p>The list is copied on write under the pages lock and read without it. Whoever walks it and may yield holds a
 * reference on the root it stands on.
 */
public final class RootRegistry {
    private final int rootLevel;
    private final MmuLock lock;
    private final RcuDomain rcu;
    private final RankedLock pagesLock = new RankedLock(LockRank.PAGES);

    /** Replaced under the pages lock; readers see a whole list. */
    @GuardedBy("pages lock, volatile reads")
    private volatile List<TdpRoot> roots = List.of();

    RootRegistry(int rootLevel, MmuLock lock, RcuDomain rcu) {
        this.rootLevel = rootLevel;
        this.lock = lock;
        this.rcu = rcu;
    }

    /**
     * Returns the valid root, or makes one.
     *
     * @param slot of the caller, in no section
     * @param tables stock with at least one page
     * @return root with a reference for the caller
     * @locking takes the MMU lock shared, then the pages lock
     * @kvm kvm_tdp_mmu_alloc_root
     */
    TdpRoot acquire(ReaderSlot slot, TableCache tables) {
        // Shared, not exclusive: after a slot deletion every vCPU comes here at once. The lock keeps the flag "invalid"
        // still.
        lock.lock(slot, LockMode.SHARED);
        try {
            TdpRoot root = findValid();
            return root != null ? root : findOrCreate(slot, tables);
        } finally {
            lock.unlock(slot, LockMode.SHARED);
        }
    }

    private TdpRoot findValid() {
        for (TdpRoot root : roots) {
            if (!root.isInvalid() && root.tryGet()) {
                return root;
            }
        }
        return null;
    }

    private TdpRoot findOrCreate(ReaderSlot slot, TableCache tables) {
        pagesLock.lock();
        try {
            // Again, under the lock: another vCPU may have made one since.
            TdpRoot root = findValid();
            if (root != null) {
                return root;
            }
            long hpa = tables.take();
            SpteAccess.fillPlain(hpa, Spte.NON_PRESENT);
            TableHeaders.describe(hpa, 0, rootLevel, 0);
            root = new TdpRoot(hpa, rootLevel);
            List<TdpRoot> more = new ArrayList<>(roots);
            more.add(root);
            roots = List.copyOf(more);
            slot.count(Counter.TABLES, 1);
            return root;
        } finally {
            pagesLock.unlock();
        }
    }

    /**
     * Drops a reference; the last one takes the root off the list and retires its page.
     *
     * @param slot of the caller, for the counters
     * @param root one of ours
     * @locking any mode of the MMU lock, or none
     * @kvm kvm_tdp_mmu_put_root
     */
    void put(ReaderSlot slot, TdpRoot root) {
        if (!root.dropReference()) {
            return;
        }
        RetiredBatch batch = new RetiredBatch();
        pagesLock.lock();
        try {
            List<TdpRoot> fewer = new ArrayList<>(roots);
            fewer.remove(root);
            roots = List.copyOf(fewer);
            // List, counter and header change together for whoever holds the pages lock: we hold no MMU lock, so the
            // verifier may run now.
            slot.count(Counter.TABLES, -1);
            batch.add(root.hpa());
        } finally {
            pagesLock.unlock();
        }
        rcu.retire(batch);
    }

    /**
     * Marks every root invalid; faults that hold one retry. Zaps nothing.
     *
     * @locking MMU lock exclusive
     * @kvm kvm_tdp_mmu_invalidate_roots
     */
    void invalidateAll() {
        LockDep.assertHeldExclusive(LockRank.MMU);
        pagesLock.lock();
        try {
            for (TdpRoot root : roots) {
                if (!root.isInvalid()) {
                    root.invalidate();
                }
            }
        } finally {
            pagesLock.unlock();
        }
    }

    /** Takes one root whose zap is scheduled, and with it the duty to zap it and to drop the gift; null if there is none. */
    TdpRoot takeScheduled() {
        pagesLock.lock();
        try {
            for (TdpRoot root : roots) {
                if (root.takeZapSchedule()) {
                    return root;
                }
            }
            return null;
        } finally {
            pagesLock.unlock();
        }
    }

    /** Gives the duty that {@link #takeScheduled} handed out back. */
    void scheduleAgain(TdpRoot root) {
        pagesLock.lock();
        try {
            root.scheduleZap();
        } finally {
            pagesLock.unlock();
        }
    }

    /**
     * Keeps the list, the counter of tables and the roots' headers as they are until {@link #letChange}.
     *
     * @locking MMU lock exclusive; takes the pages lock
     */
    void holdStill() {
        pagesLock.lock();
    }

    /** Ends {@link #holdStill}. */
    void letChange() {
        pagesLock.unlock();
    }

    /**
     * Returns the roots of now, valid and invalid.
     *
     * @return immutable list
     */
    public List<TdpRoot> roots() {
        return roots;
    }
}
