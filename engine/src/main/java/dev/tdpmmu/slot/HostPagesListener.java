package dev.tdpmmu.slot;

/**
 * What a VM hears of the pages behind its slots before and after the host changes them.
 *
 * <p>Called with the host lock held ({@link dev.tdpmmu.sync.LockRank#HOST}) and outside every section. It may take any
 * lock of a VM except one under which somebody waits for {@link HostPages#faultIn}: that takes the host lock. It must
 * not call the pages that announce, except {@link HostPages#word}.
 *
 * @kvm mmu_notifier_ops
 */
public interface HostPagesListener {
    /**
     * Removes every mapping of some pages and keeps faults from making new ones, until the matching end. When it
     * returns, no guest can read or write the pages' frames.
     *
     * <p>If it throws, it has begun nothing: the operation is given up, and no end follows for this listener.
     *
     * @param pages whose pages
     * @param firstPage first page
     * @param endPage page behind the last
     * @param mayBlock whether it may wait for anything but remote flushes and short locks
     * @kvm invalidate_range_start
     */
    void invalidateStart(HostPages pages, long firstPage, long endPage, boolean mayBlock);

    /**
     * Waits until nobody uses a frame whose number it took from a word before the call: devices, which copy inside an
     * epoch without any mapping. Called between start and end, after the words have changed; never by an operation that
     * must not block.
     *
     * <p>Does nothing if not overridden: right where frames are reached through mappings alone.
     *
     * @param pages whose pages
     */
    default void awaitReaders(HostPages pages) {}

    /**
     * Lets faults make mappings again: the words say what is true now. Must not throw.
     *
     * @param pages whose pages
     * @param firstPage first page, as told at the start
     * @param endPage page behind the last, as told at the start
     * @kvm invalidate_range_end
     */
    void invalidateEnd(HostPages pages, long firstPage, long endPage);
}
