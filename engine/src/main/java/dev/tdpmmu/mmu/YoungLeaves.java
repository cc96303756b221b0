package dev.tdpmmu.mmu;

/** Who is told of each young leaf that a scan meets. Called inside an epoch: must not wait. */
public interface YoungLeaves {
    /**
     * Says that a leaf was young.
     *
     * @param gfn first frame of it in the range
     * @param pages 4 KiB pages of it in the range
     */
    void young(long gfn, long pages);
}
