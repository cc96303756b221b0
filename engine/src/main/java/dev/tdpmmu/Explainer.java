package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.hardware.EntryDecoder;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.TlbView;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.FaultAnswer;
import dev.tdpmmu.mmu.FaultForecast;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.spte.MmioSpte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.ArrayList;
import java.util.List;

/**
 * Explains one access: reads the entries on the way once, from the root down, and judges them as the walker would.
 * Sets no A or D, fills no cache, takes no lock. One object explains one access.
 *
 * <p>Runs in an epoch, so that a table that is unlinked meanwhile can still be read. The root of the tables needs no
 * reference: it too is retired and freed only after the epoch.
 */
final class Explainer {
    private final Vm vm;
    private final long gpa;
    private final int access;
    private final SpteFormat format;
    private final EntryDecoder decoder;
    private final List<WalkStep> steps = new ArrayList<>();
    private final List<CachedTranslation> cached = new ArrayList<>();
    private final long[] entries = new long[PagingLevel.L256T + 1];

    private Explainer(Vm vm, long gpa, int access) {
        this.vm = vm;
        this.gpa = gpa;
        this.access = access;
        this.format = vm.mmu().format();
        this.decoder = EntryDecoder.of(vm.config());
    }

    /** Explains by the tables alone. */
    static WalkExplanation explain(Vm vm, long gpa, int access) {
        check(vm, gpa, access);
        return inEpoch(vm, () -> {
            TdpRoot root = validRoot(vm);
            return new Explainer(vm, gpa, access).explain("", root, null, false);
        });
    }

    /** Explains with what a vCPU at rest has cached. */
    static WalkExplanation explain(Vm vm, VcpuRun run, long gpa, int access) {
        check(vm, gpa, access);
        return inEpoch(vm, () -> new Explainer(vm, gpa, access).explain(run));
    }

    private static void check(Vm vm, long gpa, int access) {
        vm.checkRange(gpa, 1);
        if (access == 0 || (access & ~Access.ALL) != 0) {
            throw new IllegalArgumentException("no such access: access=" + access + ", min=1, max=" + Access.ALL);
        }
    }

    private interface Reading {
        WalkExplanation read();
    }

    private static WalkExplanation inEpoch(Vm vm, Reading reading) {
        ReaderSlot reader = vm.takeReader();
        try {
            reader.enter(ReaderSlot.WALKING);
            vm.checkOpen();
            return reading.read();
        } finally {
            vm.giveReader(reader);
        }
    }

    /** The root that a vCPU would load, or null if none was made yet. */
    private static TdpRoot validRoot(Vm vm) {
        for (TdpRoot root : vm.mmu().roots().roots()) {
            if (!root.isInvalid()) {
                return root;
            }
        }
        return null;
    }

    private WalkExplanation explain(VcpuRun run) {
        boolean hasRoot = run.mmu().hasRoot() && !run.mmu().root().isInvalid();
        // Inside the epoch: as long as the sequence is as the vCPU has seen it, no table that it has cached was
        // retired before the epoch began.
        boolean flushPending = run.hasFlushPending();
        collect(run);
        // Loading another root forgets everything, too.
        boolean cachesAreVoid = flushPending || !hasRoot;
        TdpRoot root = hasRoot ? run.mmu().root() : validRoot(vm);
        return explain(run.name(), root, cachesAreVoid ? null : run.tlb, cachesAreVoid);
    }

    private void collect(VcpuRun run) {
        var view = new TlbView();
        long gfn = Gfn.of(gpa);
        for (int i = 0; i < run.tlb.capacity(); i++) {
            if (run.tlb.entryAt(i, view) && gfn >= view.gfn && gfn < view.gfn + view.pages) {
                cached.add(CachedTranslation.of(view));
            }
        }
        cached.sort((a, b) -> a.table() == b.table() ? a.level() - b.level() : a.table() ? 1 : -1);
    }

    /** The TLB is null if the vCPU has none, or will have forgotten everything before its next access. */
    private WalkExplanation explain(String vcpu, TdpRoot root, Tlb tlb, boolean flushPending) {
        MemSlots memSlots = vm.slots().current();
        WalkVerdict verdict = root == null ? WalkVerdict.noTables() : walk(root, tlb);
        return new WalkExplanation(
                gpa,
                access,
                vcpu,
                root == null ? -1 : root.hpa(),
                cached,
                flushPending && !cached.isEmpty(),
                steps,
                verdict,
                memSlots.find(Gfn.of(gpa)),
                vm.mmio().isDevice(gpa),
                forecast(memSlots, verdict, root));
    }

    /** The vCPU's caches first, the tables only if these do not decide; the entries are shown in any case. */
    private WalkVerdict walk(TdpRoot root, Tlb tlb) {
        CachedTranslation page = null;
        CachedTranslation table = null;
        boolean hit = false;
        for (CachedTranslation entry : tlb == null ? List.<CachedTranslation>of() : cached) {
            if (entry.table()) {
                table = table == null ? entry : table;
            } else if (!hit) {
                hit = (access & ~entry.permissions()) == 0;
                page = page == null || hit ? entry : page;
            }
        }
        WalkVerdict walked =
                table == null ? walkFrom(root.hpa(), root.level(), decoder.allPermissions()) : walkBelow(root, table);
        if (hit) {
            return WalkVerdict.allowed(page.level(), page.hpa() | gpa & (page.bytes() - 1), true);
        }
        if (page == null || !decoder.refuses(tlb, gpa, page.level(), access)) {
            return walked;
        }
        long exit = decoder.refusal(tlb, gpa, page.level(), access);
        return new WalkVerdict(WalkVerdict.Outcome.VIOLATION, page.level(), -1, true, exit, decoder.describe(exit));
    }

