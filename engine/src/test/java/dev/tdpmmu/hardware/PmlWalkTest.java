package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** Walks with a page-modification log attached: what is logged, and when the exit for a full log comes. */
final class PmlWalkTest {
    private static final long RWX = 7;
    private static final long WRITE_BACK = 6L << 3;
    private static final long LARGE = 1L << 7;
    private static final long A = 1L << 8;
    private static final long D = 1L << 9;

    private static final long GPA = (1L << 39) + 0x4060_3000L + 0x123;
    private static final long PAGE = GPA & -4096L;
    private static final long HPA = 0x3_4000_0000L;

    /** With A in its tables a path is walked fast, without slow. */
    private record Path(int levels, int leafLevel, boolean tablesAccessed) {
        HardwareWalker walker() {
            return HardwareWalker.of(config(AccessedDirty.ON));
        }

        VmConfig config(AccessedDirty accessedDirty) {
            return VmConfig.builder()
                    .pagingMode(levels == 4 ? PagingMode.EPT4 : PagingMode.EPT5)
                    .accessedDirty(accessedDirty)
                    .build();
        }

        HandMadeTables tables(long leafFlags) {
            var tables = new HandMadeTables(levels, GPA, RWX | (tablesAccessed ? A : 0));
            tables.set(leafLevel, leaf(leafLevel) | leafFlags);
            return tables;
        }
    }

    static final List<Path> PATHS = paths();

    private static List<Path> paths() {
        var paths = new ArrayList<Path>();
        for (int levels = 4; levels <= 5; levels++) {
            for (int leafLevel = 1; leafLevel <= 3; leafLevel++) {
                paths.add(new Path(levels, leafLevel, true));
                paths.add(new Path(levels, leafLevel, false));
            }
        }
        return paths;
    }

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();
    private final PmlBuffer log = new PmlBuffer();

    PmlWalkTest() {
        result.logStoresTo(log);
    }

    @AfterEach
    void close() {
        log.close();
    }

    private static long leaf(int level) {
        return HPA | RWX | WRITE_BACK | (level > 1 ? LARGE : 0);
    }

