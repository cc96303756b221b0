package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.TestVms.slotAt;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.tdpmmu.TableDiff.Aspect;
import dev.tdpmmu.TableDiff.Change;
import dev.tdpmmu.TableDiff.What;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.TableScanner;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.TreeCensus;
import dev.tdpmmu.slot.MemSlot;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What a dump shows is what is mapped, what a difference shows is what has changed, and both can be read back. */
class TableDumpTest {
    private static final long AT = 2 * MIB_2;

    @RegisterExtension
    final TestVms vms = new TestVms();

    private static VmConfig.Builder named() {
        return VmConfig.builder().name("golden").pml(false).backgroundReclaim(false);
    }

    private static TableRange leaf(long start, long pages, int permissions, boolean dirty, long hpa) {
        long end = start + pages * KIB_4;
        return new TableRange(start, end, 1, pages, EntryKind.LEAF, permissions, true, dirty, hpa);
    }

    private static void touch(Vcpu vcpu, long gpa, int pages, int access) {
        for (int page = 0; page < pages; page++) {
            assertTrue(vcpu.touch(gpa + page * KIB_4, access));
        }
    }

    @Test
    void vmWithoutTablesHasAnEmptyDump() {
        Vm vm = vms.vmWithMemory(named(), MIB_2);

        TableDump dump = vm.dump();

        assertEquals(List.of(), dump.roots());
        assertEquals(List.of(new TableDump.Slot(0, 0, MIB_2, Set.of())), dump.slots());
        assertEquals("tables of golden, EPT4\nno root yet\n", dump.toText());
    }

    @Test
    void neighboursThatAreAlikeAreOneRange() {
        Vm vm = vms.vmWithMemory(named(), MIB_2);
        MemSlot slot = slotAt(vm, 0);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, 0, 3, Access.WRITE);
            touch(vcpu, 3 * KIB_4, 2, Access.READ);
            touch(vcpu, 6 * KIB_4, 1, Access.READ);

            List<TableRange> ranges = vm.dump().roots().getFirst().ranges();

