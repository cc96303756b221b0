package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

final class TlbTest {
    private static final long GPA = 0x4060_3000L;
    private static final long FAR_GPA = GPA + (3L << 48);
    private static final long HPA = 0x3_4000_0000L;

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    private void insert(long gpa, long frame, int level, int permissions, boolean writableCached) {
        result.found(frame, level, permissions, writableCached);
        tlb.insert(gpa, result);
    }

    private void insertHuge(long gpa, int level) {
        insert(gpa, HPA + (gpa & (PagingLevel.bytes(level) - 1) & -4096L), level, Access.ALL, true);
    }

    @Test
    void emptyTlbMisses() {
        assertEquals(Tlb.MISS, tlb.readFrame(0));
        assertEquals(Tlb.MISS, tlb.writeFrame(GPA));
        assertEquals(Tlb.MISS, tlb.executeFrame(GPA));
        assertEquals(Tlb.MISS, tlb.leafTable(0));
        assertEquals(Tlb.MISS, tlb.middleTable(0));
        assertEquals(0, tlb.validEntries());
        assertEquals(Tlb.MISS, tlb.upperTable(0));
        assertEquals(Tlb.MISS, tlb.topTable(0));
        assertEquals(123, tlb.capacity());
    }

    @Test
    void hitsKeepTheOffset() {
        insert(GPA + 0xfff, HPA, 1, Access.ALL, true);

        assertEquals(HPA + 0x123, tlb.readFrame(GPA + 0x123));
        assertEquals(HPA, tlb.writeFrame(GPA));
        assertEquals(HPA + 0xfff, tlb.executeFrame(GPA + 0xfff));
        assertEquals(Tlb.MISS, tlb.readFrame(GPA + 0x1000));
        assertEquals(Tlb.MISS, tlb.readFrame(GPA - 1));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void eachAccessNeedsItsPermission(int level) {
        for (int permissions = 1; permissions <= Access.ALL; permissions++) {
            for (int cacheable = 0; cacheable < 2; cacheable++) {
                tlb.flushAll();
                boolean store = (permissions & Access.WRITE) != 0 && cacheable == 1;

                insert(GPA, HPA, level, permissions, store);
                insert(GPA + 64 * 4096, HPA + 64 * 4096, level, permissions, store);

                // The second page has taken the slot of the first; a huge page gives the piece back.
                for (long offset : new long[] {64 * 4096, level == 1 ? 64 * 4096 : 0}) {
                    assertEquals((permissions & Access.READ) != 0, tlb.readFrame(GPA + offset) != Tlb.MISS);
                    assertEquals(store, tlb.writeFrame(GPA + offset) != Tlb.MISS);
                    assertEquals((permissions & Access.EXECUTE) != 0, tlb.executeFrame(GPA + offset) != Tlb.MISS);
                }
            }
        }
    }

    @Test
    void storeMissesUntilTheLeafHasDirty() {
        insert(GPA, HPA, 1, Access.READ | Access.WRITE, false);
        long before = tlb.writeFrame(GPA);

        insert(GPA, HPA, 1, Access.READ | Access.WRITE, true);

        assertEquals(Tlb.MISS, before);
        assertEquals(HPA, tlb.writeFrame(GPA));
    }

    @Test
    void newerPageTakesTheSlot() {
        long other = GPA + 64 * 4096;
        insert(GPA, HPA, 1, Access.ALL, true);

        insert(other, HPA + 0x10_0000, 1, Access.READ, false);

        assertEquals(Tlb.MISS, tlb.readFrame(GPA));
        assertEquals(Tlb.MISS, tlb.writeFrame(GPA));
        assertEquals(HPA + 0x10_0000, tlb.readFrame(other));
        assertEquals(1, tlb.validEntries());
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 3})
    void hugePageServesEveryPieceOfItself(int level) {
        long base = GPA & -PagingLevel.bytes(level);
        long last = PagingLevel.bytes(level) - 4096;
        insertHuge(GPA, level);

        for (long offset : new long[] {0, 4096, 64 * 4096, last / 2 & -4096, last}) {
            assertEquals(HPA + offset + 5, tlb.readFrame(base + offset + 5));
            assertEquals(HPA + offset, tlb.writeFrame(base + offset));
            assertEquals(HPA + offset, tlb.executeFrame(base + offset));
        }
        assertEquals(Tlb.MISS, tlb.readFrame(base - 1));
        assertEquals(Tlb.MISS, tlb.readFrame(base + last + 4096));
    }

