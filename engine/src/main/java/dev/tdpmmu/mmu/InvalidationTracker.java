package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.WordBlocks;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;
import java.util.Arrays;

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
 * <p>Two ways to make sure that no fault which asked before the begin installs a leaf after it:
 *
 * <ul>
 *   <li>the invalidation begins under the exclusive MMU lock, as in the kernel: no fault is inside then;
 *   <li>it begins without the lock, and then waits for a grace period ({@link dev.tdpmmu.sync.RcuDomain#synchronize}):
 *       a fault asks and installs in one section, so whoever is inside when the wait begins has left when it ends, and
 *       whoever enters later sees the invalidation. Other faults are not stopped.
 * </ul>
 *
 * @kvm mmu_invalidate_seq, mmu_invalidate_in_progress
 */
public final class InvalidationTracker {
    private static final int BLOCK_BYTES = 512;

    private static final int USED_PLACES = 8;
    private static final int FIRST_PLACE = 16;
    private static final int PLACE_BYTES_SHIFT = 4;
    private static final int END_GFN = 8;

    private static final int PLACES = BLOCK_BYTES - FIRST_PLACE >>> PLACE_BYTES_SHIFT;
    private static final long ALL_PLACES = (1L << PLACES) - 1;

    private static final int IN_PROGRESS_BITS = 12;
    private static final long IN_PROGRESS_MASK = (1L << IN_PROGRESS_BITS) - 1;
    private static final long ONE_ENDED = 1L << IN_PROGRESS_BITS;

    /** In proof runs the sequence starts just before it wraps. */
    private static final long FIRST_WORD = Debug.PROVE ? -4 * ONE_ENDED : 0;

    /** Makes begins and ends of several threads one after the other. */
    private final RankedLock writers = new RankedLock(LockRank.PAGES);

    private final long address = WordBlocks.take(BLOCK_BYTES);

    // What runs now, in the order of the begins: range, and the place that holds it. Guarded by the writers' lock.
    private long[] startGfns = new long[PLACES];
    private long[] endGfns = new long[PLACES];
    private int[] placeOf = new int[PLACES];
    private int running;

    // Design note. Words, all written under the writers' lock and read without:
    //
    //     +0  ended (63:12) | in progress (11:0)
    //     +8  used places, a bit for each
    //    +16  startGfn, endGfn of place 0
    //    +32  startGfn, endGfn of place 1, and so on
    //
    // Both numbers stand in one word, so that a fault finds with one comparison that nothing has begun or ended. 52
    // bits count a million invalidations a second for 142 years, and are only compared for equality.
    //
    // Each place holds the union of the invalidations in it that run now; as a rule it is one. The kernel has one union
    // for all, which is forgotten when nothing runs any more: a host whose invalidations overlap without a gap makes it
    // grow over everything, and faults anywhere retry for ever. Here an invalidation that ends takes its frames along.
    // Where more run at a time than there are places, the next one joins the place that grows least. It cannot wait
    // for a free one instead: a notification that concerns many slots begins one in each before it ends any, and one
    // that begins under the exclusive MMU lock keeps those out that would end theirs. A place of several shrinks
    // whenever one of them ends, so that even then no frame is held up by what has ended.
    //
    // Order of the writers: the place is complete, then its bit, then the count; at the end first the count, then the
    // place. So while an invalidation runs, at every moment some used place covers it, and always the same. A fault
    // reads the word, the bits, start and end of each used place, and the word again. Start and end may be of two
    // moments, but at both they include the range of whoever runs from the first to the second, since what joins only
    // widens and what leaves narrows down to the union of the rest. If the fault misses a range that ran when it read
    // the word, then its end has been counted since, and the second reading of the word tells.

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
        return (snapshot & IN_PROGRESS_MASK) != 0 && isInUsedPlace(gfn);
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
        // The place of an invalidation that the word counts may be free, or another's, when we read it: it has ended
        // between our two reads. The fault would install what has just been taken away.
        return HostWords.readAcquire(address) != now;
    }

    private boolean isInUsedPlace(long gfn) {
        for (long used = HostWords.readAcquire(address + USED_PLACES); used != 0; used &= used - 1) {
            long place = addressOf(Long.numberOfTrailingZeros(used));
            if (gfn >= HostWords.readAcquire(place) && gfn < HostWords.readAcquire(place + END_GFN)) {
                return true;
            }
        }
        return false;
    }

    private long addressOf(int place) {
        return address + FIRST_PLACE + ((long) place << PLACE_BYTES_SHIFT);
    }

    /**
     * Begins an invalidation. Others of the same or other frames may run.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @locking MMU lock exclusive; or none, and the caller waits for a grace period before it changes anything
     * @ordering volatile store, before the scan of the readers
     * @kvm kvm_mmu_invalidate_begin, kvm_mmu_invalidate_range_add
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
        if (running == IN_PROGRESS_MASK) {
            throw new MmuCorruptionException("too many invalidations at a time: max=" + IN_PROGRESS_MASK);
        }
        if (running == placeOf.length) {
            startGfns = Arrays.copyOf(startGfns, 2 * running);
            endGfns = Arrays.copyOf(endGfns, 2 * running);
            placeOf = Arrays.copyOf(placeOf, 2 * running);
        }
        long used = HostWords.readAcquire(address + USED_PLACES);
        boolean joins = used == ALL_PLACES;
        int place = joins ? placeThatGrowsLeast(startGfn, endGfn) : Long.numberOfTrailingZeros(~used);
        long where = addressOf(place);
        HostWords.setRelease(where, joins ? Math.min(startGfn, HostWords.readAcquire(where)) : startGfn);
        HostWords.setRelease(
                where + END_GFN, joins ? Math.max(endGfn, HostWords.readAcquire(where + END_GFN)) : endGfn);
        HostWords.setRelease(address + USED_PLACES, used | 1L << place);
        startGfns[running] = startGfn;
        endGfns[running] = endGfn;
        placeOf[running] = place;
        running++;
        // The range stands before the count says that there is one.
        HostWords.setVolatile(address, HostWords.readAcquire(address) + 1);
    }

    private int placeThatGrowsLeast(long startGfn, long endGfn) {
        int best = 0;
        long least = Long.MAX_VALUE;
        for (int place = 0; place < PLACES; place++) {
            long start = HostWords.readAcquire(addressOf(place));
            long end = HostWords.readAcquire(addressOf(place) + END_GFN);
            long growth = Math.max(end, endGfn) - Math.min(start, startGfn) - (end - start);
            if (growth < least) {
                least = growth;
                best = place;
            }
        }
        return best;
    }

    /**
     * Ends an invalidation.
     *
     * @param startGfn first frame, as begun
     * @param endGfn frame behind the last, as begun
     * @locking any mode of the MMU lock, or none: a fault that was told to retry only tries once more than it had to
     * @kvm kvm_mmu_invalidate_end
     */
    public void end(long startGfn, long endGfn) {
        writers.lock();
        try {
            endLocked(startGfn, endGfn);
        } finally {
            writers.unlock();
        }
    }

    private void endLocked(long startGfn, long endGfn) {
        int ended = running - 1;
        while (ended >= 0 && (startGfns[ended] != startGfn || endGfns[ended] != endGfn)) {
            ended--;
        }
        if (ended < 0) {
            throw new MmuCorruptionException("invalidation ended that was not begun: startGfn=0x"
                    + Long.toHexString(startGfn) + ", endGfn=0x" + Long.toHexString(endGfn));
        }
        int place = placeOf[ended];
        running--;
        System.arraycopy(startGfns, ended + 1, startGfns, ended, running - ended);
        System.arraycopy(endGfns, ended + 1, endGfns, ended, running - ended);
        System.arraycopy(placeOf, ended + 1, placeOf, ended, running - ended);
        // Before the place lets go of the range: a fault that misses it finds that the word has changed.
        HostWords.setVolatile(address, HostWords.readAcquire(address) + ONE_ENDED - 1);
        shrink(place);
    }

    /** Makes a place what is left in it. */
    private void shrink(int place) {
        long start = Long.MAX_VALUE;
        long end = Long.MIN_VALUE;
        boolean isUsed = false;
        for (int i = 0; i < running; i++) {
            if (placeOf[i] == place) {
                isUsed = true;
                start = Math.min(start, startGfns[i]);
                end = Math.max(end, endGfns[i]);
            }
        }
        if (isUsed) {
            HostWords.setRelease(addressOf(place), start);
            HostWords.setRelease(addressOf(place) + END_GFN, end);
        } else {
            HostWords.setRelease(address + USED_PLACES, HostWords.readAcquire(address + USED_PLACES) & ~(1L << place));
        }
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
        WordBlocks.give(address, BLOCK_BYTES);
    }
}
