package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import java.util.List;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The walkers against the manuals' rules as data: the files beside this class in the test resources, one rule a row.
 * What the words of a row mean stands at the head of {@code ept-permissions.txt}.
 */
final class ConformanceTest {
    private static final long GPA = (1L << 39) + 0x4060_3000L + 0x123;
    private static final long HPA = 0x3_4000_0000L;

    private static final int ENTRIES = 0;
    private static final int ACCESS = 1;
    private static final int PROCESSOR = 2;
    private static final int OUTCOME = 3;
    private static final int DETAIL = 4;

    private final HandMadeTables fourLevels = new HandMadeTables(4, GPA, 0);
    private final HandMadeTables fiveLevels = new HandMadeTables(5, GPA, 0);
    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    @AfterEach
    void giveTablesBack() {
        fourLevels.close();
        fiveLevels.close();
    }

    @ParameterizedTest
    @CsvSource({
        "ept-permissions.txt, 1000",
        "ept-misconfigurations.txt, 3000",
        "ept-guest-pages.txt, 100",
        "ept-guest-tables.txt, 200",
        "npt-permissions.txt, 300",
        "npt-reserved-bits.txt, 300",
        "npt-guest-tables.txt, 100",
    })
    void everyRowHolds(String file, int atLeast) {
        ConformanceCase.Family family =
                file.startsWith("npt") ? ConformanceCase.Family.NPT : ConformanceCase.Family.EPT;
        int cases = 0;
        for (ConformanceFile.Row row : ConformanceFile.read(file, DETAIL + 1).rows()) {
            int ofRow = check(family, row);
            if (ofRow == 0) {
                throw row.bad("row has no case", row.column(ENTRIES));
            }
            cases += ofRow;
        }
        System.out.println("ConformanceTest " + file + ": cases=" + cases);
        assertTrue(cases >= atLeast, "cases=" + cases);
    }

    private int check(ConformanceCase.Family family, ConformanceFile.Row row) {
        int cases = 0;
        int access = ConformanceCase.access(row, row.column(ACCESS));
        for (VmConfig config : ConformanceCase.processors(row, family, row.column(PROCESSOR))) {
            HardwareWalker walker = HardwareWalker.of(config);
            for (List<ConformanceCase.Entry> path : ConformanceCase.paths(row, family, config, row.column(ENTRIES))) {
                // With A in the tables the fast walk does it, without A the slow one; both must say the same.
                check(family, row, walker, path, access, family.everything());
                check(family, row, walker, path, access, family.everything() | walker.accessed);
                cases += 2;
            }
        }
        return cases;
    }

    private void check(
            ConformanceCase.Family family,
            ConformanceFile.Row row,
            HardwareWalker walker,
            List<ConformanceCase.Entry> path,
            int access,
            long tableBits) {
        HandMadeTables tables = walker.levels == 4 ? fourLevels : fiveLevels;
        for (int level = 2; level <= walker.levels; level++) {
            tables.set(level, tables.table(level - 1) | tableBits);
        }
        tables.set(1, HPA | family.everything() | family.leafBits());
        int leafLevel = 1;
        for (ConformanceCase.Entry entry : path) {
            long address = entry.leaf() ? HPA : tables.table(entry.level() - 1) | tableBits & walker.accessed;
            tables.set(entry.level(), entry.value() | address);
            leafLevel = entry.leaf() ? entry.level() : leafLevel;
        }
        var before = new long[walker.levels + 1];
        for (int level = 1; level <= walker.levels; level++) {
            before[level] = tables.get(level);
        }
        tlb.flushAll();

        int outcome = walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, access, result);

