package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

final class NptWalkerTest {
    private static final long P = 1;
    private static final long RW = 1L << 1;
    private static final long US = 1L << 2;
    private static final long A = 1L << 5;
    private static final long D = 1L << 6;
    private static final long LARGE = 1L << 7;
    private static final long NX = 1L << 63;
    private static final long FINAL = 1L << 32;

    private static final long GPA = (1L << 39) + 0x4060_3000L + 0x123;
    private static final long HPA = 0x3_4000_0000L;
    private static final int[] ACCESSES = {Access.READ, Access.WRITE, Access.EXECUTE};

    private record Variant(int levels, boolean tablesAccessed) {
        VmConfig config() {
            return VmConfig.builder()
                    .pagingMode(levels == 4 ? PagingMode.NPT4 : PagingMode.NPT5)
                    .build();
        }

        HardwareWalker walker() {
            return HardwareWalker.of(config());
        }

        HandMadeTables tables() {
            return new HandMadeTables(levels, GPA, tableBits());
        }

        long tableBits() {
            return P | RW | US | (tablesAccessed ? A : 0);
        }
    }

    static final List<Variant> VARIANTS =
            List.of(new Variant(4, false), new Variant(4, true), new Variant(5, false), new Variant(5, true));

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    private int walkCold(HardwareWalker walker, HandMadeTables tables, int access) {
        tlb.flushAll();
        return walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, access, result);
    }

    private static long leaf(int level) {
        return HPA | P | RW | US | (level > 1 ? LARGE : 0);
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

                    for (int bits = 0; bits < 16; bits++) {
                        long low = bits & 7;
                        boolean noExecute = (bits & 8) != 0;
                        for (int access : ACCESSES) {
                            tables.set(level, original & ~7L | low | (noExecute ? NX : 0));
                            int outcome = walkCold(walker, tables, access);

                            boolean present = (low & P) != 0;
                            boolean allowed = present
                                    && (low & US) != 0
                                    && (access != Access.WRITE || (low & RW) != 0)
                                    && (access != Access.EXECUTE || !noExecute);
                            String what = "level=" + level + ", bits=" + bits + ", access=" + access;
                            assertEquals(allowed ? HardwareWalker.OK : HardwareWalker.VIOLATION, outcome, what);
                            if (!allowed) {
                                long expected = FINAL
                                        | US
                                        | (present ? P : 0)
                                        | (access == Access.WRITE ? RW : 0)
                                        | (access == Access.EXECUTE ? 1L << 4 : 0);
                                assertEquals(expected, result.exit, what);
                            }
                        }
                    }
                }
            }
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
                for (int bit = 3; bit < 63; bit++) {
                    if (bit >= 12 && bit < width || bit == 7 && (level == 2 || level == 3)) {
                        continue;
                    }
                    tables.set(level, original | 1L << bit);
                    int outcome = walkCold(walker, tables, Access.WRITE);

                    boolean bad = bit >= width && bit <= 51 || level > 3 && (bit == 7 || bit == 8);
                    String what = "level=" + level + ", bit=" + bit;
                    assertEquals(bad ? HardwareWalker.MISCONFIGURATION : HardwareWalker.OK, outcome, what);
                    if (bad) {
                        assertEquals(level, result.misconfigLevel, what);
                        assertEquals(FINAL | 0xf, result.exit, what);
                    }
                }
                tables.set(level, original);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void lowAddressBitsOfHugeLeavesAreReservedButForPat(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            for (int level = 2; level <= 3; level++) {
                int firstLegal = level == 2 ? 21 : 30;
                for (int bit = 12; bit <= firstLegal; bit++) {
                    tables.set(level, leaf(level) ^ 1L << bit);
                    int outcome = walkCold(walker, tables, Access.READ);

                    boolean bad = bit > 12 && bit < firstLegal;
                    assertEquals(bad ? HardwareWalker.MISCONFIGURATION : HardwareWalker.OK, outcome, "bit=" + bit);
                    if (bit == 12) {
                        long inside = GPA & (PagingLevel.bytes(level) - 1) & -4096L;
                        assertEquals(HPA + inside, result.frame);
                    }
                }
                tables.relink(level);
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void reservedBitComesBeforeMissingPermission(Variant variant) {
        HardwareWalker walker = variant.walker();
        try (HandMadeTables tables = variant.tables()) {
            tables.set(1, P | 1L << 51);

            int outcome = walkCold(walker, tables, Access.READ);

            assertEquals(HardwareWalker.MISCONFIGURATION, outcome);
            assertEquals(FINAL | 0xd, result.exit);
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void absentEntriesMayHoldAnything(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (int level = 1; level <= variant.levels; level++) {
            try (HandMadeTables tables = variant.tables()) {
                tables.set(1, leaf(1));
                tables.set(level, -1L & ~P);

                int outcome = walkCold(walker, tables, Access.WRITE);

                assertEquals(HardwareWalker.VIOLATION, outcome);
                assertEquals(FINAL | US | RW, result.exit);
                assertEquals(level, result.faultLevel);
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
                    assertEquals(stores, result.writableCached);
                    assertEquals(leaf(leafLevel) | (stores ? A | D : A), tables.get(leafLevel));
                    for (int level = leafLevel + 1; level <= variant.levels; level++) {
                        assertEquals(tables.table(level - 1) | variant.tableBits() | A, tables.get(level));
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void failedWalksChangeNothing(Variant variant) {
        HardwareWalker walker = variant.walker();
        for (long leaf : new long[] {0, leaf(1) & ~RW, leaf(1) | 1L << 51}) {
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

    @Test
    void rootPointerIsTheAddress() {
        assertEquals(0x5000, new Variant(4, true).walker().makeRootPointer(0x5000));
    }

    @ParameterizedTest
    @FieldSource("VARIANTS")
    void rootPointerHasNoBitBesideTheAddress(Variant variant) {
        HardwareWalker walker = variant.walker();
        int width = variant.config().physicalAddressBits();
        for (int bit = 0; bit < 64; bit++) {
            long pointer = 0x5000 | 1L << bit;
            if (bit >= 12 && bit < width) {
                walker.checkRootPointer(pointer);
            } else {
                assertThrows(IllegalArgumentException.class, () -> walker.checkRootPointer(pointer));
            }
        }
    }

    @Test
    void errorCodeIsReadable() {
        assertEquals("present write user final", NptErrorCode.describe(FINAL | 7));
        assertEquals("not-present fetch user reserved unknown=0x20", NptErrorCode.describe(0x3c));
    }
}
