package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.mmu.RangeOperations;

/**
 * Which pages were used lately: asks for and clears what a processor notes when it walks through an entry.
 *
 * <p>Takes no lock and stops nobody. The note is made by the walk, not by the access: a page whose translation stays in
 * a vCPU's TLB is used without a walk, so after {@link #clearYoung} it may look old for as long as the TLB keeps it.
 * That is the slack of this interface; {@link #clearYoungAndFlush} has none, at the price of a flush.
 */
public final class Ageing {
    private final Vm vm;
    private final RangeOperations ranges;

    Ageing(Vm vm, RangeOperations ranges) {
        this.vm = vm;
        this.ranges = ranges;
    }

    /**
     * Tells whether any page of a range was used since its age was cleared.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0
     * @return whether one was
     * @kvm kvm_test_age_gfn
     */
    public boolean testYoung(long gpa, long bytes) {
        vm.checkRange(gpa, bytes);
        return OpenVm.whileOpen(vm, () -> ranges.testAge(Gfn.of(gpa), Gfn.of(gpa + bytes - 1) + 1));
    }

    /**
     * Makes the pages of a range old.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0
     * @return 4 KiB pages that had been used; all of a huge page if any of it was
     * @kvm kvm_age_gfn
     */
    public long clearYoung(long gpa, long bytes) {
        vm.checkRange(gpa, bytes);
        return OpenVm.whileOpen(vm, () -> ranges.age(Gfn.of(gpa), Gfn.of(gpa + bytes - 1) + 1));
    }

    /**
     * Makes the pages of a range old and removes their translations from all TLBs, so that every later use makes its
     * page young.
     *
     * @param gpa first guest physical address
     * @param bytes length, above 0
     * @return 4 KiB pages that had been used; all of a huge page if any of it was
     */
    public long clearYoungAndFlush(long gpa, long bytes) {
        long young = clearYoung(gpa, bytes);
        ranges.flush(Gfn.of(gpa), Gfn.of(gpa + bytes - 1) + 1);
        return young;
    }
}
