package dev.tdpmmu.sync;

import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.trace.GracePeriodEvent;
import dev.tdpmmu.trace.Trace;
import java.lang.invoke.VarHandle;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.StampedLock;
import org.jctools.queues.varhandle.MpscUnboundedVarHandleArrayQueue;

/**
 * Defers the reuse of table pages until every reader that may still see them has left: epoch-based reclaim.
 *
 * <p>The order is law: <em>detach</em> (no live entry points to the page), <em>flush</em> (no TLB or upper-level cache
 * names it), <em>retire</em> ({@link #retire}), <em>wait</em> (a grace period), <em>reuse</em> (back to the {@link
 * TablePool}).
 *
 * <p>Assumptions: (1) a page is detached before it is retired; (2) whoever follows table entries is inside a section of
 * a {@link ReaderSlot}; (3) sections end without waiting for a grace period.
 *
 * <p>Guarantees: (1) a retired page reaches the pool only after every section that had begun when it was retired has
 * ended; (2) {@link #synchronize} returns only after every section that had begun before the call has ended; (3) {@link
 * #barrier} returns only after every page retired before the call is in the pool.
 */
public final class RcuDomain {
    private static final int QUEUE_CHUNK = 256;

    private final ReaderSlots slots;
    private final TablePool pool;
    private final long maxRetiredPages;
    private final long stallNanos;

    /** Any thread offers; only the holder of {@link #consumer} polls. */
    private final MpscUnboundedVarHandleArrayQueue<RetiredBatch> queue =
            new MpscUnboundedVarHandleArrayQueue<>(QUEUE_CHUNK);

    /** Makes whoever reclaims the queue's single consumer. Only tried, never waited for. */
    private final StampedLock consumer = new StampedLock();

    private final AtomicLong retiredPages = new AtomicLong();
    private final AtomicLong reclaimedPages = new AtomicLong();
    private final AtomicLong retireCalls = new AtomicLong();
    private final AtomicLong gracePeriods = new AtomicLong();

    /** Written by the consumer, read by reports: when the batch that is now the oldest was first found waiting; 0 for none. */
    private volatile long oldestSince;

    // Design note. A batch is stamped with the epoch e that is current after its pages were detached and flushed. A
    // reader whose slot shows an epoch r > e loaded r after somebody had moved the epoch past e, hence after the
    // stamp, hence after the detach: it cannot reach the pages. A reader that loaded an old epoch but has not stored
    // it yet is invisible to a scan; but its store is followed by a full fence, and the scan is preceded by one (the
    // epoch's exchange), so its first read of a table comes after the detach. This is the store-buffering pattern:
    // with both fences, one of the two sees the other. So a batch may be reused when no slot shows an epoch at or
    // before its stamp. Batches are released in queue order; stamps of racing producers may be out of order by a
    // step, which only delays a later batch. See: Fraser, Practical lock-freedom (2004), chapter 5; McKenney,
    // call_rcu.

    /**
     * Makes a domain.
     *
     * @param slots readers that must be waited for
     * @param pool where pages return
     * @param maxRetiredPages bound above which {@link #awaitRoom} waits
     * @param stallTimeout after which a grace period counts as stalled
     */
    public RcuDomain(ReaderSlots slots, TablePool pool, long maxRetiredPages, Duration stallTimeout) {
        this.slots = slots;
        this.pool = pool;
        this.maxRetiredPages = maxRetiredPages;
        this.stallNanos = stallTimeout.toNanos();
    }

    /**
     * Hands detached and flushed pages over. Never waits; the batch must not be used by the caller any more.
     *
     * @param batch pages, may be empty
     * @locking any
     * @ordering full fence, then the stamp is read: after the detach; see the design note
     * @kvm call_rcu
     */
    public void retire(RetiredBatch batch) {
        if (batch.isEmpty()) {
            return;
        }
        // Between the detach and the stamp: an exclusive holder detaches by a release store, which a later load could
        // overtake. The stamp would then be of an epoch in which a reader could still find the page.
        VarHandle.fullFence();
        batch.stamp(slots.epoch());
        retiredPages.addAndGet(batch.pages());
        retireCalls.incrementAndGet();
        queue.offer(batch);
    }

    /**
     * Tells whether so many pages wait that operations should not retire more.
     *
     * @return whether the bound is reached
     */
    public boolean isOverBound() {
        return pendingPages() >= maxRetiredPages;
    }

    /**
     * Returns how many retired pages wait for a grace period.
     *
     * @return pages
     */
    public long pendingPages() {
        return retiredPages.get() - reclaimedPages.get();
    }

    /**
     * Returns how many pages were ever retired.
     *
     * @return pages
     */
    public long retiredPages() {
        return retiredPages.get();
    }

    /**
     * Returns how many pages ever came back to the pool.
     *
     * @return pages
     */
    public long reclaimedPages() {
        return reclaimedPages.get();
    }

