package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.trace.Trace;
import dev.tdpmmu.trace.YieldEvent;

/**
 * A cursor over the entries of one root in a gfn range, in pre-order: an entry, then what hangs below it, then its
 * neighbour.
 *
 * <p>Usage, always in this shape:
 *
 * <pre>{@code
 * for (cursor.start(root, minLevel, startGfn, endGfn); cursor.isValid(); cursor.next()) {
 *     if (cursor.yieldIfNeeded(lock, slot, mode)) {
 *         continue;
 *     }
 *     // skip what is not ours; compute; try to set, and on failure cursor.reread() and look again
 * }
 * }</pre>
 *
 * <p>After a yield nothing that was read before may be used: the next step walks again from the root to the entry that
 * had not been processed yet, and skips nothing. A second yield is possible only after the cursor has passed a new gfn,
 * so that two operations cannot yield to each other for ever.
 *
 * <p>Belongs to one thread, is reused, never published.
 *
 * @kvm struct tdp_iter
 */
public final class TdpIterator {
    /**
     * Most entries that an operation looks at between two looks for waiters: it stands on one entry, or on one that
     * points to a table of 4 KiB leaves, which it does as a whole.
     */
    public static final int YIELD_BOUND = PagingLevel.ENTRIES;

    /** Steps after which an operation that nobody waits for leaves its epoch all the same, so that grace periods end. */
    private static final int STEPS_IN_EPOCH = 512;

    private final SpteFormat format;

    /** Table page of each level on the way to the entry; index is the level. */
    private final long[] tables = new long[PagingLevel.L256T + 1];

    private int rootLevel;
    private int minLevel;
    private long endGfn;

    /** Frame that the caller wants next; the entry stands on it or on an entry that covers it. */
    private long nextLastLevelGfn;

    /** {@link #nextLastLevelGfn} at the last yield. */
    private long yieldedGfn;

    private boolean yielded;
    private boolean valid;

    /** Looks for waiters since the epoch was entered. */
    private int stepsInEpoch;

    private int level;
    private long gfn;
    private long spteAddress;
    private long spte;

    /**
     * Makes a cursor.
     *
     * @param format of the entries
     */
    public TdpIterator(SpteFormat format) {
        this.format = format;
    }

    /**
     * Puts the cursor on the first entry of a range.
     *
     * @param root whose tables are visited; the caller keeps it alive
     * @param newMinLevel lowest level to visit, 1 to the root's
     * @param startGfn first frame
     * @param newEndGfn frame behind the last
     * @locking inside an epoch
     * @kvm tdp_iter_start
     */
    public void start(TdpRoot root, int newMinLevel, long startGfn, long newEndGfn) {
        rootLevel = root.level();
        minLevel = newMinLevel;
        endGfn = newEndGfn;
        nextLastLevelGfn = startGfn;
        yieldedGfn = startGfn;
        tables[rootLevel] = root.hpa();
        restart();
    }

    private void restart() {
        yielded = false;
        stepsInEpoch = 0;
        yieldedGfn = nextLastLevelGfn;
        level = rootLevel;
        valid = nextLastLevelGfn < endGfn;
        gfn = Gfn.alignDown(nextLastLevelGfn, level);
        if (valid) {
            reread();
        }
    }

    /**
     * Tells whether the cursor stands on an entry.
     *
     * @return false at the end of the range
     */
    @HotPath
    public boolean isValid() {
        return valid;
    }

    /**
     * Moves to the next entry, or after a yield back to the one that was not processed.
     *
     * @kvm tdp_iter_next
     */
    @HotPath
    public void next() {
        if (yielded) {
            restart();
            return;
        }
        if (tryStepDown()) {
            return;
        }
        do {
            if (tryStepSide()) {
                return;
            }
        } while (tryStepUp());
        valid = false;
    }

    /** Enters the table that the entry points to; the snapshot is read again, since the caller may have changed the entry. */
    @HotPath
    private boolean tryStepDown() {
        if (level == minLevel) {
            return false;
        }
        long now = SpteAccess.readAcquire(spteAddress);
        if (!format.isTable(now, level)) {
            return false;
        }
        level--;
        tables[level] = format.address(now);
        gfn = Gfn.alignDown(nextLastLevelGfn, level);
        reread();
        return true;
    }

    /** Moves to the neighbour in the same table. */
    @HotPath
    private boolean tryStepSide() {
        if (PagingLevel.index(gfn, level) == PagingLevel.ENTRIES - 1) {
            return false;
        }
        gfn += PagingLevel.pages(level);
        nextLastLevelGfn = gfn;
        if (gfn >= endGfn) {
            valid = false;
            return true;
        }
        reread();
        return true;
    }

    /** Goes back to the entry above, which was visited before; its neighbour is next. */
    @HotPath
    private boolean tryStepUp() {
        if (level == rootLevel) {
            return false;
        }
        level++;
        gfn = Gfn.alignDown(gfn, level);
        return true;
    }

