package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.trace.Trace;
import dev.tdpmmu.trace.ZapEvent;

/**
 * The operations on gfn ranges, each over all roots that it concerns, with a worker of its own.
 *
 * <p>Each takes the MMU lock itself, yields, and has flushed what it took away when it returns. Whoever changes what a
 * range means (slots, flags) holds the slots lock around it.
 */
public final class RangeOperations {
    private final ReaderSlots readers;
    private final TablePool pool;
    private final MmuLock lock;
    private final RootRegistry roots;
    private final InvalidationTracker tracker;
    private final RcuDomain rcu;
    private final RemoteTlb remoteTlb;
    private final RangeZapper zapper;
    private final WriteProtector protector;
    private final DirtyClearer clearer;
    private final HugePageSplitter splitter;
    private final HugePageRecoverer recoverer;
    private final AgeScanner ager;
    private final NxHugePageRecovery nxRecovery;
    private final WriteTracks tracks;

    /** The parts, made by {@link TdpMmu}. */
    record Parts(
            RangeZapper zapper,
            WriteProtector protector,
            DirtyClearer clearer,
            HugePageSplitter splitter,
            HugePageRecoverer recoverer,
            AgeScanner ager,
            NxHugePageRecovery nxRecovery,
            WriteTracks tracks) {}

    RangeOperations(
            ReaderSlots readers,
            TablePool pool,
            MmuLock lock,
            RootRegistry roots,
            InvalidationTracker tracker,
            RcuDomain rcu,
            RemoteTlb remoteTlb,
            Parts parts) {
        this.readers = readers;
        this.pool = pool;
        this.lock = lock;
        this.roots = roots;
        this.tracker = tracker;
        this.rcu = rcu;
        this.remoteTlb = remoteTlb;
        this.zapper = parts.zapper();
        this.protector = parts.protector();
        this.clearer = parts.clearer();
        this.splitter = parts.splitter();
        this.recoverer = parts.recoverer();
        this.ager = parts.ager();
        this.nxRecovery = parts.nxRecovery();
        this.tracks = parts.tracks();
    }

    /** One operation on one root, on which a reference is held. */
    private interface OnRoot {
        /** Does it and returns how much was done. */
        long apply(ReaderSlot worker, TdpRoot root);
    }

    /** Does something to every valid root, or to all. */
    private long onRoots(String name, boolean alsoInvalid, OnRoot operation) {
        ReaderSlot worker = readers.take(name);
        try {
            long done = 0;
            for (TdpRoot root : roots.roots()) {
                if ((alsoInvalid || !root.isInvalid()) && root.tryGet()) {
                    try {
                        done += operation.apply(worker, root);
                    } finally {
                        roots.put(worker, root);
                    }
                }
            }
            return done;
        } finally {
            readers.give(worker);
        }
    }

    private long zapExclusive(ReaderSlot worker, long startGfn, long endGfn, boolean mayYield) {
        long zapped = 0;
        for (TdpRoot root : roots.roots()) {
            if (root.tryGet()) {
                try {
                    zapped += zapper.zapExclusive(worker, root, startGfn, endGfn, mayYield);
                } finally {
                    roots.put(worker, root);
                }
            }
        }
        return zapped;
    }

    /**
     * Begins an invalidation by the host and unmaps the range: when this returns no vCPU uses a translation of it, and
     * none is made before {@link #invalidateEnd}. If it throws, nothing has begun.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param how shared, so that faults elsewhere go on; or exclusive, as in the kernel
     * @param mayBlock whether the operation may wait for others and let others in; if not, it takes the lock
     *     exclusively and does not yield
     * @return leaves zapped
     * @locking none held; takes the MMU lock
     * @kvm kvm_mmu_notifier_invalidate_range_start, kvm_tdp_mmu_unmap_gfn_range
     */
    public long invalidateStart(long startGfn, long endGfn, OperationLock how, boolean mayBlock) {
        ZapEvent event = Trace.beginZap();
        long zapped = unmapLocked(startGfn, endGfn, how, mayBlock);
        Trace.endZap(event, startGfn, endGfn, mayBlock ? how : OperationLock.EXCLUSIVE, zapped);
        return zapped;
    }

