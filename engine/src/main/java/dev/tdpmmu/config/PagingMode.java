package dev.tdpmmu.config;

/** Which processor's second-level page tables a VM has, and how many levels. */
public enum PagingMode {
    /** Intel extended page tables, four levels. */
    EPT4(true, 4),
    /** Intel extended page tables, five levels. */
    EPT5(true, 5),
    /** AMD nested page tables, four levels. */
    NPT4(false, 4),
    /** AMD nested page tables, five levels. */
    NPT5(false, 5);

    private final boolean ept;
    private final int levels;

    PagingMode(boolean ept, int levels) {
        this.ept = ept;
        this.levels = levels;
    }

    /**
     * Tells the family.
     *
     * @return whether this is EPT; else it is NPT
     */
    public boolean isEpt() {
        return ept;
    }

    /**
     * Returns the level of the root.
     *
     * @return 4 or 5
     */
    public int levels() {
        return levels;
    }
}
