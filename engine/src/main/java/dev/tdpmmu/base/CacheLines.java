package dev.tdpmmu.base;

/** Distances that keep two words from sharing what a processor moves between cores. */
public final class CacheLines {
    /** Bytes of a cache line on the processors that matter here. */
    public static final int BYTES = 64;

    /** Two lines: the adjacent-line prefetcher moves them together, so independent words stand this far apart. */
    public static final int PAIR_BYTES = 2 * BYTES;

    private CacheLines() {}
}
