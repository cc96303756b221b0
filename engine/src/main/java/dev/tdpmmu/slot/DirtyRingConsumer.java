package dev.tdpmmu.slot;

/** Takes the pages that a {@link DirtyRing} logged, in the order of the stores that dirtied them. */
@FunctionalInterface
public interface DirtyRingConsumer {
    /**
     * Takes one page. What the page contains may be copied only after the ring was reset, see
     * {@link DirtyRing#collect}.
     *
     * @param slotId id of the slot
     * @param page page number in the slot
     */
    void dirty(int slotId, long page);
}
