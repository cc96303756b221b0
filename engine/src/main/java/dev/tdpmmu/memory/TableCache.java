package dev.tdpmmu.memory;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;

/**
 * A vCPU's private stock of table pages, filled outside the MMU lock when a fault found tables missing, so that nothing
 * is allocated under it.
 *
 * <p>Belongs to one thread at a time; never published.
 */
public final class TableCache {
    /** Largest stock. */
    public static final int CAPACITY = 12;

    private final TablePool pool;
    private final long[] pages = new long[CAPACITY];
    private int size;

    /**
     * Makes an empty cache.
     *
     * @param pool where pages come from
     */
    public TableCache(TablePool pool) {
        this.pool = pool;
    }

    /**
     * Makes sure that a fault finds the tables that it may need.
     *
     * @param needed pages that must be there, 0 to {@link #CAPACITY}
     * @return whether they are; if not, the VM's cap is reached
     * @locking none held
     */
    @HotPath
    public boolean topUp(int needed) {
        return size >= needed || fill(needed);
    }

    private boolean fill(int needed) {
        size = pool.take(pages, size, needed);
        return size >= needed;
    }

    /**
     * Takes a page, whose content is undefined.
     *
     * @return host physical address
     * @throws IndexOutOfBoundsException if the stock is empty, which {@link #topUp} prevents
     */
    @HotPath
    public long take() {
        return pages[--size];
    }

    /**
     * Puts back a page that was taken and not linked.
     *
     * @param tableHpa host physical address
     */
    public void putBack(long tableHpa) {
        if (Debug.CHECK) {
            TableHeaders.setState(tableHpa, TableHeaders.CACHED);
        }
        pages[size++] = tableHpa;
    }

    /**
     * Returns the size of the stock.
     *
     * @return pages
     */
    public int size() {
        return size;
    }

    /** Returns the whole stock to the pool. */
    public void drain() {
        while (size > 0) {
            pool.give(pages[--size]);
        }
    }
}
