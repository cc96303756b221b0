package dev.tdpmmu.sync;

import dev.tdpmmu.memory.TableHeaders;

/**
 * Table pages that were detached together, chained through their headers; after {@link RcuDomain#retire} they wait for
 * their grace period. Belongs to one thread until it is retired, then to the domain.
 */
public final class RetiredBatch {
    private long chain;
    private int pages;
    private long epoch;

    /** Makes an empty batch. */
    public RetiredBatch() {}

    /**
     * Adds a detached table page.
     *
     * @param tableHpa host physical address
     */
    public void add(long tableHpa) {
        TableHeaders.retire(tableHpa, chain);
        chain = tableHpa;
        pages++;
    }

    /**
     * Tells whether nothing was added.
     *
     * @return whether the batch is empty
     */
    public boolean isEmpty() {
        return pages == 0;
    }

    /**
     * Returns how many pages were added.
     *
     * @return count
     */
    public int pages() {
        return pages;
    }

    long chain() {
        return chain;
    }

    long epoch() {
        return epoch;
    }

    void stamp(long newEpoch) {
        epoch = newEpoch;
    }
}
