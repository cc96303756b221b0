package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

final class EptWalkerTest {
    private static final long RWX = 7;
    private static final long WRITE_BACK = 6L << 3;
    private static final long LARGE = 1L << 7;
    private static final long A = 1L << 8;
    private static final long D = 1L << 9;

    private static final long GPA = (1L << 39) + 0x4060_3000L + 0x123;
    private static final long HPA = 0x3_4000_0000L;

    private static final int OK = 0;
    private static final int BAD = -1;

    /** Section "EPT" of kvm-unit-tests: qualification without 0x180 by permissions (r = 1, w = 2, x = 4) and access. */
    private static final int[][] QUALIFICATIONS = {
        {0x1, 0x2, 0x4},
        {OK, 0xa, 0xc},
        {BAD, BAD, BAD},
        {OK, OK, 0x1c},
        {0x21, 0x22, OK},
        {OK, 0x2a, OK},
        {BAD, BAD, BAD},
        {OK, OK, OK},
    };

    private static final int[] ACCESSES = {Access.READ, Access.WRITE, Access.EXECUTE};

    private record Variant(int levels, boolean accessedDirty, boolean executeOnly, boolean tablesAccessed) {
        VmConfig config() {
            return withLargest(PageSize.SIZE_1G);
        }

        VmConfig withLargest(PageSize largest) {
            return VmConfig.builder()
                    .pagingMode(levels == 4 ? PagingMode.EPT4 : PagingMode.EPT5)
                    .accessedDirty(accessedDirty ? AccessedDirty.ON : AccessedDirty.OFF)
                    .executeOnly(executeOnly)
                    .hardware(HardwareConfig.DEFAULT.withLargestPage(largest))
                    .build();
        }

        HardwareWalker walker() {
            return HardwareWalker.of(config());
        }

        HandMadeTables tables() {
            return new HandMadeTables(levels, GPA, tableBits());
        }

        long tableBits() {
            return RWX | (tablesAccessed ? A : 0);
        }
    }

    static final List<Variant> VARIANTS = variants();

