package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;

/** One entry of a {@link Tlb}, unpacked for a checker. Reused by its caller; belongs to one thread. */
public final class TlbView {
    /** First guest frame that the entry translates. */
    public long gfn;

    /** Guest frames that it translates. */
    public long pages;

    /** Host physical address of the first frame, or of the table page. */
    public long hpa;

    /** Bits of {@link Access} that are cached; a store is missing until the leaf has D. */
    public int permissions;

    /** Whether the entry names a table page, not a page of the guest. */
    public boolean table;

    /**
     * Level of the table page, 1 or 2; for a page of the guest the level of what is cached: 1 also for a piece of
     * a huge page.
     */
    public int level;

    /** Makes a view without content. */
    public TlbView() {}

    void show(long firstGfn, int coveringLevel, long firstHpa, int cached) {
        gfn = firstGfn;
        pages = PagingLevel.pages(coveringLevel);
        hpa = firstHpa;
        permissions = cached;
        table = false;
        level = coveringLevel;
    }

    void showTable(long firstGfn, int tableLevel, long tableHpa, int allowedAbove) {
        show(firstGfn, tableLevel + 1, tableHpa, allowedAbove);
        table = true;
        level = tableLevel;
    }
}
