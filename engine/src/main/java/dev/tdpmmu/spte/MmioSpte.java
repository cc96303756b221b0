package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;

/**
 * Packs gfn, access and generation into the bits that an MMIO entry has besides its format's value.
 *
 * @kvm generation_mmio_spte_mask, get_mmio_spte_generation
 */
public final class MmioSpte {
    static final int GENERATION_BITS = 18;

    static final int GENERATION_LOW_BITS = 7;
    static final int GENERATION_LOW_SHIFT = 3;
    static final int GENERATION_HIGH_SHIFT = 52;
    static final long GENERATION_LOW = ((1L << GENERATION_LOW_BITS) - 1) << GENERATION_LOW_SHIFT;
    static final long GENERATION_HIGH = ((1L << (GENERATION_BITS - GENERATION_LOW_BITS)) - 1) << GENERATION_HIGH_SHIFT;

    // Loads are always allowed: an entry that allows nothing is not made.
    static final long WRITE = 1L << 10;
    static final long EXECUTE = 1L << 63;

    private MmioSpte() {}

    @HotPath
    static long pack(long gfn, int access, long generation) {
        long low = (generation << GENERATION_LOW_SHIFT) & GENERATION_LOW;
        long high = (generation >>> GENERATION_LOW_BITS << GENERATION_HIGH_SHIFT) & GENERATION_HIGH;
        long writing = (access & Access.WRITE) != 0 ? WRITE : 0;
        long executing = (access & Access.EXECUTE) != 0 ? EXECUTE : 0;
        return Gfn.toGpa(gfn) | low | high | writing | executing;
    }

    /**
     * Returns the generation of the memslots under which an MMIO entry was made. The same for all formats.
     *
     * @param spte MMIO entry
     * @return bits of {@link SpteFormat#MMIO_GENERATION_MASK}
     */
    @HotPath
    public static long generation(long spte) {
        long low = (spte & GENERATION_LOW) >>> GENERATION_LOW_SHIFT;
        long high = (spte & GENERATION_HIGH) >>> GENERATION_HIGH_SHIFT;
        return high << GENERATION_LOW_BITS | low;
    }

    /**
     * Returns the access that an MMIO entry was made for. The same for all formats.
     *
     * @param spte MMIO entry
     * @return bits of {@link Access}, always with {@link Access#READ}
     */
    @HotPath
    public static int access(long spte) {
        int writing = (spte & WRITE) != 0 ? Access.WRITE : 0;
        int executing = (spte & EXECUTE) != 0 ? Access.EXECUTE : 0;
        return Access.READ | writing | executing;
    }
}