            assertEquals(
                    List.of(
                            leaf(0, 3, Access.ALL, true, slot.hpa(0)),
                            leaf(3 * KIB_4, 2, Access.ALL, false, slot.hpa(3)),
                            leaf(6 * KIB_4, 1, Access.ALL, false, slot.hpa(6))),
                    ranges);
        }
    }

    @Test
    void framesThatDoNotFollowEachOtherEndARangeUnlessIgnored() {
        Vm vm = vms.vm(named());
        MemSlot upper = vm.addSlot(1, MIB_2, MIB_2, SMALL);
        MemSlot lower = vm.addSlot(0, 0, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, MIB_2 - KIB_4, 2, Access.READ);

            List<TableRange> exact = vm.dump().roots().getFirst().ranges();
            TableDump merged = vm.dump(DumpOption.IGNORE_FRAMES, DumpOption.IGNORE_FRAMES);

            assertEquals(
                    List.of(
                            leaf(MIB_2 - KIB_4, 1, Access.ALL, false, lower.hpa(511)),
                            leaf(MIB_2, 1, Access.ALL, false, upper.hpa(512))),
                    exact);
            assertTrue(merged.framesMerged());
            assertEquals(
                    List.of(leaf(MIB_2 - KIB_4, 2, Access.ALL, false, lower.hpa(511))),
                    merged.roots().getFirst().ranges());
        }
    }

    /** Enough tables that the scan renews its epoch many times. */
    @ParameterizedTest
    @MethodSource("dev.tdpmmu.TestVms#matrix")
    void dumpCountsWhatTheVerifierCounts(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, 8 * MIB_2, SMALL);
        vm.addSlot(1, 1L << 30, 4 * MIB_2, HUGE);
        vm.addSlot(2, 3L << 39, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, 0, 8 * 512, Access.READ);
            touch(vcpu, (1L << 30) + MIB_2, 1, Access.READ);
            touch(vcpu, 3L << 39, 512, Access.WRITE);
            assertFalse(vcpu.touch(5L << 30, Access.READ));

            TableDump.Root root = vm.dump(DumpOption.INVALID_ROOTS).roots().getFirst();

            TreeCensus census = vm.verify();
            long tables = root.tablePages().stream().mapToLong(Long::longValue).sum();
            assertEquals(census.tablePages(), tables);
            assertEquals(census.pages4k(), root.mappedBytes(1) / KIB_4);
            assertEquals(census.pages2m(), root.mappedBytes(2) / MIB_2);
            assertEquals(0, root.mappedBytes(3));
            assertEquals(census.mmioEntries(), root.entries(EntryKind.MMIO));
            assertEquals(0, root.entries(EntryKind.MISCONFIGURED) + root.entries(EntryKind.FROZEN));
        }
    }

    /** The scan begins a new epoch about entry 510 of the table, walks from the root again, and meets the leaf. */
    @Test
    void hugeLeafThatReplacesATableUnderTheScanIsShownFromThere() {
        Vm vm = vms.vmWithMemory(named(), MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, 0, 512, Access.READ);
        }
        WalkStep tableEntry = vm.explain(0, Access.READ).steps().get(2);
        long hugeLeaf = vm.mmu().format().makeLeaf(MIB_2, 2, Access.ALL, true, false);
        List<Long> ends = new ArrayList<>(List.of(0L));
        List<Integer> levels = new ArrayList<>();

        vm.mmu().scanner().scan(false, new TableScanner.Visitor() {
            @Override
            public void root(TdpRoot root) {}

            @Override
            public void table(int level) {}

            @Override
            public void entry(long startGfn, long endGfn, int level, long spte) {
                assertEquals(ends.getLast(), startGfn, "shown twice, or not at all");
                ends.add(endGfn);
                levels.add(level);
                SpteAccess.setPlain(tableEntry.entryHpa(), hugeLeaf);
            }
        });
        SpteAccess.setPlain(tableEntry.entryHpa(), tableEntry.entry());

        assertEquals(512, ends.getLast());
        assertEquals(2, levels.getLast());
        assertEquals(1, levels.getFirst());
    }

    @Test
    void holesAreThePartsOfSlotsThatNothingMaps() {
        Vm vm = vms.vm(named());
        vm.addSlot(3, AT, MIB_2, SMALL);
        vm.addSlot(4, AT + 2 * MIB_2, MIB_2, HUGE);
        vm.addSlot(5, AT + 4 * MIB_2, KIB_4, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, AT + KIB_4, 1, Access.READ);
            touch(vcpu, AT + 5 * KIB_4, 2, Access.READ);
            touch(vcpu, AT + 2 * MIB_2, 1, Access.READ);

            TableDump dump = vm.dump();

            assertEquals(
                    List.of(
                            new TableDump.Hole(3, AT, AT + KIB_4),
                            new TableDump.Hole(3, AT + 2 * KIB_4, AT + 5 * KIB_4),
                            new TableDump.Hole(3, AT + 7 * KIB_4, AT + MIB_2),
                            new TableDump.Hole(5, AT + 4 * MIB_2, AT + 4 * MIB_2 + KIB_4)),
                    dump.roots().getFirst().holes(dump.slots()));
        }
    }

    @Test
    void invalidRootIsShownOnRequest() {
        Vm vm = vms.vmWithMemory(named(), MIB_2);
        MemSlot gone = vm.addSlot(1, AT, MIB_2, SMALL);
        try (Vcpu holder = vm.createVcpu();
                Vcpu other = vm.createVcpu()) {
            touch(holder, 0, 1, Access.READ);
            touch(other, KIB_4, 1, Access.READ);
            vm.removeSlot(gone);
            touch(other, 2 * KIB_4, 1, Access.READ);

            // The holder has made no access since, so it still has the root that was replaced.
            List<TableDump.Root> roots = vm.dump(DumpOption.INVALID_ROOTS).roots();

            assertEquals(2, roots.size());
            assertEquals(1, roots.stream().filter(TableDump.Root::invalid).count());
            assertEquals(1, vm.dump().roots().size());
            assertFalse(vm.dump().roots().getFirst().invalid());
        }
    }

    @Test
    void differenceNamesWhatChanged() {
        Vm vm = vms.vm(named());
        MemSlot small = vm.addSlot(0, 0, MIB_2, SMALL);
        MemSlot huge = vm.addSlot(1, AT, 2 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, 0, 4, Access.WRITE);
            touch(vcpu, AT, 1, Access.READ);
            TableDump before = vm.dump();
            vm.zap(0, KIB_4);
            touch(vcpu, 8 * KIB_4, 2, Access.READ);
            vm.startDirtyLog(small);
            vm.startDirtyLog(huge);

            List<Change> changes = TableDump.diff(before, vm.dump()).changes();

            assertEquals(4, changes.size(), changes::toString);
            assertChange(changes.get(0), 0, KIB_4, What.UNMAPPED, Set.of());
            assertChange(changes.get(1), KIB_4, 4 * KIB_4, What.CHANGED, Set.of(Aspect.PERMISSIONS));
            assertChange(changes.get(2), 8 * KIB_4, 10 * KIB_4, What.MAPPED, Set.of());
            assertChange(changes.get(3), AT, AT + MIB_2, What.CHANGED, Set.of(Aspect.SPLIT, Aspect.PERMISSIONS));
            assertEquals(512, changes.get(3).after().getFirst().entries());
            assertEquals(1, changes.get(3).before().getFirst().entries());
            assertEquals(3, changes.get(1).after().getFirst().entries());
        }
    }

    private static void assertChange(Change change, long start, long end, What what, Set<Aspect> aspects) {
        assertEquals(start, change.start(), change::toString);
        assertEquals(end, change.end(), change::toString);
        assertEquals(what, change.what(), change::toString);
        assertEquals(aspects, change.aspects(), change::toString);
        assertEquals(what == What.MAPPED ? 0 : 1, change.before().size(), change::toString);
        assertEquals(what == What.UNMAPPED ? 0 : 1, change.after().size(), change::toString);
    }

    @Test
    void differenceOfRangesIsTheDifferenceOfTheirPages() {
        long seed = 20_26;
        Random random = new Random(seed);
        for (int round = 0; round < 300; round++) {
            TableRange[] before = new TableRange[24];
            TableRange[] after = new TableRange[24];
            TableDump older = randomDump(random, before);
            TableDump newer = randomDump(random, after);

            TableDiff diff = TableDump.diff(older, newer);

            Change[] changeOf = new Change[24];
            for (Change change : diff.changes()) {
                for (long page = change.start() / KIB_4; page < change.end() / KIB_4; page++) {
                    assertEquals(null, changeOf[(int) page], "two changes");
                    changeOf[(int) page] = change;
                }
            }
            for (int page = 0; page < 24; page++) {
                String what = "seed=" + seed + ", round=" + round + ", page=" + page + "\n" + diff.toText();
                assertEquals(
                        what(before[page], after[page]), changeOf[page] == null ? null : changeOf[page].what(), what);
                if (changeOf[page] != null && changeOf[page].what() == What.CHANGED) {
                    boolean frame = before[page].hpa() != after[page].hpa();
                    assertEquals(frame, changeOf[page].aspects().contains(Aspect.FRAME), what);
                    boolean permissions = before[page].permissions() != after[page].permissions();
                    assertEquals(permissions, changeOf[page].aspects().contains(Aspect.PERMISSIONS), what);
                }
            }
            assertEquals(List.of(), TableDump.diff(older, older).changes());
        }
    }

    private static What what(TableRange before, TableRange after) {
        if (before == null && after == null || before != null && before.equals(after)) {
            return null;
        }
        return before == null ? What.MAPPED : after == null ? What.UNMAPPED : What.CHANGED;
    }

    /** Few kinds of pages, so that neighbours are often alike; also tells them one by one. */
    private static TableDump randomDump(Random random, TableRange[] pages) {
        List<TableRange> ranges = new ArrayList<>();
        for (int page = 0; page < pages.length; page++) {
            int choice = random.nextInt(4);
            if (choice == 0) {
                continue;
            }
            int permissions = choice == 1 ? Access.READ : Access.ALL;
            long hpa = (1L << 32) + page * KIB_4 + (choice == 3 && random.nextInt(3) == 0 ? 1L << 30 : 0);
            pages[page] = leaf(page * KIB_4, 1, permissions, false, hpa);
            if (!ranges.isEmpty() && ranges.getLast().continuesWith(pages[page], false)) {
                ranges.add(ranges.removeLast().and(pages[page]));
            } else {
                ranges.add(pages[page]);
            }
        }
        var root = new TableDump.Root(1L << 26, 4, false, ranges, List.of(1L, 1L, 1L, 1L));
        return new TableDump("random", PagingMode.EPT4, false, List.of(), List.of(root));
    }

    @Test
    void dumpsOfDifferentFormatsCannotBeCompared() {
        Vm ept = vms.vmWithMemory(named(), MIB_2);
        Vm npt = vms.vmWithMemory(named().pagingMode(PagingMode.NPT4), MIB_2);

        assertThrows(IllegalArgumentException.class, () -> TableDump.diff(ept.dump(), npt.dump()));
        assertThrows(NullPointerException.class, () -> ept.dump((DumpOption) null));
        npt.close();
        assertThrows(VmClosedException.class, npt::dump);
    }

    private TableDump[] goldenDumps() {
        Vm vm = vms.vm(named());
        vm.addSlot(0, 0, MIB_2, SMALL);
        MemSlot slot = vm.addSlot(1, AT, 2 * MIB_2, HUGE);
        vm.addSlot(2, 4 * MIB_2, KIB_4, SMALL, SlotFlag.READ_ONLY);
        try (Vcpu vcpu = vm.createVcpu()) {
            touch(vcpu, 0, 3, Access.WRITE);
            touch(vcpu, KIB_4 * 16, 4, Access.READ);
            touch(vcpu, AT, 1, Access.WRITE);
            touch(vcpu, AT + MIB_2, 1, Access.READ);
            assertFalse(vcpu.touch(1L << 32, Access.READ));
            TableDump before = vm.dump();
            vm.startDirtyLog(slot);
            vm.zap(KIB_4, KIB_4);
            touch(vcpu, AT + 7 * KIB_4, 1, Access.WRITE);
            return new TableDump[] {before, vm.dump()};
        }
    }

    @Test
    void dumpIsReadable() {
        TableDump[] dumps = goldenDumps();

        assertEquals("""
                tables of golden, EPT4
                root T1 of level 512G
                ---[ slot 0: 0x000000000-0x000200000 2M ]---
                0x000000000-0x000001000     4K       1 x 4K leaf rwx AD -> F1
                0x000002000-0x000003000     4K       1 x 4K leaf rwx AD -> F2
                0x000010000-0x000014000    16K       4 x 4K leaf rwx A- -> F3
                ---[ slot 1: 0x000400000-0x000800000 4M [LOG_DIRTY] ]---
                0x000400000-0x000407000    28K       7 x 4K leaf r-x AD -> F4
                0x000407000-0x000408000     4K       1 x 4K leaf rwx AD -> F5
                0x000408000-0x000600000  2016K     504 x 4K leaf r-x AD -> F6
                0x000600000-0x000800000     2M     512 x 4K leaf r-x A- -> F7
                ---[ slot 2: 0x000800000-0x000801000 4K [READ_ONLY] ]---
                ---[ no slot ]---
                0x100000000-0x100001000     4K       1 x 4K mmio r-- --
                mapped: 0 by 1G, 0 by 2M, 4120K by 4K
                holes in slots: 4, 2028K
                other entries: 1 mmio, 0 frozen, 0 bad
                table pages: 1 of level 4, 1 of level 3, 2 of level 2, 4 of level 1
                """, Addresses.normalised(dumps[1].toText()));
    }

    @Test
    void differenceIsReadable() {
        TableDump[] dumps = goldenDumps();

        assertEquals("""
                0x001000-0x002000     4K unmapped 4K leaf rwx AD
                0x400000-0x407000    28K changed  2M leaf rwx AD => 4K leaf r-x AD  (split, permissions)
                0x407000-0x408000     4K changed  2M leaf rwx AD => 4K leaf rwx AD  (split)
                0x408000-0x600000  2016K changed  2M leaf rwx AD => 4K leaf r-x AD  (split, permissions)
                0x600000-0x800000     2M changed  2M leaf rwx A- => 4K leaf r-x A-  (split, permissions)
                """, TableDump.diff(dumps[0], dumps[1]).toText());
        assertEquals("no change\n", TableDump.diff(dumps[0], dumps[0]).toText());
    }

    @Test
    void jsonOfADumpIsTheDump() throws IOException {
        TableDump dump = goldenDumps()[1];

        Map<?, ?> json = (Map<?, ?>) parse(dump.toJson());

        List<TableDump.Slot> slots = new ArrayList<>();
        for (Object one : (List<?>) json.get("slots")) {
            Map<?, ?> slot = (Map<?, ?>) one;
            List<SlotFlag> flags = ((List<?>) slot.get("flags"))
                    .stream().map(flag -> SlotFlag.valueOf(flag.toString())).toList();
            slots.add(new TableDump.Slot(
                    (int) number(slot, "id"), number(slot, "start"), number(slot, "end"), Set.copyOf(flags)));
        }
        List<TableDump.Root> roots = new ArrayList<>();
        for (Object one : (List<?>) json.get("roots")) {
            Map<?, ?> root = (Map<?, ?>) one;
            List<TableRange> ranges = ((List<?>) root.get("ranges"))
                    .stream().map(TableDumpTest::range).toList();
            List<Long> pages = ((List<?>) root.get("tablePages"))
                    .stream().map(Long.class::cast).toList();
            roots.add(new TableDump.Root(
                    number(root, "hpa"), (int) number(root, "level"), (Boolean) root.get("invalid"), ranges, pages));
            assertEquals(roots.getLast().holes(slots).size(), ((List<?>) root.get("holes")).size());
        }
        assertEquals(
                dump,
                new TableDump(
                        (String) json.get("vm"),
                        PagingMode.valueOf((String) json.get("mode")),
                        (Boolean) json.get("framesMerged"),
                        slots,
                        roots));
    }

    @Test
    void jsonOfADifferenceIsTheDifference() throws IOException {
        TableDump[] dumps = goldenDumps();
        TableDiff diff = TableDump.diff(dumps[0], dumps[1]);

        Map<?, ?> json = (Map<?, ?>) parse(diff.toJson());

        List<Change> changes = new ArrayList<>();
        for (Object one : (List<?>) json.get("changes")) {
            Map<?, ?> change = (Map<?, ?>) one;
            Set<Aspect> aspects = new HashSet<>();
            for (Object word : (List<?>) change.get("aspects")) {
                for (Aspect aspect : Aspect.values()) {
                    if (aspect.text().equals(word)) {
                        aspects.add(aspect);
                    }
                }
            }
            changes.add(new Change(
                    number(change, "start"),
                    number(change, "end"),
                    What.valueOf(change.get("what").toString().toUpperCase(Locale.ROOT)),
                    aspects,
                    ranges(change, "before"),
                    ranges(change, "after")));
        }
        assertEquals(diff, new TableDiff((Boolean) json.get("framesCompared"), changes));
    }

    private static List<TableRange> ranges(Map<?, ?> change, String name) {
        return change.containsKey(name) ? List.of(range(change.get(name))) : List.of();
    }

    private static TableRange range(Object json) {
        Map<?, ?> range = (Map<?, ?>) json;
        String letters = (String) range.get("permissions");
        int permissions = 0;
        for (int access = Access.READ; access <= Access.EXECUTE; access <<= 1) {
            permissions |= letters.contains(Access.text(access).replace("-", "")) ? access : 0;
        }
        EntryKind kind = null;
        for (EntryKind one : EntryKind.values()) {
            kind = one.text().equals(range.get("kind")) ? one : kind;
        }
        return new TableRange(
                number(range, "start"),
                number(range, "end"),
                (int) number(range, "level"),
                number(range, "entries"),
                kind,
                permissions,
                (Boolean) range.get("accessed"),
                (Boolean) range.get("dirty"),
                range.containsKey("hpa") ? number(range, "hpa") : -1);
    }

    private static long number(Map<?, ?> json, String name) {
        return (Long) json.get(name);
    }

    private static Object parse(String text) throws IOException {
        try (JsonParser parser = new JsonFactory().createParser(text)) {
            parser.nextToken();
            Object value = value(parser);
            assertEquals(null, parser.nextToken(), "behind the end");
            return value;
        }
    }

    /** Objects become maps, arrays lists, numbers longs. */
    private static Object value(JsonParser parser) throws IOException {
        switch (parser.currentToken()) {
            case START_OBJECT -> {
                Map<String, Object> object = new LinkedHashMap<>();
                while (parser.nextToken() != JsonToken.END_OBJECT) {
                    String name = parser.currentName();
                    parser.nextToken();
                    object.put(name, value(parser));
                }
                return object;
            }
            case START_ARRAY -> {
                List<Object> array = new ArrayList<>();
                while (parser.nextToken() != JsonToken.END_ARRAY) {
                    array.add(value(parser));
                }
                return array;
            }
            case VALUE_NUMBER_INT -> {
                return parser.getLongValue();
            }
            case VALUE_TRUE, VALUE_FALSE -> {
                return parser.getBooleanValue();
            }
            default -> {
                return parser.getText();
            }
        }
    }
}