    /**
     * Reads the entry again, after a failed exchange.
     *
     * @return its value now
     */
    @HotPath
    public long reread() {
        spteAddress = SpteAccess.addressOf(tables[level], gfn, level);
        spte = SpteAccess.readAcquire(spteAddress);
        return spte;
    }

    /**
     * Lets waiters of the MMU lock in, if there are any and the cursor has made progress since it did so last; from
     * time to time also begins a new epoch.
     *
     * @param lock held by the caller
     * @param slot of the caller
     * @param mode how it is held
     * @return whether the lock was dropped; then the caller continues its loop without using anything it has read
     * @locking MMU lock as {@code mode} says; no flush may be pending
     * @kvm tdp_mmu_iter_cond_resched
     */
    @HotPath
    public boolean yieldIfNeeded(MmuLock lock, ReaderSlot slot, LockMode mode) {
        if (!mustYield(lock, mode)) {
            return false;
        }
        yieldNow(lock, slot, mode);
        return true;
    }

    /**
     * Tells whether the caller should yield now: after it has flushed what is pending, by {@link #yieldNow}.
     *
     * @param lock held by the caller
     * @param mode how it is held
     * @return whether somebody waits, or the epoch has lasted long enough, and progress was made
     */
    @HotPath
    public boolean mustYield(MmuLock lock, LockMode mode) {
        stepsInEpoch++;
        return nextLastLevelGfn != yieldedGfn && (lock.isContended(mode) || stepsInEpoch > STEPS_IN_EPOCH);
    }

    /**
     * Drops the lock and the epoch and takes them again; the next step walks from the root to the same entry.
     *
     * @param lock held by the caller
     * @param slot of the caller
     * @param mode how it is held
     * @locking MMU lock as {@code mode} says; no flush may be pending
     */
    public void yieldNow(MmuLock lock, ReaderSlot slot, LockMode mode) {
        YieldEvent event = Trace.beginYield();
        lock.yield(slot, mode);
        Trace.endYield(event, nextLastLevelGfn, mode);
        yielded = true;
    }

    /**
     * Drops the lock, fills a stock of table pages, and takes the lock again; the next step walks from the root to the
     * same entry.
     *
     * @param lock held by the caller
     * @param slot of the caller
     * @param mode how it is held
     * @param stock that is empty
     * @return false if it stays empty because no page is left under the VM's cap
     * @locking MMU lock as {@code mode} says; no flush may be pending
     */
    boolean topUpUnlocked(MmuLock lock, ReaderSlot slot, LockMode mode, TableCache stock) {
        lock.unlock(slot, mode);
        try {
            // All that it holds: the lock is dropped and the walk begins anew once for many pages.
            stock.topUp(TableCache.CAPACITY);
        } finally {
            lock.lock(slot, mode);
        }
        yielded = true;
        return stock.size() > 0;
    }

    /**
     * Begins a new epoch from time to time, for walks that hold no lock.
     *
     * @param slot of the caller, {@link ReaderSlot#WALKING}
     * @return whether it did; then the caller continues its loop without using anything it has read
     */
    @HotPath
    boolean renewEpochIfDue(ReaderSlot slot) {
        if (++stepsInEpoch <= STEPS_IN_EPOCH || nextLastLevelGfn == yieldedGfn) {
            return false;
        }
        slot.leave(ReaderSlot.OUTSIDE);
        slot.enter(ReaderSlot.WALKING);
        yielded = true;
        return true;
    }

    /**
     * Tells whether the entry points to a table of 4 KiB leaves, which an operation does as a whole.
     *
     * @return whether it does
     */
    @HotPath
    boolean isLeafTable() {
        return level == PagingLevel.L2M && Spte.isTable(spte);
    }

    /**
     * Returns the first frame of the entry that lies in the range.
     *
     * @return gfn
     */
    @HotPath
    long firstGfn() {
        return Math.max(gfn, nextLastLevelGfn);
    }

    /**
     * Returns the frame behind the last one of the entry that lies in the range.
     *
     * @return gfn
     */
    @HotPath
    long lastGfnExclusive() {
        return Math.min(gfn + PagingLevel.pages(level), endGfn);
    }

    /**
     * Returns the first frame that the entry covers.
     *
     * @return gfn
     */
    @HotPath
    public long gfn() {
        return gfn;
    }

    /**
     * Returns the level of the entry.
     *
     * @return 1 to 5
     */
    @HotPath
    public int level() {
        return level;
    }

    /**
     * Returns where the entry is.
     *
     * @return host physical address
     */
    @HotPath
    public long spteAddress() {
        return spteAddress;
    }

    /**
     * Returns the entry as it was read last.
     *
     * @return snapshot
     */
    @HotPath
    public long spte() {
        return spte;
    }
}