    /** Shows the entries above a table that the vCPU remembers, which it does not read, and then walks from there. */
    private WalkVerdict walkBelow(TdpRoot root, CachedTranslation start) {
        long table = root.hpa();
        int permissions = decoder.allPermissions();
        for (int level = root.level(); level > start.level(); level--) {
            long entry = SpteAccess.readAcquire(table, Gfn.of(gpa), level);
            permissions &= decoder.permissions(entry);
            EntryKind kind = EntryKind.of(decoder, format, entry, level);
            steps.add(step(level, table, entry, kind, permissions, true));
            if (kind != EntryKind.TABLE) {
                break;
            }
            table = decoder.table(entry);
        }
        return walkFrom(start.hpa(), start.level(), start.permissions());
    }

    private WalkVerdict walkFrom(long startTable, int startLevel, int permissionsAbove) {
        long table = startTable;
        int level = startLevel;
        int permissions = permissionsAbove;
        while (true) {
            long entry = SpteAccess.readAcquire(table, Gfn.of(gpa), level);
            permissions &= decoder.permissions(entry);
            EntryKind kind = EntryKind.of(decoder, format, entry, level);
            steps.add(step(level, table, entry, kind, permissions, false));
            boolean present = decoder.isPresent(entry);
            if (present && decoder.isMisconfigured(entry, level)) {
                return misconfigured(level, entry);
            }
            if (!present) {
                return violation(level, permissions, false);
            }
            if (decoder.isLeaf(entry, level)) {
                return decoder.allows(permissions, access)
                        ? WalkVerdict.allowed(
                                level, decoder.frame(entry, gpa, level) | gpa & Gfn.PAGE_OFFSET_MASK, false)
                        : violation(level, permissions, true);
            }
            table = decoder.table(entry);
            level--;
        }
    }

    private WalkVerdict misconfigured(int level, long entry) {
        long exit = decoder.misconfiguration(access);
        String words = decoder.describe(exit);
        String why = decoder.misconfiguration(entry, level);
        return new WalkVerdict(
                WalkVerdict.Outcome.MISCONFIGURATION,
                level,
                -1,
                false,
                exit,
                words.isEmpty() ? why : words + ", " + why);
    }

    private WalkVerdict violation(int level, int permissions, boolean present) {
        long exit = decoder.violation(access, permissions, present);
        return new WalkVerdict(WalkVerdict.Outcome.VIOLATION, level, -1, false, exit, decoder.describe(exit));
    }

    private WalkStep step(int level, long table, long entry, EntryKind kind, int permissions, boolean skipped) {
        boolean present = decoder.isPresent(entry);
        boolean used = kind == EntryKind.LEAF || kind == EntryKind.TABLE;
        return new WalkStep(
                level,
                table,
                PagingLevel.index(Gfn.of(gpa), level),
                entry,
                kind,
                skipped,
                decoder.misconfiguration(entry, level),
                decoder.text(decoder.permissions(entry)),
                decoder.text(permissions),
                present && used && decoder.isAccessed(entry),
                present && kind == EntryKind.LEAF && decoder.isDirty(entry),
                present && kind == EntryKind.LEAF ? decoder.memoryType(entry, level) : "",
                used ? pointsTo(entry, kind, level) : -1,
                software(entry, kind));
    }

    private long pointsTo(long entry, EntryKind kind, int level) {
        return kind == EntryKind.TABLE
                ? decoder.table(entry)
                : decoder.frame(entry, gpa & -PagingLevel.bytes(level), level);
    }

    private String software(long entry, EntryKind kind) {
        return switch (kind) {
            case LEAF ->
                (format.isMmuWritable(entry)
                                ? "host- and MMU-writable"
                                : format.isHostWritable(entry) ? "host-writable" : "host-read-only")
                        + (format.isAccessTracked(entry) ? ", accesses tracked" : "");
            case MMIO ->
                "no slot at gfn 0x" + Long.toHexString(format.mmioGfn(entry)) + ", "
                        + Access.text(MmioSpte.access(entry)) + ", generation " + MmioSpte.generation(entry);
            case NOT_PRESENT, TABLE, FROZEN, MISCONFIGURED -> "";
        };
    }

    private FaultForecast forecast(MemSlots memSlots, WalkVerdict verdict, TdpRoot root) {
        long gfn = Gfn.of(gpa);
        return switch (verdict.outcome()) {
            case ALLOWED ->
                new FaultForecast(FaultAnswer.NONE, 0, vm.mmu().forecaster().isWatched(gfn));
            case NO_TABLES ->
                vm.mmu()
                        .forecaster()
                        .violation(
                                memSlots,
                                gfn,
                                access,
                                false,
                                vm.config().pagingMode().levels(),
                                entries);
            case VIOLATION, MISCONFIGURATION -> {
                boolean present =
                        verdict.cached() || decoder.isPresent(steps.getLast().entry());
                // As the MMU: from the root down, whatever the vCPU has cached.
                int lowest = vm.mmu().walk().read(root, gfn, entries);
                yield verdict.outcome() == WalkVerdict.Outcome.VIOLATION
                        ? vm.mmu().forecaster().violation(memSlots, gfn, access, present, lowest, entries)
                        : vm.mmu().forecaster().misconfiguration(memSlots, gfn, access, lowest, entries);
            }
        };
    }
}