    private int walkCold(HardwareWalker walker, HandMadeTables tables, int access) {
        tlb.flushAll();
        return walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, access, result);
    }

    private List<Long> drain() {
        List<Long> logged = new ArrayList<>();
        log.lock();
        for (long gpa = log.next(); gpa != PmlBuffer.NONE; gpa = log.next()) {
            logged.add(gpa);
        }
        log.reset();
        log.unlock();
        return logged;
    }

    private void fill() {
        while (!log.isFull()) {
            log.log(0x5000);
        }
    }

    private static List<Long> entriesOf(HandMadeTables tables, Path path) {
        List<Long> entries = new ArrayList<>();
        for (int level = path.leafLevel; level <= path.levels; level++) {
            entries.add(tables.get(level));
        }
        return entries;
    }

    /** The processor only looks at the guest's table, but may set a flag there: that counts as a store. */
    @ParameterizedTest
    @FieldSource("PATHS")
    void lookAtAGuestTableIsLoggedAsAStore(Path path) {
        HardwareWalker walker = path.walker();
        try (HandMadeTables tables = path.tables(A)) {
            int look = Access.READ | WalkAccess.GUEST_TABLE;
            int outcome = walkCold(walker, tables, look);
            int again = walkCold(walker, tables, look);

            assertEquals(HardwareWalker.OK, outcome | again);
            assertEquals(List.of(PAGE), drain());
            assertEquals(leaf(path.leafLevel) | A | D, tables.get(path.leafLevel));
            tables.set(path.leafLevel, leaf(path.leafLevel) | A);
            fill();
            assertEquals(HardwareWalker.LOG_FULL, walkCold(walker, tables, look));
            assertEquals(leaf(path.leafLevel) | A, tables.get(path.leafLevel));
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void storeThatSetsDirtyLogsTheFourKilobytePage(Path path) {
        HardwareWalker walker = path.walker();
        for (long leafFlags : new long[] {0, A}) {
            try (HandMadeTables tables = path.tables(leafFlags)) {
                int outcome = walkCold(walker, tables, Access.WRITE);

                assertEquals(HardwareWalker.OK, outcome);
                assertEquals(leaf(path.leafLevel) | A | D, tables.get(path.leafLevel));
                assertTrue(result.writableCached);
                assertEquals(510, log.index());
                assertEquals(List.of(PAGE), drain());
            }
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void storeToADirtyLeafLogsNothing(Path path) {
        HardwareWalker walker = path.walker();
        for (long leafFlags : new long[] {D, A | D}) {
            try (HandMadeTables tables = path.tables(leafFlags)) {
                int outcome = walkCold(walker, tables, Access.WRITE);

                assertEquals(HardwareWalker.OK, outcome);
                assertEquals(511, log.index());
            }
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void loadsAndFetchesLogNothing(Path path) {
        HardwareWalker walker = path.walker();
        for (int access : new int[] {Access.READ, Access.EXECUTE, Access.READ | Access.EXECUTE}) {
            try (HandMadeTables tables = path.tables(0)) {
                int outcome = walkCold(walker, tables, access);

                assertEquals(HardwareWalker.OK, outcome);
                assertEquals(leaf(path.leafLevel) | A, tables.get(path.leafLevel));
                assertEquals(511, log.index());
            }
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void refusedStoresLogNothing(Path path) {
        HardwareWalker walker = path.walker();
        try (HandMadeTables tables = path.tables(0)) {
            for (long leaf : new long[] {0, leaf(path.leafLevel) & ~2L, leaf(path.leafLevel) | 1L << 51}) {
                tables.set(path.leafLevel, leaf);

                int outcome = walkCold(walker, tables, Access.WRITE);

                assertTrue(outcome == HardwareWalker.VIOLATION || outcome == HardwareWalker.MISCONFIGURATION);
                assertEquals(511, log.index());
            }
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void fullLogExitsBeforeAnyFlagIsSet(Path path) {
        HardwareWalker walker = path.walker();
        fill();
        for (int access : new int[] {Access.READ, Access.WRITE, Access.EXECUTE}) {
            for (long leafFlags : new long[] {0, A, D, A | D}) {
                try (HandMadeTables tables = path.tables(leafFlags)) {
                    List<Long> before = entriesOf(tables, path);

                    int outcome = walkCold(walker, tables, access);

                    long wanted = access == Access.WRITE ? A | D : A;
                    boolean needsFlag = !path.tablesAccessed || (wanted & ~leafFlags) != 0;
                    String what = "access=" + access + ", leafFlags=0x" + Long.toHexString(leafFlags);
                    assertEquals(needsFlag ? HardwareWalker.LOG_FULL : HardwareWalker.OK, outcome, what);
                    assertEquals(before, entriesOf(tables, path), what);
                    assertEquals(0xffff, log.index(), what);
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void fullLogForbidsNothingWhereNoFlagIsMissing(Path path) {
        HardwareWalker walker = path.walker();
        fill();
        try (HandMadeTables tables = path.tables(A | D)) {
            for (int level = path.leafLevel + 1; level <= path.levels; level++) {
                // Tables that forbid something are left to the slow walk.
                tables.set(level, tables.get(level) & ~(path.tablesAccessed ? 0L : 4L) | A);
            }

            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(0xffff, log.index());
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void failuresComeBeforeTheFullLog(Path path) {
        HardwareWalker walker = path.walker();
        fill();
        try (HandMadeTables tables = path.tables(0)) {
            tables.set(path.leafLevel, leaf(path.leafLevel) & ~2L);

            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.VIOLATION, outcome);
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void accessGoesThroughAfterReset(Path path) {
        HardwareWalker walker = path.walker();
        fill();
        try (HandMadeTables tables = path.tables(0)) {
            assertEquals(HardwareWalker.LOG_FULL, walkCold(walker, tables, Access.WRITE));

            assertEquals(PmlBuffer.ENTRIES, drain().size());
            int outcome = walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, Access.WRITE, result);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(List.of(PAGE), drain());
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void rewritingAClearedPageFillsTheLogInFiveHundredTwelveStores(Path path) {
        HardwareWalker walker = path.walker();
        try (HandMadeTables tables = path.tables(0)) {
            int stores = 0;
            while (walkCold(walker, tables, Access.WRITE) == HardwareWalker.OK) {
                stores++;
                tables.set(path.leafLevel, tables.get(path.leafLevel) & ~D);
            }

            assertEquals(PmlBuffer.ENTRIES, stores);
            assertEquals(0, tables.get(path.leafLevel) & D);
            assertEquals(0xffff, log.index());
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void detachedLogGetsNothingAndForbidsNothing(Path path) {
        HardwareWalker walker = path.walker();
        fill();
        result.stopLogging();
        try (HandMadeTables tables = path.tables(0)) {
            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(leaf(path.leafLevel) | A | D, tables.get(path.leafLevel));
            assertEquals(PmlBuffer.ENTRIES, log.pending());
        }
    }

    @ParameterizedTest
    @FieldSource("PATHS")
    void logIsIgnoredWithoutAccessedAndDirtyFlags(Path path) {
        HardwareWalker walker = HardwareWalker.of(path.config(AccessedDirty.OFF));
        fill();
        try (HandMadeTables tables = path.tables(0)) {
            int outcome = walkCold(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(leaf(path.leafLevel), tables.get(path.leafLevel));
        }
    }

    @Test
    void nestedWalksIgnoreTheLog() {
        long tableBits = 7;
        long accessed = 1L << 5;
        long dirty = 1L << 6;
        for (PagingMode mode : new PagingMode[] {PagingMode.NPT4, PagingMode.NPT5}) {
            HardwareWalker walker =
                    HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
            for (long tableFlags : new long[] {0, accessed}) {
                for (boolean full : new boolean[] {false, true}) {
                    try (var tables = new HandMadeTables(mode.levels(), GPA, tableBits | tableFlags)) {
                        tables.set(1, HPA | tableBits);
                        if (full) {
                            fill();
                        }

                        int outcome = walkCold(walker, tables, Access.WRITE);

                        assertEquals(HardwareWalker.OK, outcome);
                        assertEquals(HPA | tableBits | accessed | dirty, tables.get(1));
                        assertEquals(full ? PmlBuffer.ENTRIES : 0, drain().size());
                    }
                }
            }
        }
    }

    @Test
    void walkThatLosesAnExchangeLogsItsStoreOnce() {
        // One entry serves as table of level 2 and as leaf, so setting A at level 2 changes what the leaf was judged
        // by: the first attempt is lost without any second thread.
        long gpa = 0x4020_1000L;
        HardwareWalker walker = new Path(4, 1, false).walker();
        try (var tables = new HandMadeTables(4, gpa, RWX)) {
            tables.set(2, tables.table(2) | RWX);

            int outcome = walker.walk(tlb, walker.makeRootPointer(tables.root()), gpa, Access.WRITE, result);

            assertEquals(HardwareWalker.OK, outcome);
            assertEquals(List.of(gpa), drain());
        }
    }

    @Test
    void logMustExist() {
        assertThrows(NullPointerException.class, () -> result.logStoresTo(null));
    }

    /**
     * One guest of 512 small pages, and huge ones beside them, with a model of their flags.
     */
    private final class RandomGuest {
        private static final int LEAVES = 3;

        private final HandMadeTables tables;
        private final HardwareWalker walker;
        private final int levels;
        private final Random random;
        private final List<Long> expected = new ArrayList<>();
        private final List<Long> logged = new ArrayList<>();
        private int fullExits;
        private int huge;

        RandomGuest(int levels, long seed) {
            this.levels = levels;
            this.random = new Random(seed);
            this.walker = new Path(levels, 1, true).walker();
            this.tables = new HandMadeTables(levels, GPA, RWX | A);
        }

        /** An address whose leaf has the level; index of the path itself is left alone above level 1. */
        private long gpaAt(int level) {
            long step = PagingLevel.bytes(level);
            long mask = 511 * step;
            long own = GPA & mask;
            long index = random.nextInt(8) * step;
            if (level > 1 && index == own) {
                index = own ^ 8 * step;
            }
            return GPA & ~mask & -step | index | random.nextLong() & step - 1;
        }

        void step() {
            int level = 1 + random.nextInt(LEAVES);
            long gpa = gpaAt(level);
            long address = SpteAccess.addressOf(tables.table(level), Gfn.of(gpa), level);
            long old = SpteAccess.readPlain(address);
            if ((old & RWX) == 0 || random.nextInt(4) == 0) {
                old = leaf(level) | (random.nextBoolean() ? A : 0) | (random.nextInt(4) == 0 ? D : 0);
                SpteAccess.setPlain(address, old);
                tlb.flushAll();
            }
            if (random.nextInt(4) == 0) {
                int at = level + 1 + random.nextInt(levels - level);
                tables.set(at, tables.get(at) & ~A);
                tlb.flushAll();
            }
            access(level, gpa, address, old);
        }

        private void access(int level, long gpa, long address, long old) {
            boolean stores = random.nextBoolean();
            long wanted = stores ? A | D : A;
            boolean needsFlag = (wanted & ~old) != 0;
            for (int at = level + 1; at <= levels; at++) {
                needsFlag |= (tables.get(at) & A) == 0;
            }
            boolean exits = log.isFull() && needsFlag;

            int outcome = walk(gpa, stores);

            assertEquals(exits ? HardwareWalker.LOG_FULL : HardwareWalker.OK, outcome);
            if (exits) {
                assertEquals(old, SpteAccess.readPlain(address));
                fullExits++;
                logged.addAll(drain());
                assertEquals(HardwareWalker.OK, walk(gpa, stores));
            }
            assertEquals(old | wanted, SpteAccess.readPlain(address));
            if (stores && (old & D) == 0) {
                expected.add(gpa & -4096L);
                huge += level > 1 ? 1 : 0;
            }
        }

        private int walk(long gpa, boolean stores) {
            int access = stores ? Access.WRITE : Access.READ;
            return walker.walk(tlb, walker.makeRootPointer(tables.root()), gpa, access, result);
        }
    }

    @Test
    void loggedAddressesAreTheDirtyTransitionsOfRandomWalks() {
        long seed = System.nanoTime();
        System.out.println("PmlWalkTest seed=" + seed);
        for (int levels = 4; levels <= 5; levels++) {
            var guest = new RandomGuest(levels, seed + levels);
            try (HandMadeTables tables = guest.tables) {
                assertEquals(levels, guest.levels);

                for (int i = 0; i < 20_000; i++) {
                    guest.step();
                }
                guest.logged.addAll(drain());

                assertEquals(guest.expected, guest.logged);
                assertTrue(guest.fullExits > 3 && guest.huge > 500, "exits=" + guest.fullExits);
                assertTrue(tables.root() != 0);
            }
        }
    }
}
