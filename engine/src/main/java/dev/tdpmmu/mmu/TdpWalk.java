package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;

/**
 * Reads the tables as the MMU sees them: no permission is checked, no bit is set, no lock is needed.
 *
 * @kvm kvm_tdp_mmu_get_walk
 */
public final class TdpWalk {
    /** Nothing is mapped there. */
    public static final long NOT_MAPPED = -1;

    private final SpteFormat format;

    TdpWalk(SpteFormat format) {
        this.format = format;
    }

    /**
     * Returns where a guest physical address is now.
     *
     * @param root whose tables are read
     * @param gpa guest physical address in bytes, below what the tables map
     * @return host physical address, or {@link #NOT_MAPPED}
     * @locking inside an epoch
     */
    @HotPath
    @RequiresEpoch
    public long translate(TdpRoot root, long gpa) {
        long frame = frameOf(root, Gfn.of(gpa));
        return frame == NOT_MAPPED ? NOT_MAPPED : frame | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    /**
     * Returns the host frame behind a guest frame.
     *
     * @param root whose tables are read
     * @param gfn guest frame number, below what the tables map
     * @return host physical address of its first byte, also inside a huge page; or {@link #NOT_MAPPED}
     * @locking inside an epoch
     */
    @HotPath
    @RequiresEpoch
    public long frameOf(TdpRoot root, long gfn) {
        long table = root.hpa();
        if (root.level() == PagingLevel.L256T) {
            long spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L256T);
            if (!Spte.isTable(spte)) {
                return NOT_MAPPED;
            }
            table = Spte.address(spte);
        }
        long spte = SpteAccess.readAcquire(table, gfn, PagingLevel.L512G);
        if (!Spte.isTable(spte)) {
            return NOT_MAPPED;
        }
        spte = SpteAccess.readAcquire(Spte.address(spte), gfn, PagingLevel.L1G);
        if (!Spte.isTable(spte)) {
            return frameOfHuge(spte, gfn, PagingLevel.L1G);
        }
        spte = SpteAccess.readAcquire(Spte.address(spte), gfn, PagingLevel.L2M);
        if (!Spte.isTable(spte)) {
            return frameOfHuge(spte, gfn, PagingLevel.L2M);
        }
        spte = SpteAccess.readAcquire(Spte.address(spte), gfn, PagingLevel.L4K);
        return Spte.isMmuPresent(spte) ? Spte.address(spte) : NOT_MAPPED;
    }

    private long frameOfHuge(long spte, long gfn, int level) {
        return format.isLeaf(spte, level)
                ? Spte.address(spte) + Gfn.toGpa(gfn & (PagingLevel.pages(level) - 1))
                : NOT_MAPPED;
    }

    /**
     * Reads the entries on the way to a frame.
     *
     * @param root whose tables are read
     * @param gfn guest frame number
     * @param sptes receives the entry of each level at that index; at least 6 long
     * @return level of the lowest entry read
     * @locking inside an epoch
     * @kvm kvm_tdp_mmu_get_walk
     */
    @RequiresEpoch
    public int read(TdpRoot root, long gfn, long[] sptes) {
        int level = root.level();
        long table = root.hpa();
        while (true) {
            long spte = SpteAccess.readAcquire(table, gfn, level);
            sptes[level] = spte;
            if (!format.isTable(spte, level)) {
                return level;
            }
            table = Spte.address(spte);
            level--;
        }
    }
}
