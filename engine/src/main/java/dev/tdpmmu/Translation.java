package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Optional;

/**
 * Where a guest physical address is mapped now.
 *
 * @param gpa guest physical address
 * @param hpa host physical address of the same byte
 * @param pageSize size of the leaf
 * @param readable whether hardware loads through it
 * @param writable whether hardware stores through it
 * @param executable whether hardware fetches through it
 * @param accessed whether it was used; without A/D bits: whether its accesses are not being tracked
 * @param dirty whether it was stored through; without A/D bits: whether it is writable
 */
public record Translation(
        long gpa,
        long hpa,
        PageSize pageSize,
        boolean readable,
        boolean writable,
        boolean executable,
        boolean accessed,
        boolean dirty) {
    /** Reads the mapping of an address. */
    static Optional<Translation> find(Vm vm, long gpa) {
        ReaderSlot reader = vm.takeReader();
        try {
            reader.enter(ReaderSlot.WALKING);
            vm.checkOpen();
            return find(vm.mmu(), gpa);
        } finally {
            vm.giveReader(reader);
        }
    }

    private static Optional<Translation> find(TdpMmu mmu, long gpa) {
        for (TdpRoot root : mmu.roots().roots()) {
            if (!root.isInvalid()) {
                return find(mmu, root, gpa);
            }
        }
        return Optional.empty();
    }

    private static Optional<Translation> find(TdpMmu mmu, TdpRoot root, long gpa) {
        SpteFormat format = mmu.format();
        long[] sptes = new long[root.level() + 1];
        int level = mmu.walk().read(root, Gfn.of(gpa), sptes);
        long spte = sptes[level];
        if (!format.isLeaf(spte, level)) {
            return Optional.empty();
        }
        PageSize pageSize = PageSize.values()[level - 1];
        return Optional.of(new Translation(
                gpa,
                format.address(spte) | gpa & (pageSize.bytes() - 1),
                pageSize,
                format.isReadable(spte),
                format.isWritable(spte),
                format.isExecutable(spte),
                format.isAccessed(spte),
                format.isDirty(spte)));
    }
}
