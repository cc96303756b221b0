package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresLock;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockDep;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;

/**
 * Changes linked entries: by compare-and-set under the shared lock, directly under the exclusive one, and by freeze,
 * flush and thaw where a translation must be gone before anything new may take its place.
 *
 * <p>Every change made here is followed by its bookkeeping; a table that a change cuts off is taken apart.
 */
public final class SpteUpdater {
    private final SpteFormat format;
    private final SpteTransition transition;
    private final SubtreeRemover remover;
    private final RemoteTlb remoteTlb;
    private final RcuDomain rcu;

    SpteUpdater(SpteFormat format, RemoteTlb remoteTlb, RcuDomain rcu) {
        this.format = format;
        this.transition = new SpteTransition(format);
        this.remover = new SubtreeRemover(format, transition);
        this.remoteTlb = remoteTlb;
        this.rcu = rcu;
    }

    /**
     * Changes an entry while others may do the same. It must not cut off a table: see {@link #tryReplaceTable} and
     * {@link #tryZap}.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 1 to 5
     * @param oldSpte value that must be there, not FROZEN
     * @param newSpte value to publish
     * @return whether {@code newSpte} was installed; if not, nothing has changed
     * @locking MMU lock shared or exclusive, inside an epoch
     * @ordering volatile exchange; pairs with {@link SpteAccess#readAcquire}
     * @kvm tdp_mmu_set_spte_atomic
     */
    @HotPath
    @RequiresLock("MMU")
    public boolean trySet(ReaderSlot slot, long spteAddress, long gfn, int level, long oldSpte, long newSpte) {
        if (!SpteAccess.compareAndSet(spteAddress, oldSpte, newSpte)) {
            return false;
        }
        transition.apply(slot, gfn, level, oldSpte, newSpte);
        return true;
    }

    /**
     * Changes an entry that no other holder of the MMU lock can change.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 1 to 5
     * @param seenSpte value that the caller saw; hardware may have added A and D since, the fast fix W
     * @param newSpte value to publish
     * @param batch takes the pages of a table that is cut off; to be retired after the flush
     * @return the value that was replaced
     * @locking MMU lock exclusive, inside an epoch
     * @kvm tdp_mmu_set_spte
     */
    @RequiresLock("MMU exclusive")
    public long set(
            ReaderSlot slot, long spteAddress, long gfn, int level, long seenSpte, long newSpte, RetiredBatch batch) {
        LockDep.assertHeldExclusive(LockRank.MMU);
        long oldSpte = seenSpte;
        if (format.isVolatile(seenSpte, level)) {
            // A plain store could overwrite a D bit that hardware sets between our read and the store.
            oldSpte = SpteAccess.exchange(spteAddress, newSpte);
        } else {
            SpteAccess.setRelease(spteAddress, newSpte);
        }
        transition.apply(slot, gfn, level, oldSpte, newSpte);
        if (format.isTable(oldSpte, level)) {
            remover.remove(slot, format.address(oldSpte), LockMode.EXCLUSIVE, batch);
        }
        return oldSpte;
    }

    /**
     * Cuts an entry off under the shared lock without a flush, for roots that no vCPU can use any more.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 1 to 5
     * @param oldSpte MMU-present value that must be there
     * @param batch takes the pages of a table that is cut off
     * @return whether it was cut off; if not, nothing has changed
     * @locking MMU lock shared, inside an epoch
     * @kvm tdp_mmu_set_spte_atomic, in tdp_mmu_zap_root
     */
    @RequiresLock("MMU")
    public boolean tryCutOff(ReaderSlot slot, long spteAddress, long gfn, int level, long oldSpte, RetiredBatch batch) {
        if (!SpteAccess.compareAndSet(spteAddress, oldSpte, Spte.NON_PRESENT)) {
            return false;
        }
        transition.apply(slot, gfn, level, oldSpte, Spte.NON_PRESENT);
        if (format.isTable(oldSpte, level)) {
            remover.remove(slot, format.address(oldSpte), LockMode.SHARED, batch);
        }
        return true;
    }

    /**
     * Zaps one entry of a live root under the shared lock, so that nothing new appears before the old translation is
     * gone.
     *
     * <p>Steps: freeze (the entry becomes FROZEN by compare-and-set; faults that meet it retry), account, take apart a
     * table that hung below, flush (no vCPU completes an access through any of it), thaw (release store of
     * non-present), retire.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 1 to 5
     * @param oldSpte MMU-present value that must be there
     * @return whether it was zapped; if not, nothing has changed
     * @locking MMU lock shared, inside an epoch
     * @kvm tdp_mmu_zap_spte_atomic
     */
    @RequiresLock("MMU")
    public boolean tryZap(ReaderSlot slot, long spteAddress, long gfn, int level, long oldSpte) {
        // Before the exchange: nothing may fail between it and the thaw.
        RetiredBatch batch = new RetiredBatch();
        if (!SpteAccess.compareAndSet(spteAddress, oldSpte, Spte.FROZEN)) {
            return false;
        }
        transition.apply(slot, gfn, level, oldSpte, Spte.FROZEN);
        if (format.isTable(oldSpte, level)) {
            remover.remove(slot, format.address(oldSpte), LockMode.SHARED, batch);
        }
        flushEntry(gfn, level);
        // No compare-and-set: the marker is ours, nobody else writes an entry that is FROZEN.
        SpteAccess.setRelease(spteAddress, Spte.NON_PRESENT);
        rcu.retire(batch);
        return true;
    }

    /**
     * Puts a huge leaf in the place of a table that maps the same frames.
     *
     * <p>Steps: detach (the compare-and-set), take the table apart, flush the whole range (small translations and
     * upper-level entries that lead into the old table), retire.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 2 or 3
     * @param tableSpte table entry that must be there
     * @param leafSpte huge leaf
     * @return whether it was replaced; if not, nothing has changed
     * @locking MMU lock shared, inside an epoch
     * @kvm kvm_tdp_mmu_map, tdp_mmu_map_handle_target_level
     */
    @RequiresLock("MMU")
    public boolean tryReplaceTable(
            ReaderSlot slot, long spteAddress, long gfn, int level, long tableSpte, long leafSpte) {
        // Before the exchange: nothing may fail between it and the retirement.
        RetiredBatch batch = new RetiredBatch();
        if (!SpteAccess.compareAndSet(spteAddress, tableSpte, leafSpte)) {
            return false;
        }
        transition.apply(slot, gfn, level, tableSpte, leafSpte);
        remover.remove(slot, format.address(tableSpte), LockMode.SHARED, batch);
        flushEntry(gfn, level);
        rcu.retire(batch);
        return true;
    }

    private void flushEntry(long gfn, int level) {
        long startGfn = Gfn.alignDown(gfn, level);
        remoteTlb.flushRange(startGfn, startGfn + PagingLevel.pages(level));
    }
}
