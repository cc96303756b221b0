package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.hardware.EntryDecoder;
import dev.tdpmmu.mmu.TableScanner;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.MmioSpte;
import dev.tdpmmu.spte.SpteFormat;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** Makes a dump: merges entries as they come, so that memory is needed for ranges only. Belongs to one dump. */
final class Dumper implements TableScanner.Visitor {
    private final SpteFormat format;
    private final EntryDecoder decoder;
    private final boolean anyFrame;
    private final List<TableDump.Root> roots = new ArrayList<>();

    // Of the root in work.
    private final long[] tablePages = new long[PagingLevel.L256T + 1];
    private TdpRoot root;
    private List<TableRange> ranges = new ArrayList<>();
    private TableRange last;

    private Dumper(Vm vm, boolean anyFrame) {
        this.format = vm.mmu().format();
        this.decoder = EntryDecoder.of(vm.config());
        this.anyFrame = anyFrame;
    }

    static TableDump dump(Vm vm, DumpOption... wanted) {
        vm.checkOpen();
        Set<DumpOption> options = EnumSet.noneOf(DumpOption.class);
        options.addAll(List.of(wanted));
        Dumper dumper = new Dumper(vm, options.contains(DumpOption.IGNORE_FRAMES));
        return OpenVm.whileOpen(vm, () -> {
            List<TableDump.Slot> slots = new ArrayList<>();
            for (MemSlot slot : vm.slots().current().asList()) {
                slots.add(new TableDump.Slot(slot.id(), slot.gpa(), Gfn.toGpa(slot.endGfn()), slot.flags()));
            }
            vm.mmu().scanner().scan(options.contains(DumpOption.INVALID_ROOTS), dumper);
            dumper.endRoot();
            return new TableDump(vm.config().name(), vm.config().pagingMode(), dumper.anyFrame, slots, dumper.roots);
        });
    }

    @Override
    public void root(TdpRoot next) {
        endRoot();
        root = next;
    }

    private void endRoot() {
        if (root == null) {
            return;
        }
        flush();
        List<Long> pages = new ArrayList<>();
        for (int level = PagingLevel.L4K; level <= root.level(); level++) {
            pages.add(tablePages[level]);
            tablePages[level] = 0;
        }
        roots.add(new TableDump.Root(root.hpa(), root.level(), root.isInvalid(), ranges, pages));
        ranges = new ArrayList<>();
        root = null;
    }

    @Override
    public void table(int level) {
        tablePages[level]++;
    }

    @Override
    public void entry(long startGfn, long endGfn, int level, long spte) {
        TableRange next = rangeOf(startGfn, endGfn, level, spte);
        if (last != null && last.continuesWith(next, anyFrame)) {
            last = last.and(next);
            return;
        }
        flush();
        last = next;
    }

    private void flush() {
        if (last != null) {
            ranges.add(last);
            last = null;
        }
    }

    private TableRange rangeOf(long startGfn, long endGfn, int level, long spte) {
        long start = Gfn.toGpa(startGfn);
        long end = Gfn.toGpa(endGfn);
        EntryKind kind = EntryKind.of(decoder, format, spte, level);
        if (kind != EntryKind.LEAF) {
            int permissions = kind == EntryKind.MMIO ? MmioSpte.access(spte) : 0;
            return new TableRange(start, end, level, 1, kind, permissions, false, false, -1);
        }
        return new TableRange(
                start,
                end,
                level,
                1,
                kind,
                permissions(spte),
                format.isAccessed(spte),
                format.isDirty(spte),
                format.address(spte) + (start & PagingLevel.bytes(level) - 1));
    }

    private int permissions(long leaf) {
        return (format.isReadable(leaf) ? Access.READ : 0)
                | (format.isWritable(leaf) ? Access.WRITE : 0)
                | (format.isExecutable(leaf) ? Access.EXECUTE : 0);
    }
}