    @Test
    void flushOfARangeStopsAtItsEdges() {
        long gfn = Gfn.of(GPA);
        for (long i = -2; i < 4; i++) {
            insert(Gfn.toGpa(gfn + i), HPA + (i + 2) * 4096, 1, Access.ALL, true);
        }

        tlb.flushRange(gfn, gfn + 2);

        for (long i = -2; i < 4; i++) {
            boolean flushed = i == 0 || i == 1;
            assertEquals(flushed, tlb.readFrame(Gfn.toGpa(gfn + i)) == Tlb.MISS, "i=" + i);
            assertEquals(flushed, tlb.writeFrame(Gfn.toGpa(gfn + i)) == Tlb.MISS, "i=" + i);
            assertEquals(flushed, tlb.executeFrame(Gfn.toGpa(gfn + i)) == Tlb.MISS, "i=" + i);
        }
    }

    @Test
    void flushOfOneFrameTakesThatFrame() {
        insert(GPA, HPA, 1, Access.EXECUTE, false);
        insert(GPA + 4096, HPA + 4096, 1, Access.READ, false);

        tlb.flushRange(Gfn.of(GPA), Gfn.of(GPA) + 1);

        assertEquals(Tlb.MISS, tlb.executeFrame(GPA));
        assertEquals(HPA + 4096, tlb.readFrame(GPA + 4096));
    }

