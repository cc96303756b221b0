package dev.tdpmmu.memory;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.PagingLevel;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The table pages of one VM: a lock-free stack of free pages over extents that grow on demand.
 *
 * <p>Pages have any content: whoever links one fills it right before, which leaves its lines in the processor's cache
 * for the entries that follow. At debug level {@code prove} a free page is poisoned, and checked when it is taken.
 * {@link #take} and {@link #give} are safe for use by many threads; growing takes a lock, which is why callers take
 * pages outside the MMU lock and outside sections.
 */
public final class TablePool {
    /** No page: the cap is reached. */
    public static final long NONE = 0;

    private static final long PAGES_PER_EXTENT = 64;
    private static final long EXTENT_BYTES = PAGES_PER_EXTENT * HostMemory.PAGE_SIZE;
    private static final long CHARGE_PER_PAGE = HostMemory.PAGE_SIZE + TableHeaders.BYTES;

    /** A present leaf with reserved bits: hardware that reads it through a stale pointer gets a misconfiguration. */
    private static final long POISON = 0x7ff8_dead_dead_d8fbL;

    private static final int INDEX_BITS = 32;
    private static final long INDEX_MASK = (1L << INDEX_BITS) - 1;

    private final int vmId;
    private final MemoryAccount account;
    private final long headAddress;

    private final ReentrantLock growLock = new ReentrantLock();

    @GuardedBy("growLock")
    private final List<Long> extents = new ArrayList<>();

    @GuardedBy("growLock")
    private long nextFresh;

    @GuardedBy("growLock")
    private long freshEnd;

    @GuardedBy("growLock")
    private long carvedPages;

    @GuardedBy("growLock")
    private boolean closed;

    // Design note. The head of the stack is one off-heap word, {tag:32, page index + 1:32}; the tag changes with
    // every successful exchange, so that a thread which read a head, was held up, and finds the same page on top
    // again fails its exchange although the page's link may have changed (ABA). 2^32 exchanges within one such delay
    // would be needed to fool it. Links live in the headers, so that a free page is not touched.

    /**
     * Makes an empty pool.
     *
     * @param vmId owner, written into each header
     * @param account what each new page and its header is charged to
     */
    public TablePool(int vmId, MemoryAccount account) {
        this.vmId = vmId;
        this.account = account;
        this.headAddress = WordBlocks.take(CacheLines.PAIR_BYTES);
    }

    /**
     * Takes a page, whose content is undefined.
     *
     * @return host physical address, or {@link #NONE} if the cap is reached
     * @locking none held: may take the pool's own lock to grow
     */
    public long take() {
        long page = pop();
        if (page == NONE) {
            return takeFresh();
        }
        if (Debug.PROVE) {
            checkPoison(page);
        }
        TableHeaders.setState(page, TableHeaders.CACHED);
        return page;
    }

    /**
     * Returns a page that nobody can reach any more.
     *
     * @param tableHpa host physical address of the page
     */
    public void give(long tableHpa) {
        if (TableHeaders.state(tableHpa) == TableHeaders.FREE || TableHeaders.owner(tableHpa) != vmId) {
            throw new IllegalStateException("table page is free already or not ours: hpa=0x"
                    + Long.toHexString(tableHpa) + ", owner=" + TableHeaders.owner(tableHpa) + ", vm=" + vmId);
        }
        if (Debug.PROVE) {
            SpteAccess.fillPlain(tableHpa, POISON);
        }
        TableHeaders.countReuse(tableHpa);
        TableHeaders.setState(tableHpa, TableHeaders.FREE);
        push(tableHpa);
    }

    /**
     * Takes pages, whose content is undefined, as {@link #take()} does, but many with one exchange.
     *
     * @param stock gets them
     * @param size pages that it holds, from index 0
     * @param needed pages that it shall hold
     * @return pages that it holds now, fewer than needed if the cap is reached
     * @locking none held: may take the pool's own lock to grow
     */
    public int take(long[] stock, int size, int needed) {
        int held = popChain(stock, size, needed);
        for (int i = size; i < held; i++) {
            if (Debug.PROVE) {
                checkPoison(stock[i]);
            }
            TableHeaders.setState(stock[i], TableHeaders.CACHED);
        }
        while (held < needed) {
            long page = take();
            if (page == NONE) {
                break;
            }
            stock[held++] = page;
        }
        return held;
    }

    private int popChain(long[] stock, int size, int needed) {
        while (true) {
            long head = HostWords.readAcquire(headAddress);
            int held = size;
            long page = pageOf(head);
            while (page != NONE && held < needed) {
                stock[held++] = page;
                // Another thread may have taken the page already, and its link lead into a retired batch or to no
                // page. The tag makes the exchange fail then, and what was collected is overwritten.
                page = TableHeaders.link(page);
            }
            if (held == size || HostWords.compareAndSet(headAddress, head, headOf(head, page))) {
                return held;
            }
        }
    }

    private long pop() {
        while (true) {
            long head = HostWords.readAcquire(headAddress);
            long page = pageOf(head);
            if (page == NONE) {
                return NONE;
            }
            // The page may be taken by another thread between this read and the exchange, and its link changed; the tag
            // makes the exchange fail then. Headers are never unmapped, so the read itself is harmless.
            long next = TableHeaders.link(page);
            if (HostWords.compareAndSet(headAddress, head, headOf(head, next))) {
                return page;
            }
        }
    }

    private void push(long page) {
        while (true) {
            long head = HostWords.readAcquire(headAddress);
            TableHeaders.setLink(page, pageOf(head));
            if (HostWords.compareAndSet(headAddress, head, headOf(head, page))) {
                return;
            }
        }
    }

    private static long pageOf(long head) {
        long indexPlusOne = head & INDEX_MASK;
        return indexPlusOne == 0 ? NONE : HostMemory.TABLES_BASE + (indexPlusOne - 1) * HostMemory.PAGE_SIZE;
    }

    private static long headOf(long oldHead, long page) {
        long tag = (oldHead >>> INDEX_BITS) + 1;
        long indexPlusOne = page == NONE ? 0 : (page - HostMemory.TABLES_BASE) / HostMemory.PAGE_SIZE + 1;
        return tag << INDEX_BITS | indexPlusOne;
    }

    private long takeFresh() {
        growLock.lock();
        try {
            if (closed || !account.tryCharge(CHARGE_PER_PAGE)) {
                return NONE;
            }
            if (nextFresh == freshEnd && !addExtent()) {
                account.refund(CHARGE_PER_PAGE);
                return NONE;
            }
            long page = nextFresh;
            nextFresh += HostMemory.PAGE_SIZE;
            carvedPages++;
            TableHeaders.setOwner(page, vmId);
            TableHeaders.setState(page, TableHeaders.CACHED);
            return page;
        } finally {
            growLock.unlock();
        }
    }

    private boolean addExtent() {
        long extent = HostMemory.TABLES.take(EXTENT_BYTES, HostMemory.PAGE_SIZE);
        if (extent == HostExtents.NONE) {
            return false;
        }
        extents.add(extent);
        nextFresh = extent;
        freshEnd = extent + EXTENT_BYTES;
        return true;
    }

    /**
     * Takes pages, touches them and gives them back, so that later faults neither grow the pool nor pay the operating
     * system's first touch.
     *
     * @param pages how many
     * @return how many the cap allowed
     */
    public int prewarm(int pages) {
        long chain = NONE;
        int taken = 0;
        for (; taken < pages; taken++) {
            long page = take();
            if (page == NONE) {
                break;
            }
            SpteAccess.fillPlain(page, 0);
            TableHeaders.setLink(page, chain);
            chain = page;
        }
        while (chain != NONE) {
            long next = TableHeaders.link(chain);
            give(chain);
            chain = next;
        }
        return taken;
    }

    private static void checkPoison(long page) {
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long word = SpteAccess.readPlain(page + ((long) i << 3));
            if (word != POISON) {
                throw new IllegalStateException("free table page was written: hpa=0x" + Long.toHexString(page)
                        + ", index=" + i + ", found=0x" + Long.toHexString(word));
            }
        }
    }

    /**
     * Returns how many pages are out of the pool: linked, cached or retired. Exact when nobody takes or gives.
     *
     * @return pages; 0 once the pool is closed
     */
    public long pagesInUse() {
        growLock.lock();
        try {
            if (closed) {
                // The word of the head belongs to somebody else by now.
                return 0;
            }
            long free = 0;
            for (long page = pageOf(HostWords.readAcquire(headAddress)); page != NONE; page = TableHeaders.link(page)) {
                free++;
            }
            return carvedPages - free;
        } finally {
            growLock.unlock();
        }
    }

    /**
     * Returns the pages that the pool has ever carved from its extents; these are charged.
     *
     * @return pages
     */
    public long pagesCharged() {
        growLock.lock();
        try {
            return carvedPages;
        } finally {
            growLock.unlock();
        }
    }

    /**
     * Returns the bytes that a number of table pages is charged with, headers included.
     *
     * @param pages count
     * @return bytes
     */
    public static long bytesOf(long pages) {
        return pages * CHARGE_PER_PAGE;
    }

    /**
     * Returns all memory of the pool. Nobody may use its pages any more. A second call does nothing.
     *
     * @throws IllegalStateException if pages are still out; the memory is returned all the same
     */
    public void close() {
        growLock.lock();
        try {
            if (closed) {
                return;
            }
            long inUse = pagesInUse();
            closed = true;
            // Headers first: once an extent is released, another VM may take it and write the headers of its pages.
            HostMemory.giveBackHeaders(extents, EXTENT_BYTES);
            for (long extent : extents) {
                HostMemory.TABLES.release(extent, EXTENT_BYTES);
            }
            extents.clear();
            account.refund(carvedPages * CHARGE_PER_PAGE);
            carvedPages = 0;
            WordBlocks.give(headAddress, CacheLines.PAIR_BYTES);
            if (inUse != 0) {
                throw new IllegalStateException("table pages leaked: vm=" + vmId + ", pages=" + inUse);
            }
        } finally {
            growLock.unlock();
        }
    }
}