    /**
     * Returns how often the epoch was moved on to find a grace period.
     *
     * @return count
     */
    public long gracePeriods() {
        return gracePeriods.get();
    }

    /**
     * Waits until fewer pages than the bound are retired.
     *
     * @throws ReclaimStalledException if the grace period does not end within the stall timeout; it names the reader
     * @locking none of MMU or pages lock, no section
     */
    public void awaitRoom() {
        LockDep.assertNoneHeldFrom(LockRank.MMU);
        long start = System.nanoTime();
        Waiting waiting = new Waiting();
        while (isOverBound()) {
            if (reclaim() == 0) {
                waiting.once();
            }
            if (isOverBound() && System.nanoTime() - start > stallNanos) {
                throw new ReclaimStalledException(
                        "retired memory is at its bound: max=" + maxRetiredPages + ", " + stallReport());
            }
        }
    }

    /**
     * Waits for a grace period.
     *
     * @locking none of MMU or pages lock, no section of the caller
     * @kvm synchronize_rcu
     */
    public void synchronize() {
        LockDep.assertNoneHeldFrom(LockRank.MMU);
        GracePeriodEvent event = Trace.beginGracePeriod();
        long epoch = slots.advanceEpoch();
        gracePeriods.incrementAndGet();
        Waiting waiting = new Waiting();
        while (slots.findReaderUpTo(epoch) != null) {
            waiting.once();
        }
        Trace.endGracePeriod(event, "synchronize");
    }

    /**
     * Waits until every reader is outside the engine, not even handling an exit. For teardown: new accesses must be
     * refused already.
     *
     * @locking none of MMU or pages lock, no section of the caller
     */
    public void awaitAllOutside() {
        LockDep.assertNoneHeldFrom(LockRank.MMU);
        Waiting waiting = new Waiting();
        for (int i = 0, n = slots.size(); i < n; i++) {
            while (ReaderSlot.modeOf(slots.at(i).state()) != ReaderSlot.OUTSIDE) {
                waiting.once();
            }
        }
    }

    /**
     * Waits until every page that was retired before the call is back in the pool.
     *
     * @locking none of MMU or pages lock, no section of the caller
     * @kvm rcu_barrier
     */
    public void barrier() {
        LockDep.assertNoneHeldFrom(LockRank.MMU);
        GracePeriodEvent event = Trace.beginGracePeriod();
        long target = retiredPages.get();
        Waiting waiting = new Waiting();
        while (reclaimedPages.get() - target < 0) {
            if (reclaim() == 0) {
                waiting.once();
            }
        }
        Trace.endGracePeriod(event, "barrier");
    }

    /**
     * Returns to the pool what may be returned now. Never waits; a second caller at the same time does nothing.
     *
     * @return pages returned
     */
    public int reclaim() {
        long stamp = consumer.tryWriteLock();
        if (stamp == 0) {
            return 0;
        }
        try {
            return drainQueue();
        } finally {
            consumer.unlockWrite(stamp);
        }
    }

    private int drainQueue() {
        RetiredBatch batch = queue.peek();
        if (batch == null) {
            oldestSince = 0;
            return 0;
        }
        slots.advanceEpoch();
        gracePeriods.incrementAndGet();
        int returned = 0;
        while (batch != null && slots.findReaderUpTo(batch.epoch()) == null) {
            queue.poll();
            returned += returnPages(batch);
            batch = queue.peek();
        }
        if (returned > 0) {
            Trace.reclaimed(returned, pendingPages());
        }
        oldestSince = batch == null ? 0 : returned > 0 || oldestSince == 0 ? System.nanoTime() : oldestSince;
        return returned;
    }

    private int returnPages(RetiredBatch batch) {
        long page = batch.chain();
        while (page != 0) {
            long next = TableHeaders.nextRetired(page);
            pool.give(page);
            page = next;
        }
        reclaimedPages.addAndGet(batch.pages());
        return batch.pages();
    }

    /**
     * Tells whether the oldest retired batch has waited longer than the stall timeout.
     *
     * @return whether a grace period is stalled
     */
    public boolean isStalled() {
        long since = oldestSince;
        return since != 0 && System.nanoTime() - since > stallNanos;
    }

    /**
     * Reports who holds the oldest epoch now.
     *
     * @return the report; its reader is {@code none} if nobody does
     */
    public StallReport stallReport() {
        long since = oldestSince;
        Duration waited = Duration.ofNanos(since == 0 ? 0 : System.nanoTime() - since);
        ReaderSlot reader = slots.findReaderUpTo(slots.epoch());
        return reader == null
                ? new StallReport("none", ReaderSlot.OUTSIDE, waited, pendingPages())
                : new StallReport(reader.name(), ReaderSlot.modeOf(reader.state()), waited, pendingPages());
    }
}
