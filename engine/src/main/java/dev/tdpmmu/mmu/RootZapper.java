package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;
import dev.tdpmmu.trace.Trace;
import dev.tdpmmu.trace.ZapEvent;

/**
 * Zaps everything: marks the roots invalid, briefly and exclusively, makes every vCPU load a new one, then takes the
 * old ones apart, shared and long, while faults go on in the new root.
 *
 * <p>An invalid root is zapped in passes, 4 KiB leaves first, then what hangs on 2 MiB entries, 1 GiB entries and the
 * root's own: so the longest step without a yield point is one table of 512 entries that are empty already.
 *
 * <p>No flush in the zap itself: before the roots were unlocked as invalid, every vCPU dropped its translations and its
 * root ({@link RemoteTlb#reloadRoots}), and nobody can load an invalid one. That is the flush of the rule <em>detach,
 * flush, retire</em>.
 *
 * @kvm kvm_mmu_zap_all_fast, kvm_tdp_mmu_zap_invalidated_roots
 */
final class RootZapper {
    private final SpteFormat format;
    private final MmuLock lock;
    private final RootRegistry registry;
    private final SpteUpdater updater;
    private final RcuDomain rcu;
    private final RemoteTlb remoteTlb;
    private final InvalidationTracker tracker;

    RootZapper(
            SpteFormat format,
            MmuLock lock,
            RootRegistry registry,
            SpteUpdater updater,
            RcuDomain rcu,
            RemoteTlb remoteTlb,
            InvalidationTracker tracker) {
        this.format = format;
        this.lock = lock;
        this.registry = registry;
        this.updater = updater;
        this.rcu = rcu;
        this.remoteTlb = remoteTlb;
        this.tracker = tracker;
    }

    /**
     * Zaps every root. When it returns, no vCPU uses a translation from before the call, and no entry from before it
     * exists.
     *
     * @param slot of the worker
     * @param startGfn first frame whose faults in flight must retry
     * @param endGfn frame behind the last
     * @locking takes the MMU lock, exclusive then shared; may wait for room among retired pages
     */
    void zapAllFast(ReaderSlot slot, long startGfn, long endGfn) {
        ZapEvent event = Trace.beginZap();
        lock.lock(slot, LockMode.EXCLUSIVE);
        try {
            tracker.begin(startGfn, endGfn);
            registry.invalidateAll();
            remoteTlb.reloadRoots();
            tracker.end(startGfn, endGfn);
        } finally {
            lock.unlock(slot, LockMode.EXCLUSIVE);
        }
        long zapped = zapInvalidated(slot);
        Trace.endZap(event, 0, Long.MAX_VALUE, LockMode.SHARED, zapped);
    }

    private long zapInvalidated(ReaderSlot slot) {
        long zapped = 0;
        TdpRoot root = registry.takeScheduled();
        while (root != null) {
            zapped += zapOrReschedule(slot, root);
            // The gift of the MMU itself: dropped last, so that the root was alive all through the zap.
            registry.put(slot, root);
            root = registry.takeScheduled();
        }
        return zapped;
    }

    private long zapOrReschedule(ReaderSlot slot, TdpRoot root) {
        boolean done = false;
        try {
            long zapped = zap(slot, root);
            done = true;
            return zapped;
        } finally {
            if (!done) {
                // A stalled grace period ended the operation: the next zap goes on where this one stopped.
                registry.scheduleAgain(root);
            }
        }
    }

    private long zap(ReaderSlot slot, TdpRoot root) {
        long zapped = 0;
        for (int level = PagingLevel.L4K; level <= root.level(); level++) {
            zapped += zapLevel(slot, root, level);
            rcu.awaitRoom();
        }
        return zapped;
    }

    /** One pass: cuts off every present entry of a level. Lower passes have emptied what hangs below. */
    private long zapLevel(ReaderSlot slot, TdpRoot root, int level) {
        long zapped = 0;
        TdpIterator cursor = new TdpIterator(format);
        RetiredBatch batch = new RetiredBatch();
        long endGfn = PagingLevel.pages(root.level() + 1);
        lock.lock(slot, LockMode.SHARED);
        try {
            for (cursor.start(root, Math.max(level, PagingLevel.L2M), 0, endGfn); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(lock, slot, LockMode.SHARED)) {
                    continue;
                }
                if (level == PagingLevel.L4K) {
                    if (cursor.isLeafTable()) {
                        zapped += updater.cutOffLeaves(slot, Spte.address(cursor.spte()));
                    }
                    continue;
                }
                if (cursor.level() > level) {
                    continue;
                }
                zapped += cutOff(slot, cursor, batch);
                if (batch.pages() >= PagingLevel.ENTRIES) {
                    rcu.retire(batch);
                    batch = new RetiredBatch();
                }
            }
        } finally {
            lock.unlock(slot, LockMode.SHARED);
            rcu.retire(batch);
        }
        return zapped;
    }

    private int cutOff(ReaderSlot slot, TdpIterator cursor, RetiredBatch batch) {
        long spte = cursor.spte();
        while (spte != Spte.NON_PRESENT && !Spte.isFrozen(spte)) {
            if (updater.tryCutOff(slot, cursor.spteAddress(), cursor.gfn(), cursor.level(), spte, batch)) {
                return 1;
            }
            spte = cursor.reread();
        }
        return 0;
    }
}