    private long unmapLocked(long startGfn, long endGfn, OperationLock how, boolean mayBlock) {
        return how == OperationLock.SHARED && mayBlock
                ? invalidateShared(startGfn, endGfn)
                : invalidateExclusive(startGfn, endGfn, mayBlock);
    }

    private long invalidateShared(long startGfn, long endGfn) {
        tracker.begin(startGfn, endGfn);
        boolean done = false;
        try {
            // Faults that asked before the begin have installed what they will when this returns.
            rcu.synchronize();
            long zapped = onRoots("unmap", true, (worker, root) -> zapper.zapShared(worker, root, startGfn, endGfn));
            done = true;
            return zapped;
        } finally {
            endUnless(done, startGfn, endGfn);
        }
    }

    private long invalidateExclusive(long startGfn, long endGfn, boolean mayYield) {
        ReaderSlot worker = readers.take("unmap");
        try {
            lock.lock(worker, LockMode.EXCLUSIVE);
            try {
                tracker.begin(startGfn, endGfn);
                boolean done = false;
                try {
                    long zapped = zapExclusive(worker, startGfn, endGfn, mayYield);
                    done = true;
                    return zapped;
                } finally {
                    endUnless(done, startGfn, endGfn);
                }
            } finally {
                lock.unlock(worker, LockMode.EXCLUSIVE);
            }
        } finally {
            readers.give(worker);
        }
    }

    /** Ends an invalidation whose begin fails: nobody else would, and faults on its range would retry for ever. */
    private void endUnless(boolean done, long startGfn, long endGfn) {
        if (!done) {
            tracker.end(startGfn, endGfn);
        }
    }

    /**
     * Ends an invalidation by the host: the range may be mapped again.
     *
     * @param startGfn first frame, as begun
     * @param endGfn frame behind the last, as begun
     * @locking none needed
     * @kvm kvm_mmu_notifier_invalidate_range_end
     */
    public void invalidateEnd(long startGfn, long endGfn) {
        tracker.end(startGfn, endGfn);
    }

    /**
     * Unmaps a range as {@link #invalidateStart} and {@link #invalidateEnd} do, with nothing between: zaps its leaves
     * in valid and invalid roots; they fault in again. Faults in flight on the range retry.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param how shared or exclusive
     * @param mayBlock whether it may wait and yield
     * @return leaves zapped
     * @locking no MMU lock held; takes it
     * @kvm kvm_zap_gfn_range, kvm_tdp_mmu_zap_leafs
     */
    public long unmap(long startGfn, long endGfn, OperationLock how, boolean mayBlock) {
        long zapped = invalidateStart(startGfn, endGfn, how, mayBlock);
        tracker.end(startGfn, endGfn);
        return zapped;
    }

    /**
     * Makes sure that every fault which looked up the slots before the call has ended or will retry, and that nobody
     * works in an epoch with what it found in them. Waits for no lock.
     *
     * @param startGfn first frame whose faults retry
     * @param endGfn frame behind the last
     */
    public void retryFaults(long startGfn, long endGfn) {
        tracker.begin(startGfn, endGfn);
        tracker.end(startGfn, endGfn);
        rcu.synchronize();
    }

    /**
     * Takes W from the leaves of a range and flushes, so that the next store to each page faults; the fast fix gives W
     * back.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return whether anything was writable
     * @locking takes the MMU lock shared; yields
     * @kvm kvm_tdp_mmu_wrprot_slot
     */
    public boolean writeProtect(long startGfn, long endGfn) {
        return writeProtect(startGfn, endGfn, PagingLevel.L4K);
    }

