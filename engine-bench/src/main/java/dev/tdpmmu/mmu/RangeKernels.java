package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;

/**
 * The loops of the range operations over the tables of one root, each inside one hold of the lock: without taking the
 * roots, yielding and flushing. What is left is what the native model of these operations does.
 *
 * <p>Lies in the MMU's package because what it measures is no API. Belongs to one thread; others may work on other
 * frames of the same root.
 */
public final class RangeKernels {
    private final SpteFormat format;
    private final MmuLock lock;
    private final RcuDomain rcu;
    private final SpteUpdater updater;
    private final WriteProtector protector;
    private final DirtyClearer clearer;
    private final TableLinker linker;
    private final TdpIterator cursor;
    private final ReaderSlot slot;
    private final TableCache tables;
    private final TdpRoot root;

    /**
     * Makes the loops over the tables of a vCPU's root.
     *
     * @param mmu that the tables belong to
     * @param vcpu with a root, used for nothing else meanwhile
     */
    public RangeKernels(TdpMmu mmu, VcpuMmu vcpu) {
        this.format = mmu.format();
        this.lock = mmu.lock();
        this.rcu = mmu.rcu();
        this.updater = mmu.updater();
        this.protector = new WriteProtector(format, lock, updater);
        this.clearer = new DirtyClearer(format, lock, updater, true);
        this.linker = new TableLinker(format, updater, new PossibleNxPages(), new NxPolicy(false));
        this.cursor = new TdpIterator(format);
        this.slot = vcpu.slot;
        this.tables = vcpu.tables;
        this.root = vcpu.root();
    }

    /**
     * Takes W from all leaves of 4 KiB in a range.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return tables in which anything changed
     */
    public long writeProtect(long startGfn, long endGfn) {
        long changed = 0;
        lock.lock(slot, LockMode.SHARED);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()
                    && protector.protectTable(
                            Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive())) {
                changed++;
            }
        }
        lock.unlock(slot, LockMode.SHARED);
        return changed;
    }

    /**
     * Takes D from all leaves of 4 KiB in a range.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves that had it
     */
    public long clearDirty(long startGfn, long endGfn) {
        long cleared = 0;
        lock.lock(slot, LockMode.SHARED);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()) {
                cleared +=
                        clearer.clearTable(Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive());
            }
        }
        lock.unlock(slot, LockMode.SHARED);
        return cleared;
    }

    /**
     * Zaps all leaves of 4 KiB in a range and keeps their tables.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves zapped
     */
    public long zapLeaves(long startGfn, long endGfn) {
        long zapped = 0;
        lock.lock(slot, LockMode.EXCLUSIVE);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()) {
                zapped += updater.zapLeavesExclusive(
                        slot, Spte.address(cursor.spte()), cursor.firstGfn(), cursor.lastGfnExclusive());
            }
        }
        lock.unlock(slot, LockMode.EXCLUSIVE);
        return zapped;
    }

    /**
     * Zaps all leaves of 4 KiB in a range and their tables, in the passes in which an invalid root is zapped.
     *
     * @param startGfn first frame, at the start of a table
     * @param endGfn frame behind the last, at the end of a table
     * @return leaves zapped
     */
    public long zapTables(long startGfn, long endGfn) {
        long zapped = 0;
        lock.lock(slot, LockMode.SHARED);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()) {
                zapped += updater.cutOffLeaves(slot, Spte.address(cursor.spte()));
            }
        }
        RetiredBatch batch = new RetiredBatch();
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()) {
                updater.tryCutOff(slot, cursor.spteAddress(), cursor.gfn(), cursor.level(), cursor.spte(), batch);
                if (batch.pages() >= PagingLevel.ENTRIES) {
                    rcu.retire(batch);
                    batch = new RetiredBatch();
                }
            }
        }
        lock.unlock(slot, LockMode.SHARED);
        rcu.retire(batch);
        return zapped;
    }

    /**
     * Splits all leaves of 2 MiB in a range.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @return leaves split
     */
    public long split(long startGfn, long endGfn) {
        long split = 0;
        lock.lock(slot, LockMode.SHARED);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.level() != PagingLevel.L2M || !format.isLeaf(cursor.spte(), PagingLevel.L2M)) {
                continue;
            }
            if (tables.size() == 0) {
                tables.topUp(TableCache.CAPACITY);
            }
            if (linker.tryLink(slot, tables, cursor.gfn(), cursor.spteAddress(), PagingLevel.L2M, cursor.spte(), false)
                    != Spte.NON_PRESENT) {
                split++;
            }
        }
        lock.unlock(slot, LockMode.SHARED);
        return split;
    }

    /**
     * Puts a leaf into every entry of the tables of 4 KiB leaves in a range, as plain stores: what a guest that has
     * stored to all its pages leaves behind, but at the speed of memory. Nobody may use these frames meanwhile.
     *
     * @param firstSpte leaf of the first frame; the frames of the others follow its own
     * @param startGfn first frame, at the start of a table
     * @param endGfn frame behind the last, at the end of a table
     * @param absent whether the entries were zapped before, so that they must be counted again
     * @return leaves made
     */
    public long fill(long firstSpte, long startGfn, long endGfn, boolean absent) {
        long filled = 0;
        slot.enter(ReaderSlot.WALKING);
        for (cursor.start(root, PagingLevel.L2M, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (cursor.isLeafTable()) {
                SpteAccess.fillRowPlain(
                        Spte.address(cursor.spte()), firstSpte + Gfn.toGpa(cursor.gfn() - startGfn), Gfn.PAGE_SHIFT);
                filled += PagingLevel.ENTRIES;
            }
        }
        slot.leave(ReaderSlot.OUTSIDE);
        if (absent) {
            slot.count(Counter.PAGES_4K, filled);
        }
        return filled;
    }

    /**
     * Takes bits from one leaf of 4 KiB, as a plain store. Nobody may use it meanwhile.
     *
     * @param gfn its frame
     * @param bits to be taken
     */
    public void clearBits(long gfn, long bits) {
        long address = leafAddress(gfn);
        SpteAccess.setPlain(address, SpteAccess.readPlain(address) & ~bits);
    }

    /**
     * Returns the entry of 4 KiB of a frame.
     *
     * @param gfn guest frame number whose table is there
     * @return entry
     */
    public long leaf(long gfn) {
        return SpteAccess.readAcquire(leafAddress(gfn));
    }

    private long leafAddress(long gfn) {
        long table = root.hpa();
        for (int level = root.level(); level > PagingLevel.L4K; level--) {
            table = Spte.address(SpteAccess.readAcquire(table, gfn, level));
        }
        return SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
    }
}
