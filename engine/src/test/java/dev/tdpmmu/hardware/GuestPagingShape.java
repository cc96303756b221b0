package dev.tdpmmu.hardware;

/** Size of the page and number of levels: what the flags of a {@link GuestPagingMatrix} are about. */
enum GuestPagingShape {
    PAGE_4K_OF_4_LEVELS(4, 1),
    PAGE_4K_OF_5_LEVELS(5, 1),
    PAGE_2M_OF_4_LEVELS(4, 2),
    PAGE_2M_OF_5_LEVELS(5, 2),
    PAGE_1G_OF_4_LEVELS(4, 3),
    PAGE_1G_OF_5_LEVELS(5, 3);

    final int levels;

    /** Level of the entry that maps the page. */
    final int leafLevel;

    GuestPagingShape(int levels, int leafLevel) {
        this.levels = levels;
        this.leafLevel = leafLevel;
    }

    /** Level of the entry above the leaf, all of whose flags are tried. */
    int tableLevel() {
        return leafLevel + 1;
    }

    /** Level of the entry above that one, which only withholds permissions; above the levels if there is none. */
    int upperLevel() {
        return leafLevel + 2;
    }

    boolean hasUpper() {
        return upperLevel() <= levels;
    }
}