    @Test
    void flushOfNothingKeepsEverything() {
        insertHuge(0, 2);
        insertHuge(0, 3);
        tlb.insertUpper(0, 1, 0x5000, Access.ALL);
        int before = tlb.validEntries();

        tlb.flushRange(0, 0);
        tlb.flushRange(5, 5);

        assertEquals(4, before);
        assertEquals(before, tlb.validEntries());
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 3})
    void hugePageDiesWithAnyFrameOfItself(int level) {
        long firstGfn = Gfn.alignDown(Gfn.of(GPA), level);
        long pages = PagingLevel.pages(level);

        for (long gfn : new long[] {firstGfn - 1, firstGfn, firstGfn + 1, firstGfn + pages - 1, firstGfn + pages}) {
            tlb.flushAll();
            insertHuge(GPA, level);
            tlb.flushRange(gfn, gfn + 1);

            boolean inside = gfn >= firstGfn && gfn < firstGfn + pages;
            assertEquals(inside, tlb.readFrame(Gfn.toGpa(firstGfn + 7)) == Tlb.MISS, "gfn=" + gfn);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 3})
    void piecesDieWithTheirRange(int level) {
        long firstGfn = Gfn.alignDown(Gfn.of(GPA), level);
        insertHuge(GPA, level);
        for (long i = 0; i < 64; i++) {
            tlb.readFrame(Gfn.toGpa(firstGfn + i));
        }
        int before = tlb.validEntries();

        tlb.flushRange(firstGfn, firstGfn + PagingLevel.pages(level));

        assertEquals(65, before);
        assertEquals(0, tlb.validEntries());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4})
    void tableDiesWithAnyFrameBelowIt(int level) {
        long firstGfn = Gfn.alignDown(Gfn.of(FAR_GPA), level + 1);
        long pages = PagingLevel.pages(level + 1);
        long[] starts = {firstGfn - 1, firstGfn, firstGfn + 1, firstGfn + pages - 1, firstGfn + pages};

        for (long start : starts) {
            for (long length : new long[] {1, 2, 600}) {
                tlb.insertUpper(FAR_GPA, level, 0x5000, Access.READ);
                tlb.flushRange(start, start + length);

                boolean met = start < firstGfn + pages && start + length > firstGfn;
                assertEquals(met, table(level) == Tlb.MISS, "start=" + start + ", length=" + length);
            }
        }
    }

    private long table(int level) {
        return switch (level) {
            case 1 -> tlb.leafTable(FAR_GPA);
            case 2 -> tlb.middleTable(FAR_GPA);
            case 3 -> tlb.upperTable(FAR_GPA);
            default -> tlb.topTable(FAR_GPA);
        };
    }

    @Test
    void tablesOfEachLevelAreFoundByTheirOwnTag() {
        long far = GPA + PagingLevel.bytes(5);
        for (int level = 1; level <= 4; level++) {
            tlb.insertUpper(GPA, level, level << 12, level);
            tlb.insertUpper(far, level, 0x9000, Access.ALL);
        }

        // Two of level 3 fit; of the others the second has taken the place of the first.
        assertEquals(Tlb.MISS, tlb.leafTable(GPA));
        assertEquals(Tlb.MISS, tlb.middleTable(GPA));
        assertEquals(Tlb.MISS, tlb.upperTable(GPA));
        assertEquals(Tlb.MISS, tlb.topTable(GPA));
        assertEquals(0x9000 | Access.ALL, tlb.upperTable(far));
        assertEquals(0x9000 | Access.ALL, tlb.upperTable(far + PagingLevel.bytes(3)));
        assertEquals(Tlb.MISS, tlb.upperTable(far + PagingLevel.bytes(4)));
        assertEquals(0x9000 | Access.ALL, tlb.topTable(far + PagingLevel.bytes(4)));
        assertEquals(Tlb.MISS, tlb.topTable(far + PagingLevel.bytes(5)));
    }

    @Test
    void tableKeepsTheUserBit() {
        tlb.insertUpper(GPA, 3, 0x7000, Access.READ | WalkResult.USER);

        assertEquals(0x7000 | Access.READ | WalkResult.USER, tlb.upperTable(GPA));
    }

    @Test
    void flushAllEmptiesEveryPart() {
        insertHuge(GPA, 2);
        insertHuge(GPA, 3);
        for (int level = 1; level <= 4; level++) {
            tlb.insertUpper(GPA, level, 0x5000, Access.ALL);
        }
        int before = tlb.validEntries();

        tlb.flushAll();

        assertEquals(7, before);
        assertEquals(0, tlb.validEntries());
    }

    @Test
    void checkerSeesEveryEntry() {
        insertHuge(GPA, 2);
        insert(GPA, HPA, 1, Access.READ | Access.EXECUTE, false);
        insert(0, HPA + 0x4000_0000L, 3, Access.READ, false);
        tlb.insertUpper(GPA, 1, 0x5000, Access.READ);
        tlb.insertUpper(GPA, 2, 0x6000, Access.ALL);
        tlb.insertUpper(GPA, 3, 0x7000, Access.ALL);
        tlb.insertUpper(GPA, 4, 0x8000, Access.ALL);
        var seen = new StringBuilder();

        var view = new TlbView();
        for (int i = 0; i < tlb.capacity(); i++) {
            if (tlb.entryAt(i, view)) {
                seen.append(String.format(
                        "%s%d gfn=%x pages=%x hpa=%x %s%n",
                        view.table ? "table" : "page",
                        view.level,
                        view.gfn,
                        view.pages,
                        view.hpa,
                        Access.text(view.permissions)));
            }
        }

        assertEquals(
                String.format("page1 gfn=0 pages=1 hpa=380000000 r--%n"
                        + "page1 gfn=40603 pages=1 hpa=340000000 r-x%n"
                        + "page2 gfn=40600 pages=200 hpa=340000000 rwx%n"
                        + "page3 gfn=0 pages=40000 hpa=380000000 r--%n"
                        + "table1 gfn=40600 pages=200 hpa=5000 r--%n"
                        + "table2 gfn=40000 pages=40000 hpa=6000 rwx%n"
                        + "table3 gfn=0 pages=8000000 hpa=7000 rwx%n"
                        + "table4 gfn=0 pages=1000000000 hpa=8000 rwx%n"),
                seen.toString());
        assertThrows(IndexOutOfBoundsException.class, () -> tlb.entryAt(tlb.capacity(), view));
        assertThrows(IndexOutOfBoundsException.class, () -> tlb.entryAt(-1, view));
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void walkUsesAnUnlinkedTableUntilItIsFlushed(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        long leaf = HPA | 7 | 6L << 3;
        try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
            tables.set(1, leaf);
            long pointer = walker.makeRootPointer(tables.root());
            walker.walk(tlb, pointer, GPA, Access.READ, result);
            tables.set(2, 0);

            int stale = walker.walk(tlb, pointer, GPA, Access.READ, result);
            tlb.flushRange(Gfn.of(GPA) + 1, Gfn.of(GPA) + 2);
            int flushed = walker.walk(tlb, pointer, GPA, Access.READ, result);

            assertEquals(HardwareWalker.OK, stale);
            assertEquals(HardwareWalker.VIOLATION, flushed);
            assertEquals(2, result.faultLevel);
        }
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void permissionsAboveARememberedTableBindThoseBelow(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        long accessed = mode.isEpt() ? 1L << 8 : 1L << 5;
        // With A in the tables the fast walk goes through them, without it the slow one.
        for (long tableBits : new long[] {7 | accessed, 7}) {
            try (var tables = new HandMadeTables(mode.levels(), GPA, tableBits)) {
                tables.set(1, HPA | 7 | 6L << 3);
                long pointer = walker.makeRootPointer(tables.root());
                tlb.flushAll();
                tlb.insertUpper(GPA, 2, tables.table(2), Access.READ);

                int fromMiddle = walker.walk(tlb, pointer, GPA, Access.READ, result);
                int permissionsFromMiddle = result.permissions;
                long leafTable = tlb.leafTable(GPA);
                int fromLeafTable = walker.walk(tlb, pointer, GPA, Access.READ, result);
                int permissionsFromLeafTable = result.permissions;
                int store = walker.walk(tlb, pointer, GPA, Access.WRITE, result);

                assertEquals(HardwareWalker.OK, fromMiddle);
                assertEquals(Access.READ, permissionsFromMiddle);
                assertEquals(tables.table(1) | Access.READ, leafTable);
                assertEquals(HardwareWalker.OK, fromLeafTable);
                assertEquals(Access.READ, permissionsFromLeafTable);
                assertEquals(HardwareWalker.VIOLATION, store);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void violationForgetsTheAddressButNotItsNeighbours(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        long readOnly = HPA | 5 | 6L << 3;
        try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
            tables.set(1, readOnly);
            long pointer = walker.makeRootPointer(tables.root());
            walker.walk(tlb, pointer, GPA, Access.READ, result);
            tlb.insert(GPA, result);
            insert(GPA + 4096, HPA + 4096, 1, Access.READ, false);
            // The page, its neighbour, and the tables of every level below the root.
            assertEquals(1 + mode.levels(), tlb.validEntries());

            int outcome = walker.walk(tlb, pointer, GPA, Access.WRITE, result);

            assertEquals(HardwareWalker.VIOLATION, outcome);
            assertEquals(Tlb.MISS, tlb.readFrame(GPA));
            assertEquals(HPA + 4096, tlb.readFrame(GPA + 4096));
            assertEquals(1, tlb.validEntries());
        }
    }

    @Test
    void misconfigurationForgetsNothing() {
        HardwareWalker walker = HardwareWalker.of(VmConfig.builder().build());
        try (var tables = new HandMadeTables(4, GPA, 7)) {
            tables.set(1, HPA | 7 | 6L << 3);
            long pointer = walker.makeRootPointer(tables.root());
            walker.walk(tlb, pointer, GPA, Access.READ, result);
            tables.set(1, 6);

            int outcome = walker.walk(tlb, pointer, GPA, Access.READ, result);

            assertEquals(HardwareWalker.MISCONFIGURATION, outcome);
            assertTrue(tlb.leafTable(GPA) != Tlb.MISS);
            assertEquals(1, result.misconfigLevel);
        }
    }
}
