package dev.tdpmmu.bench.perf;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;

/**
 * Where the memory of a test lies in the guest, which part of it each vCPU uses, and into which slots it is divided.
 *
 * @param gpa where it starts
 * @param vcpus how many share it
 * @param bytesPerVcpu length for each
 * @param overlap whether each vCPU uses all of it, not a part of its own
 * @param slots into how many slots it is divided
 * @param pageSize of the frames
 */
record GuestLayout(long gpa, int vcpus, long bytesPerVcpu, boolean overlap, int slots, PageSize pageSize) {
    /** Length of all memory. */
    long bytes() {
        return vcpus * bytesPerVcpu;
    }

    /** Number of 4 KiB pages of all memory. */
    long pages() {
        return Gfn.of(bytes());
    }

    long regionGpa(int vcpu) {
        return overlap ? gpa : gpa + vcpu * bytesPerVcpu;
    }

    /** Number of 4 KiB pages that each vCPU uses. */
    long regionPages() {
        return Gfn.of(overlap ? bytes() : bytesPerVcpu);
    }

    /** Number of 4 KiB pages that all vCPUs touch in one pass; overlapping ones count for each. */
    long touchedPages() {
        return vcpus * regionPages();
    }

    /** Where a slot starts in the memory; for one behind the last slot, its end. */
    long slotOffset(int slot) {
        return slot == slots ? bytes() : slot * (bytes() / slots / pageSize.bytes()) * pageSize.bytes();
    }
}
