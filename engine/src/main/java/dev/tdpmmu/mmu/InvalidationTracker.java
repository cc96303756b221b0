package dev.tdpmmu.mmu;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.WordBlocks;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;

/**
 * Tells a fault that the frame it looked up may have gone away meanwhile.
 *
 * <p>A fault looks up its frame without the MMU lock. Were nothing to tell it, this could happen:
 *
 * <pre>
 *  fault                                | invalidation
 *  looks up the frame of a gfn          |
 *                                       | zaps the gfn, flushes, gives the frame away
 *  takes the MMU lock, installs a leaf  |   -- the guest now writes to a frame that belongs to somebody else
 * </pre>
 *
 * <p>So the fault takes a {@link #snapshot} <em>before</em> the look-up, and under the lock asks {@link #isStale}: the
 * range is being invalidated now, or some invalidation has ended since.
 *
 * <pre>
 *   +0  ended (63:12) | in progress (11:0)     one line, written only by invalidations
 *   +8  startGfn \  union of the ranges in progress
 *  +16  endGfn   /
 * </pre>
 *
 * <p>Two ways to make sure that no fault which asked before the begin installs a leaf after it:
 *
 * <ul>
 *   <li>the invalidation begins under the exclusive MMU lock, as in the kernel: no fault is inside then;
 *   <li>it begins without the lock, and then waits for a grace period ({@link dev.tdpmmu.sync.RcuDomain#synchronize}):
 *       a fault asks and installs in one section, so whoever is inside when the wait begins has left when it ends, and
 *       whoever enters later sees the invalidation. Other faults are not stopped.
 * </ul>
 *
 * <p>Both numbers stand in one word, so that a fault finds with one comparison that nothing has begun or ended. 52 bits
 * count a million invalidations a second for 142 years, and are only compared for equality.
 *
 * @kvm mmu_invalidate_seq, mmu_invalidate_in_progress
 */
public final class InvalidationTracker {
    private static final int START_GFN = 8;
    private static final int END_GFN = 16;

    private static final int IN_PROGRESS_BITS = 12;
    private static final long IN_PROGRESS_MASK = (1L << IN_PROGRESS_BITS) - 1;
    private static final long ONE_ENDED = 1L << IN_PROGRESS_BITS;

    /** In proof runs the sequence starts just before it wraps. */
    private static final long FIRST_WORD = Debug.PROVE ? -4 * ONE_ENDED : 0;

    /** Makes begins and ends of several threads one after the other. */
    private final RankedLock writers = new RankedLock(LockRank.PAGES);

    private final long address = WordBlocks.take(CacheLines.PAIR_BYTES);

    InvalidationTracker() {
        HostWords.setRelease(address, FIRST_WORD);
    }

    /**
     * Returns the word that a fault remembers before it looks up its frame.
     *
     * @return sequence, and how many invalidations run
     * @ordering acquire: the look-up is not done before it
     */
    @HotPath
    public long snapshot() {
        return HostWords.readAcquire(address);
    }

    /**
     * Tells whether a gfn was being invalidated when a snapshot was taken; without the lock only a hint, which saves
     * taking it in vain.
     *
     * @param snapshot word of that moment
     * @param gfn guest frame number
     * @return whether the gfn lies in a range in progress
     */
    @HotPath
    public boolean isInProgress(long snapshot, long gfn) {
        return (snapshot & IN_PROGRESS_MASK) != 0 && isInRange(gfn);
    }

    /**
     * Tells whether a fault must be tried again.
     *
     * @param snapshot word that it took before its look-up
     * @param gfn its frame
     * @return whether the gfn is or was invalidated since
     * @locking MMU lock, any mode
     * @kvm mmu_invalidate_retry_gfn
     */
    @HotPath
    public boolean isStale(long snapshot, long gfn) {
        long now = HostWords.readAcquire(address);
        return (now != snapshot || (now & IN_PROGRESS_MASK) != 0) && isStaleNow(now, snapshot, gfn);
    }

    private boolean isStaleNow(long now, long snapshot, long gfn) {
        if (now >>> IN_PROGRESS_BITS != snapshot >>> IN_PROGRESS_BITS || isInProgress(now, gfn)) {
            return true;
        }
        // The range may be that of a later invalidation than the word says: ours has ended, another has begun and
        // replaced the range between our two reads. The fault would install what ours has just taken away.
        return HostWords.readAcquire(address) != now;
    }

    private boolean isInRange(long gfn) {
        return gfn >= HostWords.readAcquire(address + START_GFN) && gfn < HostWords.readAcquire(address + END_GFN);
    }

    /**
     * Begins an invalidation. Ranges of several at a time are joined.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @locking MMU lock exclusive; or none, and the caller waits for a grace period before it changes anything
     * @ordering volatile store, before the scan of the readers
     * @kvm kvm_mmu_invalidate_begin
     */
    public void begin(long startGfn, long endGfn) {
        writers.lock();
        try {
            beginLocked(startGfn, endGfn);
        } finally {
            writers.unlock();
        }
    }

    private void beginLocked(long startGfn, long endGfn) {
        long now = HostWords.readAcquire(address);
        long running = now & IN_PROGRESS_MASK;
        if (running == IN_PROGRESS_MASK) {
            throw new MmuCorruptionException("too many invalidations at a time: max=" + IN_PROGRESS_MASK);
        }
        boolean first = running == 0;
        long start = first ? startGfn : Math.min(startGfn, HostWords.readAcquire(address + START_GFN));
        long end = first ? endGfn : Math.max(endGfn, HostWords.readAcquire(address + END_GFN));
        // The range stands before the count says that there is one.
        HostWords.setRelease(address + START_GFN, start);
        HostWords.setRelease(address + END_GFN, end);
        HostWords.setVolatile(address, now + 1);
    }

    /**
     * Ends an invalidation.
     *
     * @locking any mode of the MMU lock, or none: a fault that was told to retry only tries once more than it had to
     * @kvm kvm_mmu_invalidate_end
     */
    public void end() {
        writers.lock();
        try {
            endLocked();
        } finally {
            writers.unlock();
        }
    }

    private void endLocked() {
        long now = HostWords.readAcquire(address);
        if ((now & IN_PROGRESS_MASK) == 0) {
            throw new MmuCorruptionException("invalidation ended that was not begun");
        }
        HostWords.setVolatile(address, now + ONE_ENDED - 1);
    }

    /**
     * Returns how many invalidations run.
     *
     * @return count
     */
    public long inProgress() {
        return HostWords.readAcquire(address) & IN_PROGRESS_MASK;
    }

    void close() {
        WordBlocks.give(address, CacheLines.PAIR_BYTES);
    }
}