    /**
     * Takes W from leaves of a range and flushes.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param minLevel lowest level whose leaves are protected, 1 to 3; above 1 they lose D as well
     * @return whether anything was writable
     * @locking takes the MMU lock shared; yields
     */
    public boolean writeProtect(long startGfn, long endGfn, int minLevel) {
        long changed = onRoots(
                "write-protect",
                false,
                (worker, root) -> protector.protect(worker, root, startGfn, endGfn, minLevel) ? 1 : 0);
        // Also if nothing was writable: another write protection may have cleared the entries and not have flushed yet.
        // We would call pages protected that a vCPU still writes through its TLB.
        flushWholeLeaves(startGfn, endGfn);
        return changed != 0;
    }

    /** A leaf that reaches beyond the range has changed everywhere, and a TLB may hold it in pieces. */
    private void flushWholeLeaves(long startGfn, long endGfn) {
        remoteTlb.flushRange(
                Gfn.alignDown(startGfn, PagingLevel.MAX_HUGE),
                Gfn.alignDown(endGfn - 1, PagingLevel.MAX_HUGE) + PagingLevel.pages(PagingLevel.MAX_HUGE));
    }

    /**
     * Takes D from the 4 KiB leaves of a range and flushes, so that the next store to each page sets it again.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves that had D
     * @locking takes the MMU lock shared; yields
     * @kvm kvm_tdp_mmu_clear_dirty_slot
     */
    public long clearDirty(long startGfn, long endGfn) {
        long cleared =
                onRoots("clear dirty", false, (worker, root) -> clearer.clearRange(worker, root, startGfn, endGfn));
        remoteTlb.flushRange(startGfn, endGfn);
        return cleared;
    }

    /**
     * Arms pages so that the next store to each is logged, and flushes.
     *
     * @param memSlot slot whose stores are logged
     * @param pages of the slot, at least one
     * @param how shared; or exclusive, as in the kernel
     * @locking slots lock held; takes the MMU lock; yields between words
     * @kvm kvm_arch_mmu_enable_log_dirty_pt_masked
     */
    public void arm(MemSlot memSlot, DirtyPages pages, OperationLock how) {
        LockMode mode = how == OperationLock.SHARED ? LockMode.SHARED : LockMode.EXCLUSIVE;
        // The roots are read after the marks were taken: a leaf in a root that is made later is made by a fault that
        // comes later, and marks its page again.
        onRoots("arm dirty pages", false, (worker, root) -> arm(worker, root, memSlot, pages, mode));
        remoteTlb.flushRange(memSlot.baseGfn(), memSlot.endGfn());
    }

    private long arm(ReaderSlot worker, TdpRoot root, MemSlot memSlot, DirtyPages pages, LockMode mode) {
        int words = 0;
        lock.lock(worker, mode);
        try {
            long page = pages.next(0);
            while (page >= 0) {
                int word = (int) (page >>> 6);
                clearer.arm(root, memSlot.baseGfn() + ((long) word << 6), pages.word(word));
                if (lock.isContended(mode) || ++words % TdpIterator.YIELD_BOUND == 0) {
                    lock.yield(worker, mode);
                }
                long next = (long) (word + 1) << 6;
                page = next < pages.pages() ? pages.next(next) : -1;
            }
        } finally {
            lock.unlock(worker, mode);
        }
        return words;
    }

    /**
     * Splits the huge leaves that map a part of a range.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param targetLevel largest level that may stay, 1 or 2
     * @return leaves split; fewer than there are if the VM's memory cap was reached, which is no error: stores split
     *     the others
     * @locking takes the MMU lock shared; yields
     * @kvm kvm_tdp_mmu_try_split_huge_pages
     */
    public long split(long startGfn, long endGfn, int targetLevel) {
        TableCache tables = new TableCache(pool);
        try {
            return onRoots(
                    "split",
                    false,
                    (worker, root) -> splitter.split(worker, tables, root, startGfn, endGfn, targetLevel));
        } finally {
            tables.drain();
        }
    }

