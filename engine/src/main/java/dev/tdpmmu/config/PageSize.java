package dev.tdpmmu.config;

/** Sizes of leaves and frames. */
public enum PageSize {
    /** 4 KiB, level 1. */
    SIZE_4K(1, 1L << 12),
    /** 2 MiB, level 2. */
    SIZE_2M(2, 1L << 21),
    /** 1 GiB, level 3. */
    SIZE_1G(3, 1L << 30);

    private final int level;
    private final long bytes;

    PageSize(int level, long bytes) {
        this.level = level;
        this.bytes = bytes;
    }

    /**
     * Returns the level at which a leaf has this size.
     *
     * @return 1, 2 or 3
     */
    public int level() {
        return level;
    }

    /**
     * Returns the size.
     *
     * @return bytes
     */
    public long bytes() {
        return bytes;
    }
}
