package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.slot.MemSlot;
import java.util.Arrays;

/**
 * An estimate of how much of a slot is in use: how many scans ago each page was used last.
 *
 * <p>Each {@link #scan} makes the slot's pages old and remembers which were young. Call it at a regular pace; the
 * working set over the last {@code n} paces is {@link #bytes bytes(n)}. Belongs to one thread. One byte a page.
 *
 * <p>How exact: a page used in a pace counts as used then, or, while a TLB keeps its translation, not later than the
 * pace after it was evicted; a huge page counts as a whole.
 */
public final class WorkingSet {
    private static final int OLDEST = 255;

    private final Vm vm;
    private final long baseGfn;
    private final byte[] ages;

    WorkingSet(Vm vm, MemSlot slot) {
        this.vm = vm;
        this.baseGfn = slot.baseGfn();
        this.ages = new byte[Math.toIntExact(slot.pages())];
        Arrays.fill(ages, (byte) OLDEST);
    }

    /** Makes one round: every page gets one scan older, and those that were used since the last round get young. */
    public void scan() {
        OpenVm.whileOpen(vm, this::scanOpen);
    }

    private long scanOpen() {
        for (int i = 0; i < ages.length; i++) {
            int age = Byte.toUnsignedInt(ages[i]);
            ages[i] = (byte) Math.min(age + 1, OLDEST);
        }
        return vm.mmu().ranges().age(baseGfn, baseGfn + ages.length, (gfn, pages) -> {
            int first = (int) (gfn - baseGfn);
            Arrays.fill(ages, first, first + (int) pages, (byte) 0);
        });
    }

    /**
     * Makes one round as {@link #scan} does, and removes the slot's translations from all TLBs, so that pages which
     * stay in a TLB are seen in the next round as well.
     */
    public void scanAndFlush() {
        scan();
        vm.mmu().ranges().flush(baseGfn, baseGfn + ages.length);
    }

    /**
     * Returns how many scans ago a page was seen young.
     *
     * @param page of the slot
     * @return 0 if the last scan found it young; 255 for long ago or never
     */
    public int age(long page) {
        if (page < 0 || page >= ages.length) {
            throw new IllegalArgumentException("slot has no such page: page=" + page + ", pages=" + ages.length);
        }
        return Byte.toUnsignedInt(ages[(int) page]);
    }

    /**
     * Returns how many pages were used within the last scans.
     *
     * @param scans how many, 1 to 255
     * @return 4 KiB pages
     */
    public long pagesYoungerThan(int scans) {
        if (scans < 1 || scans > OLDEST) {
            throw new IllegalArgumentException("number of scans is out of range: scans=" + scans + ", min=1, max=255");
        }
        long young = 0;
        for (byte age : ages) {
            if (Byte.toUnsignedInt(age) < scans) {
                young++;
            }
        }
        return young;
    }

    /**
     * Returns the size of the working set.
     *
     * @param scans over how many, 1 to 255
     * @return bytes
     */
    public long bytes(int scans) {
        return Gfn.toGpa(pagesYoungerThan(scans));
    }
}
