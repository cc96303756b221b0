package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresLock;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
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

    SpteUpdater(SpteFormat format, int vmId, RemoteTlb remoteTlb, RcuDomain rcu, PossibleNxPages nxPages) {
        this.format = format;
        this.transition = new SpteTransition(format, vmId);
        this.remover = new SubtreeRemover(format, transition, nxPages);
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
     * Changes permissions, A or D of a leaf while others may change it as well. No counter depends on them.
     *
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 1 to 3
     * @param oldSpte leaf that must be there
     * @param newSpte leaf of the same frame
     * @return whether {@code newSpte} was installed; if not, nothing has changed
     * @locking inside an epoch; without the MMU lock only by who loses nothing but A
     * @ordering volatile exchange; pairs with {@link SpteAccess#readAcquire}
     */
    @HotPath
    boolean tryChangeBits(long spteAddress, long gfn, int level, long oldSpte, long newSpte) {
        if (!SpteAccess.compareAndSet(spteAddress, oldSpte, newSpte)) {
            return false;
        }
        transition.bitsChanged(gfn, level, oldSpte, newSpte);
        return true;
    }

    /**
     * Zaps the leaves of one table of 4 KiB leaves while no other holder of the MMU lock can change them.
     *
     * @param slot of the caller
     * @param table host physical address of the table page
     * @param startGfn first frame, in the table
     * @param endGfn frame behind the last, in the table or the first behind it
     * @return leaves zapped; their flush is pending
     * @locking MMU lock exclusive, inside an epoch
     * @kvm tdp_mmu_zap_leafs
     */
    @RequiresLock("MMU exclusive")
    int zapLeavesExclusive(ReaderSlot slot, long table, long startGfn, long endGfn) {
        LockDep.assertHeldExclusive(LockRank.MMU);
        int zapped = 0;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            long address = SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
            long oldSpte = SpteAccess.readAcquire(address);
            if (Spte.isMmuPresent(oldSpte)) {
                if (format.isVolatile(oldSpte, PagingLevel.L4K)) {
                    // A plain store could overwrite a D bit that hardware sets between our read and the store.
                    oldSpte = SpteAccess.exchange(address, Spte.NON_PRESENT);
                } else {
                    SpteAccess.setRelease(address, Spte.NON_PRESENT);
                }
                transition.zapped(gfn, PagingLevel.L4K, oldSpte, Spte.NON_PRESENT);
                zapped++;
            }
        }
        slot.count(Counter.PAGES_4K, -zapped);
        return zapped;
    }

    /**
     * Cuts the leaves of one table of 4 KiB leaves off, in a root that no vCPU can use any more: no flush.
     *
     * @param slot of the caller
     * @param table host physical address of the table page
     * @return leaves cut off
     * @locking MMU lock shared, inside an epoch
     */
    @RequiresLock("MMU")
    int cutOffLeaves(ReaderSlot slot, long table) {
        long gfn = TableHeaders.gfn(table);
        int cutOff = 0;
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long address = table + ((long) i << 3);
            long oldSpte = SpteAccess.readAcquire(address);
            while (oldSpte != Spte.NON_PRESENT && !Spte.isFrozen(oldSpte)) {
                if (SpteAccess.compareAndSet(address, oldSpte, Spte.NON_PRESENT)) {
                    // MMIO entries go as well; only leaves are counted.
                    cutOff += Spte.isMmuPresent(oldSpte) ? 1 : 0;
                    transition.zapped(gfn + i, PagingLevel.L4K, oldSpte, Spte.NON_PRESENT);
                    break;
                }
                oldSpte = SpteAccess.readAcquire(address);
            }
        }
        slot.count(Counter.PAGES_4K, -cutOff);
        return cutOff;
    }

    /**
     * Clears leaves of one table of 4 KiB leaves under the shared lock, within an invalidation of their frames, which
     * keeps others from installing anything in their places.
     *
     * @param slot of the caller
     * @param table host physical address of the table page
     * @param startGfn first frame, in the table
     * @param endGfn frame behind the last, in the table or the first behind it
     * @return leaves zapped; their flush is pending
     * @locking MMU lock shared, inside an epoch
     * @kvm tdp_mmu_set_spte_atomic
     */
    @RequiresLock("MMU")
    int zapLeavesShared(ReaderSlot slot, long table, long startGfn, long endGfn) {
        int zapped = 0;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            if (tryClearLeaf(SpteAccess.addressOf(table, gfn, PagingLevel.L4K), gfn)) {
                zapped++;
            }
        }
        slot.count(Counter.PAGES_4K, -zapped);
        return zapped;
    }

    private boolean tryClearLeaf(long address, long gfn) {
        long oldSpte = SpteAccess.readAcquire(address);
        // After a lost exchange everything is asked again: the leaf may have gone, or be frozen by somebody else.
        while (Spte.isMmuPresent(oldSpte)) {
            if (SpteAccess.compareAndSet(address, oldSpte, Spte.NON_PRESENT)) {
                transition.zapped(gfn, PagingLevel.L4K, oldSpte, Spte.NON_PRESENT);
                return true;
            }
            oldSpte = SpteAccess.readAcquire(address);
        }
        return false;
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
            remover.removeUnused(slot, format.address(oldSpte), batch);
        }
        return true;
    }

    /**
     * Cuts a table of a live root off, and leaves flush and retirement to the caller, who does many. Faults may install
     * something in its place before the flush: the frames are the same, so that what a TLB still holds is stale only in
     * its permissions.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 2 to 5
     * @param tableSpte table entry that must be there
     * @param batch takes the pages; to be retired after the flush
     * @return whether it was cut off; if not, nothing has changed
     * @locking MMU lock shared, inside an epoch
     * @kvm kvm_tdp_mmu_zap_possible_nx_huge_page
     */
    @RequiresLock("MMU")
    boolean tryCutOffLive(ReaderSlot slot, long spteAddress, long gfn, int level, long tableSpte, RetiredBatch batch) {
        if (!SpteAccess.compareAndSet(spteAddress, tableSpte, Spte.NON_PRESENT)) {
            return false;
        }
        transition.apply(slot, gfn, level, tableSpte, Spte.NON_PRESENT);
        remover.remove(slot, format.address(tableSpte), LockMode.SHARED, batch);
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
        try {
            flushEntry(gfn, level);
        } finally {
            // No compare-and-set: the marker is ours, nobody else writes an entry that is FROZEN. Also if the flush
            // failed: faults on an entry that stays FROZEN would retry for ever.
            SpteAccess.setRelease(spteAddress, Spte.NON_PRESENT);
        }
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
        if (!tryReplaceTableUnflushed(slot, spteAddress, gfn, level, tableSpte, leafSpte, batch)) {
            return false;
        }
        flushEntry(gfn, level);
        rcu.retire(batch);
        return true;
    }

    /**
     * Puts a huge leaf in the place of a table as {@link #tryReplaceTable} does, but leaves flush and retirement to the
     * caller, who does many.
     *
     * @param slot of the caller
     * @param spteAddress host physical address of the entry
     * @param gfn any frame that it covers
     * @param level of the entry, 2 or 3
     * @param tableSpte table entry that must be there
     * @param leafSpte huge leaf
     * @param batch takes the pages; to be retired after the flush
     * @return whether it was replaced; if not, nothing has changed
     * @locking MMU lock shared, inside an epoch
     * @kvm tdp_mmu_iter_set_spte in kvm_tdp_mmu_recover_huge_pages
     */
    @RequiresLock("MMU")
    boolean tryReplaceTableUnflushed(
            ReaderSlot slot, long spteAddress, long gfn, int level, long tableSpte, long leafSpte, RetiredBatch batch) {
        if (!SpteAccess.compareAndSet(spteAddress, tableSpte, leafSpte)) {
            return false;
        }
        transition.apply(slot, gfn, level, tableSpte, leafSpte);
        long use = remover.remove(slot, format.address(tableSpte), LockMode.SHARED, batch);
        addUse(spteAddress, level, leafSpte, use);
        return true;
    }

    /** Makes a huge leaf look as used as the small ones that it replaced, until somebody replaces it in turn. */
    private void addUse(long spteAddress, int level, long leafSpte, long use) {
        long spte = SpteAccess.readAcquire(spteAddress);
        while (format.isLeaf(spte, level)
                && format.address(spte) == format.address(leafSpte)
                && format.addUse(spte, use) != spte
                && !SpteAccess.compareAndSet(spteAddress, spte, format.addUse(spte, use))) {
            spte = SpteAccess.readAcquire(spteAddress);
        }
    }

    private void flushEntry(long gfn, int level) {
        long startGfn = Gfn.alignDown(gfn, level);
        remoteTlb.flushRange(startGfn, startGfn + PagingLevel.pages(level));
    }
}
