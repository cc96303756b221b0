package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.TlbView;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Compares what a vCPU's TLB holds with the tables, while nothing else runs.
 *
 * <p>The vCPU makes one access first, so that it applies the flushes that it has not seen. Whatever is left must be in
 * the tables: the same frame, no permission more, no store without D, the same table pages.
 */
final class TlbAtRest {
    private TlbAtRest() {}

    /**
     * Checks every entry.
     *
     * @param vm the VM, at rest
     * @param vcpu one of its vCPUs, open
     * @param mappedGpa an address with a slot
     * @return entries that were compared
     */
    static int requireAgreement(Vm vm, Vcpu vcpu, long mappedGpa) {
        vcpu.touch(mappedGpa, Access.READ);
        TdpMmu mmu = vm.mmu();
        Tlb tlb = vcpu.run().tlb;
        TlbView view = new TlbView();
        long[] sptes = new long[PagingLevel.L256T + 1];
        ReaderSlot slot = vcpu.run().slot;
        int compared = 0;
        slot.enter(ReaderSlot.WALKING);
        try {
            for (int i = 0; i < tlb.capacity(); i++) {
                if (tlb.entryAt(i, view)) {
                    int level = mmu.walk().read(vcpu.run().mmu().root(), view.gfn, sptes);
                    compare(vcpu, mmu.format(), view, level, sptes);
                    compared++;
                }
            }
        } finally {
            slot.leave(ReaderSlot.OUTSIDE);
        }
        return compared;
    }

    private static void compare(Vcpu vcpu, SpteFormat format, TlbView view, int level, long[] sptes) {
        if (view.table) {
            long above = sptes[view.level + 1];
            require(vcpu, view, level <= view.level && format.address(above) == view.hpa, "another table is there");
            return;
        }
        long spte = beforeAgeing(format, sptes[level]);
        require(vcpu, view, format.isLeaf(spte, level), "no leaf is there");
        long offset = Gfn.toGpa(view.gfn - Gfn.alignDown(view.gfn, level));
        require(vcpu, view, format.address(spte) + offset == view.hpa, "another frame is there");
        require(vcpu, view, format.allows(spte, view.permissions), "the leaf allows less");
        boolean storesWithoutDirty = (view.permissions & Access.WRITE) != 0 && !format.isDirty(spte);
        require(vcpu, view, !storesWithoutDirty, "the leaf has no D");
    }

    /**
     * Where there is no A bit, ageing takes permissions and does not flush, and a load gives all but W back: what was
     * taken may stay in a TLB. Who arms a leaf flushes whatever he found.
     */
    private static long beforeAgeing(SpteFormat format, long spte) {
        if (format.accessedDirty()) {
            return spte;
        }
        long restored = format.restoreAccess(spte);
        return format.isMmuWritable(restored) ? format.makeWritable(restored) : restored;
    }

    private static void require(Vcpu vcpu, TlbView view, boolean holds, String what) {
        if (!holds) {
            throw new AssertionError("TLB disagrees with the tables: what=" + what + ", vcpu=" + vcpu.name()
                    + ", gfn=0x"
                    + Long.toHexString(view.gfn) + ", level=" + view.level + ", table=" + view.table + ", hpa=0x"
                    + Long.toHexString(view.hpa) + ", permissions=" + Access.text(view.permissions));
        }
    }
}
