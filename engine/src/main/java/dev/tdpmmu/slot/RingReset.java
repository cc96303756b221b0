package dev.tdpmmu.slot;

/** Arms pages again whose entries a {@link DirtyRing} is about to reuse. */
@FunctionalInterface
public interface RingReset {
    /**
     * Arms pages so that the next store to each is logged again. The slot may have been removed or replaced since the
     * pages were logged: pages that it has no more are skipped.
     *
     * @param slotId id of the slot
     * @param firstPage page number in the slot that bit 0 stands for
     * @param mask a bit for each page, bit 0 among them
     */
    void rearm(int slotId, long firstPage, long mask);
}