    private static List<Variant> variants() {
        var variants = new ArrayList<Variant>();
        for (int levels = 4; levels <= 5; levels++) {
            for (int flags = 0; flags < 8; flags++) {
                variants.add(new Variant(levels, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0));
            }
        }
        return variants;
    }

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    private int walk(HardwareWalker walker, HandMadeTables tables, int access) {
        return walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, access, result);
    }

    private int walkCold(HardwareWalker walker, HandMadeTables tables, int access) {
        tlb.flushAll();
        return walk(walker, tables, access);
    }

    private static long leaf(int level) {
        return HPA | RWX | WRITE_BACK | (level > 1 ? LARGE : 0);
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void permissionsDecideAtEveryLevel(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (int level = 1; level <= variant.levels; level++) {
            for (int huge = 0; huge <= (level == 2 || level == 3 ? 1 : 0); huge++) {
                try (HandMadeTables tables = variant.tables()) {
                    tables.set(1, leaf(1));
                    if (huge == 1) {
                        tables.set(level, leaf(level));
                    }
                    long original = tables.get(level);

                    for (int permissions = 0; permissions <= RWX; permissions++) {
                        for (int i = 0; i < ACCESSES.length; i++) {
                            tables.set(level, original & ~RWX | permissions);
                            int outcome = walkCold(walker, tables, ACCESSES[i]);

                            boolean executeOnlyMissing = permissions == 4 && !variant.executeOnly;
                            int expected = executeOnlyMissing ? BAD : QUALIFICATIONS[permissions][i];
                            String what = "level=" + level + ", huge=" + huge + ", permissions=" + permissions
                                    + ", access=" + ACCESSES[i];
                            assertOutcome(expected, outcome, level, permissions, what);
                        }
                    }
                }
            }
        }
    }

    private void assertOutcome(int expected, int outcome, int level, int permissions, String what) {
        if (expected == BAD) {
            assertEquals(HardwareWalker.MISCONFIGURATION, outcome, what);
            assertEquals(0, result.exit, what);
            assertEquals(level, result.misconfigLevel, what);
        } else if (expected == OK) {
            assertEquals(HardwareWalker.OK, outcome, what);
            assertEquals(permissions, result.permissions, what);
        } else {
            assertEquals(HardwareWalker.VIOLATION, outcome, what);
            assertEquals(0x180 | expected, result.exit, what + ", " + ExitQualification.describe(result.exit));
            assertEquals(0, result.misconfigLevel, what);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void qualificationCarriesTheAndOfAllLevels(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1) & ~RWX | 3);
            tables.set(3, tables.get(3) & ~RWX | 5);

            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.VIOLATION, outcome);
            assertEquals(0x180 | 0x2 | 0x8, result.exit);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void severalAccessesAreReportedTogether(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1) & ~RWX | 1);

            int outcome = walkCold(walker, tables, Access.READ | Access.WRITE);

            assertEquals(HardwareWalker.VIOLATION, outcome);
            assertEquals(0x180 | 0x3 | 0x8, result.exit);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void reservedBitsAreFoundAtTheLevelWhereTheyAre(Variant variant) {
        HardwareWalker walker = variant.walker();
        int width = variant.config().physicalAddressBits();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1));
            for (int level = 1; level <= variant.levels; level++) {
                long original = tables.get(level);
                for (int bit = 3; bit < 64; bit++) {
                    boolean address = bit >= width && bit <= 51;
                    boolean typeOrPat = level > 1 && bit <= 6;
                    boolean large = level > 3 && bit == 7;
                    if (bit >= 12 && bit < width || level == 1 && bit <= 6 || (level == 2 || level == 3) && bit == 7) {
                        continue;
                    }
                    tables.set(level, original | 1L << bit);
                    int outcome = walkCold(walker, tables, Access.READ);

                    boolean bad = address || typeOrPat || large;
                    String what = "level=" + level + ", bit=" + bit;
                    assertEquals(bad ? HardwareWalker.MISCONFIGURATION : HardwareWalker.OK, outcome, what);
                    assertEquals(bad ? level : 1, bad ? result.misconfigLevel : result.level, what);
                }
                tables.set(level, original);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void lowAddressBitsOfHugeLeavesAreReserved(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            for (int level = 2; level <= 3; level++) {
                int firstLegal = level == 2 ? 21 : 30;
                for (int bit = 12; bit <= firstLegal; bit++) {
                    tables.set(level, leaf(level) ^ 1L << bit);
                    int outcome = walkCold(walker, tables, Access.READ);

                    boolean bad = bit < firstLegal;
                    assertEquals(bad ? HardwareWalker.MISCONFIGURATION : HardwareWalker.OK, outcome, "bit=" + bit);
                    assertEquals(level, bad ? result.misconfigLevel : result.level);
                }
                tables.relink(level);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void memoryTypesTwoThreeAndSevenAreMisconfigured(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            for (int level = 1; level <= 3; level++) {
                for (long type = 0; type < 8; type++) {
                    for (long ignorePat = 0; ignorePat < 2; ignorePat++) {
                        tables.set(level, leaf(level) & ~(7L << 3) | type << 3 | ignorePat << 6);
                        int outcome = walkCold(walker, tables, Access.READ);

                        boolean bad = type == 2 || type == 3 || type == 7;
                        assertEquals(
                                bad ? HardwareWalker.MISCONFIGURATION : HardwareWalker.OK, outcome, "type=" + type);
                    }
                }
                if (level > 1) {
                    tables.relink(level);
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void gigabyteLeavesNeedTheCapability(Variant variant) {
        HardwareWalker walker = new EptWalker(variant.withLargest(PageSize.SIZE_2M));
        try (HandMadeTables tables = variant.tables()) {
            tables.set(3, leaf(3));

            int outcome = walkCold(walker, tables, Access.READ);

            assertEquals(HardwareWalker.MISCONFIGURATION, outcome);
            assertEquals(3, result.misconfigLevel);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void absentEntriesMayHoldAnything(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (int level = 1; level <= variant.levels; level++) {
            try (HandMadeTables tables = variant.tables()) {
                tables.set(1, leaf(1));
                tables.set(level, -1L & ~RWX);

                int outcome = walkCold(walker, tables, Access.WRITE);

                assertEquals(HardwareWalker.VIOLATION, outcome);
                assertEquals(0x182, result.exit);
                assertEquals(level, result.faultLevel);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void misconfigurationBelowComesBeforeMissingPermissionAbove(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1) & ~RWX | 2);
            tables.set(3, tables.get(3) & ~RWX | 1);

            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.MISCONFIGURATION, outcome);
            assertEquals(1, result.misconfigLevel);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void absentEntryAboveHidesMisconfigurationBelow(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1) & ~RWX | 2);
            tables.set(2, tables.get(2) & ~RWX);

            int outcome = walkCold(walker, tables, Access.READ);

            assertEquals(HardwareWalker.VIOLATION, outcome);
            assertEquals(2, result.faultLevel);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void frameIsTheFourKilobytesInsideTheLeaf(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            for (int level = 1; level <= 3; level++) {
                tables.set(level, leaf(level));

                int outcome = walkCold(walker, tables, Access.READ);

                long inside = GPA & (PagingLevel.bytes(level) - 1) & -4096L;
                assertEquals(HardwareWalker.OK, outcome);
                assertEquals(HPA + inside, result.frame);
                assertEquals(level, result.level);
                assertEquals(Access.ALL, result.permissions);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void loadsSetAccessedAndStoresSetDirty(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (int leafLevel = 1; leafLevel <= 3; leafLevel++) {
            for (int access : ACCESSES) {
                try (HandMadeTables tables = variant.tables()) {
                    tables.set(leafLevel, leaf(leafLevel));

                    int outcome = walkCold(walker, tables, access);

                    boolean stores = access == Access.WRITE;
                    assertEquals(HardwareWalker.OK, outcome);
                    assertEquals(stores || !variant.accessedDirty, result.writableCached);
                    for (int level = leafLevel + 1; level <= variant.levels; level++) {
                        long set = variant.accessedDirty ? A : 0;
                        assertEquals(tables.table(level - 1) | variant.tableBits() | set, tables.get(level));
                    }
                    long set = variant.accessedDirty ? stores ? A | D : A : 0;
                    assertEquals(leaf(leafLevel) | set, tables.get(leafLevel));
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void failedWalksChangeNothing(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (long leaf : new long[] {0, leaf(1) & ~RWX | 1, leaf(1) & ~RWX | 2}) {
            try (HandMadeTables tables = variant.tables()) {
                tables.set(1, leaf);

                int outcome = walkCold(walker, tables, Access.WRITE);

                assertTrue(outcome != HardwareWalker.OK);
                assertEquals(leaf, tables.get(1));
                for (int level = 2; level <= variant.levels; level++) {
                    assertEquals(tables.table(level - 1) | variant.tableBits(), tables.get(level));
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void walkFromARememberedTableSetsTheBitsOfTheLeaf(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1));
            assertEquals(HardwareWalker.OK, walkCold(walker, tables, Access.READ));
            assertEquals(variant.levels - 1, tlb.validEntries());

            int outcome = walk(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, outcome);
            assertTrue(result.writableCached);
            assertEquals(leaf(1) | (variant.accessedDirty ? A | D : 0), tables.get(1));
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void rememberedTablesKeepThePermissionsAboveThem(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, leaf(1));
            tables.set(4, tables.get(4) & ~RWX | 5);
            tables.set(2, tables.get(2) & ~RWX | 3);
            assertEquals(HardwareWalker.OK, walkCold(walker, tables, Access.READ));
            assertEquals(Access.READ, result.permissions);

            int cached = walk(walker, tables, Access.READ);
            int cachedPermissions = result.permissions;
            int violation = walk(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, cached);
            assertEquals(Access.READ, cachedPermissions);
            assertEquals(HardwareWalker.VIOLATION, violation);
            assertEquals(0x180 | 0x2 | 0x8, result.exit);
            assertEquals(0, tlb.validEntries());
        }
    }

    @Test
    void lostExchangeStartsTheWalkAgain() {
        // Level 2 points to its own table, at an index that level 1 uses too: one entry serves both levels, so
        // setting A at level 2 changes what level 1 was judged by, and the second exchange is lost without any second
        // thread.
        long gpa = 0x4020_1000L;
        HardwareWalker walker = new Variant(4, true, true, false).walker();
        try (var tables = new HandMadeTables(4, gpa, RWX)) {
            long self = tables.table(2) | RWX;
            tables.set(2, self);

            int outcome = walker.walk(tlb, walker.makeRootPointer(tables.root()), gpa, Access.WRITE, result);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(self | A | D, tables.get(2));
            assertEquals(tables.table(2), result.frame);
        }
    }

    @Test
    void wrongArgumentsAreRefusedAtDebugLevelCheck() {
        assumeTrue(Debug.CHECK);
        var variant = new Variant(4, true, true, false);
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            long pointer = walker.makeRootPointer(tables.root());

            assertThrows(
                    IllegalArgumentException.class, () -> walker.walk(tlb, tables.root(), GPA, Access.READ, result));
            assertThrows(
                    IllegalArgumentException.class, () -> walker.walk(tlb, pointer, 1L << 46, Access.READ, result));
            for (int access : new int[] {
                8,
                WalkAccess.GUEST_TABLE,
                WalkAccess.SUPERVISOR_PAGE | WalkAccess.PRIVILEGED,
                WalkAccess.GUEST_TABLE | Access.EXECUTE,
                Access.READ | WalkAccess.PRIVILEGED << 1,
            }) {
                assertThrows(IllegalArgumentException.class, () -> walker.walk(tlb, pointer, GPA, access, result));
            }
        }
    }

    @Test
    void rootPointerSaysTypeLengthAndAccessedDirty() {
        assertEquals(0x5000 | 0x5e, new Variant(4, true, true, true).walker().makeRootPointer(0x5000));
        assertEquals(0x5000 | 0x26, new Variant(5, false, true, true).walker().makeRootPointer(0x5000));
    }

    @Test
    void anyPermissionTellsThatAnEntryWasThere() {
        for (long permission : new long[] {0x8, 0x10, 0x20, 0x40}) {
            assertTrue(ExitQualification.isPresent(0x181 | permission));
        }
        assertFalse(ExitQualification.isPresent(0xf87));
    }

    @Test
    void qualificationIsReadable() {
        assertEquals("access=-w- allowed=r-x linear final", ExitQualification.describe(0x1aa));
        assertEquals("access=r-- allowed=--- user-execute", ExitQualification.describe(0x41));
    }
}
