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

    /**
     * Bits of {@link Access} that are cached, for a table also {@link WalkResult#USER}; a store is missing until the
     * leaf has D.
     */
    public int permissions;

    /** Whether the entry names a table page, not a page of the guest. */
    public boolean table;

    /**
     * Level of the table page, 1 to 4; for a page of the guest the level of what is cached: 1 also for a piece of
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

    /** Shows a page by its tag and the word behind it. */
    void showPage(long tag, int pageLevel, long page) {
        show(
                tag << PagingLevel.gfnShift(pageLevel),
                pageLevel,
                page & HardwareWalker.ADDRESS,
                (int) page & Tlb.PERMISSIONS);
    }

    /** Shows a table by its tag and the word behind it. */
    void showTable(long tag, int tableLevel, long word) {
        showPage(tag, tableLevel + 1, word);
        table = true;
        level = tableLevel;
    }
}