        Supplier<String> what =
                () -> row.where() + ": " + row.columns() + ", levels=" + walker.levels + ", path=" + path
                        + ", tableBits=0x" + Long.toHexString(tableBits) + ", outcome=" + outcome + ", exit=0x"
                        + Long.toHexString(result.exit);
        String[] expected = row.column(OUTCOME).split("@");
        switch (expected[0]) {
            case "ok" -> {
                long page = before[leafLevel] & (1L << 52) - 1 & -PagingLevel.bytes(leafLevel);
                assertEquals(HardwareWalker.OK, outcome, what);
                assertEquals(page + (GPA & PagingLevel.bytes(leafLevel) - 1 & -4096L), result.frame, what);
                assertEquals(leafLevel, result.level, what);
                assertFlags(row, walker, tables, before, leafLevel, what);
            }
            case "violation" -> {
                assertEquals(HardwareWalker.VIOLATION, outcome, what);
                assertEquals(row.number(row.column(DETAIL)), result.exit, what);
                assertEquals(0, result.misconfigLevel, what);
            }
            case "misconfig" -> {
                assertEquals(HardwareWalker.MISCONFIGURATION, outcome, what);
                assertEquals(family.ept() ? 0 : row.number(row.column(DETAIL)), result.exit, what);
                assertEquals(result.faultLevel, result.misconfigLevel, what);
            }
            default -> throw row.bad("no outcome", row.column(OUTCOME));
        }
        if (expected.length > 1) {
            assertEquals(row.number(expected[1]), result.faultLevel, what);
        }
        if (outcome != HardwareWalker.OK) {
            for (int level = 1; level <= walker.levels; level++) {
                assertEquals(before[level], tables.get(level), what);
            }
        }
    }

    /** The detail of a success is what the walk sets in the leaf; tables then have A. */
    private static void assertFlags(
            ConformanceFile.Row row,
            HardwareWalker walker,
            HandMadeTables tables,
            long[] before,
            int leafLevel,
            Supplier<String> what) {
        long set = switch (row.column(DETAIL)) {
            case "-" -> -1;
            case "none" -> 0;
            case "A" -> walker.accessed;
            case "AD" -> walker.accessed | walker.dirty;
            default -> throw row.bad("no flags", row.column(DETAIL));
        };
        if (set == -1) {
            return;
        }
        assertEquals(before[leafLevel] | set, tables.get(leafLevel), what);
        for (int level = leafLevel + 1; level < before.length; level++) {
            assertEquals(before[level] | walker.accessed, tables.get(level), what);
        }
    }

    @Test
    void pointersAreCheckedAsTheFileSays() {
        int cases = 0;
        for (ConformanceFile.Row row :
                ConformanceFile.read("ept-pointers.txt", 5).rows()) {
            long pointer = row.number(row.column(0));
            EptCapabilities capabilities = EptCapabilities.fromMsr(row.number(row.column(1)));
            int width = (int) row.number(row.column(2));
            String bits = row.column(4);
            cases++;
            switch (row.column(3)) {
                case "valid" -> EptPointer.check(pointer, capabilities, width);
                case "refused" -> {
                    var refused = assertThrows(
                            IllegalArgumentException.class,
                            () -> EptPointer.check(pointer, capabilities, width),
                            row.where());
                    assertTrue(refused.getMessage().contains(bits.replace('_', ' ')), row.where() + ": " + refused);
                }
                default -> throw row.bad("no outcome", row.column(3));
            }
        }
        System.out.println("ConformanceTest ept-pointers.txt: cases=" + cases);
        assertTrue(cases >= 30, "cases=" + cases);
    }

    @ParameterizedTest
    @CsvSource({
        "leaf1:rwxu read - ok,                  row has 4 columns",
        "leaf1:rwx read - ok -,                 permissions need 4 letters",
        "leaf1:rqxu read - ok -,                'no permission, expected w'",
        "leaf9:rwxu read - ok -,                no place",
        "rwxu read - ok -,                      no entry",
        "leaf1:rwxu look - ok -,                no access",
        "leaf1:rwxu supervisor - ok -,          nothing is accessed",
        "leaf1:rwxu read fast ok -,             no processor",
        "'leaf1:rwxu,%3 read - ok -',           no modifier",
        "'leaf1:rwxu,+64 read - ok -',          no bit",
        "'leaf1:rwxu,+x read - ok -',           no number",
        "leaf1:rwxu read - fine -,              no outcome",
        "leaf1:rwxu read - ok B,                no flags",
    })
    void mistakesInAFileNameTheirLine(String line, String complaint) {
        String text = "# head\n\n" + line + "  # tail\n";

        var thrown = assertThrows(
                IllegalArgumentException.class,
                () -> check(
                        ConformanceCase.Family.EPT,
                        ConformanceFile.parse("bad.txt", text, 5).rows().getFirst()));

        assertTrue(thrown.getMessage().startsWith("bad.txt:3: " + complaint), thrown.getMessage());
    }
}