    /**
     * Puts huge leaves back where a slot allows them.
     *
     * @param memSlot live slot without a dirty log
     * @return tables replaced
     * @locking slots lock held; takes the MMU lock shared; yields
     * @kvm kvm_tdp_mmu_recover_huge_pages
     */
    public long recover(MemSlot memSlot) {
        return onRoots("recover", false, (worker, root) -> recoverer.recover(worker, root, memSlot));
    }

    /**
     * Makes the leaves of a range old, without the MMU lock and without a flush.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return 4 KiB pages that were young
     * @kvm kvm_tdp_mmu_age_gfn_range
     */
    public long age(long startGfn, long endGfn) {
        return age(startGfn, endGfn, (gfn, pages) -> {});
    }

    /**
     * Makes the leaves of a range old and tells which were young.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param sink told of each; must not wait
     * @return 4 KiB pages that were young
     */
    public long age(long startGfn, long endGfn, YoungLeaves sink) {
        return onRoots("age", false, (worker, root) -> ager.clearYoung(worker, root, startGfn, endGfn, sink));
    }

    /**
     * Tells whether any leaf of a range is young.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return whether one is
     * @kvm kvm_tdp_mmu_test_age_gfn
     */
    public boolean testAge(long startGfn, long endGfn) {
        return onRoots("test age", false, (worker, root) -> ager.testYoung(worker, root, startGfn, endGfn) ? 1 : 0)
                != 0;
    }

    /**
     * Removes the translations of whole leaves that a range touches from every TLB.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     */
    public void flush(long startGfn, long endGfn) {
        flushWholeLeaves(startGfn, endGfn);
    }

    /**
     * Gives up tables that exist only because a huge leaf must not be executed.
     *
     * @param budget most tables to look at
     * @return tables zapped
     * @locking takes the MMU lock shared; yields
     * @kvm kvm_recover_nx_huge_pages
     */
    public long recoverNx(long budget) {
        ReaderSlot worker = readers.take("NX recovery");
        try {
            return nxRecovery.recover(worker, budget);
        } finally {
            readers.give(worker);
        }
    }

    /**
     * Begins to watch the stores to some frames: when this returns every store to them ends as
     * {@link FaultResult#EMULATE}.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @locking slots lock held; takes the MMU lock exclusive; yields
     * @kvm kvm_write_track_add_gfn
     */
    public void watch(long startGfn, long endGfn) {
        tracks.add(startGfn, endGfn);
        ReaderSlot worker = readers.take("watch");
        try {
            lock.lock(worker, LockMode.EXCLUSIVE);
            try {
                // The roots are read under the lock: whoever asked before the frames were added has left, and a root
                // that is made while we yield is filled by faults that ask later.
                for (TdpRoot root : roots.roots()) {
                    if (!root.isInvalid() && root.tryGet()) {
                        try {
                            protector.protectForWatch(worker, root, startGfn, endGfn, remoteTlb);
                        } finally {
                            roots.put(worker, root);
                        }
                    }
                }
            } finally {
                lock.unlock(worker, LockMode.EXCLUSIVE);
            }
        } finally {
            readers.give(worker);
        }
    }

    /**
     * Ends {@link #watch} of the same frames, once. Their leaves become writable again by faults.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @locking slots lock held
     * @kvm kvm_write_track_remove_gfn
     */
    public void unwatch(long startGfn, long endGfn) {
        tracks.remove(startGfn, endGfn);
    }

    /**
     * Tells whether stores to a frame are watched.
     *
     * @param gfn guest frame number
     * @return whether they are
     */
    public boolean isWatched(long gfn) {
        return tracks.contains(gfn);
    }

    /** Tells whether stores to any frame of a leaf are watched. */
    boolean isWatched(long gfn, int level) {
        return tracks.contains(gfn) || tracks.maxLevel(gfn, level) < level;
    }
}
