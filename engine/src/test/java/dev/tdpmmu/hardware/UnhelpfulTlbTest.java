package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What a TLB that evicts nothing keeps, and how it refuses. */
final class UnhelpfulTlbTest {
    private static final long GPA = 0x4060_3000L;
    private static final long HPA = 0x3_4000_0000L;
    private static final long PAGES = 5000;

    // The same bits in both families, as far as these tests use them: R W X and P RW US, memory type, A and D apart.
    private static final long READ_ONLY = HPA | 5 | 6L << 3;
    private static final long WRITABLE = HPA | 7 | 6L << 3;

    private final Tlb tlb = new Tlb(TlbMode.UNHELPFUL, null);
    private final WalkResult result = new WalkResult();

    private void insert(long gpa, long frame, int level, int permissions) {
        result.entryPermissions = permissions;
        result.found(frame, level, permissions, (permissions & Access.WRITE) != 0);
        tlb.insert(gpa, result);
    }

    @Test
    void pagesAndTablesStayUntilTheyAreFlushed() {
        for (long i = 0; i < PAGES; i++) {
            long gpa = i * PagingLevel.bytes(2);
            insert(gpa, HPA + i * Gfn.PAGE_SIZE, 1, Access.ALL);
            tlb.insertUpper(gpa, 1, i << Gfn.PAGE_SHIFT, Access.ALL);
        }

        for (long i = 0; i < PAGES; i++) {
            long gpa = i * PagingLevel.bytes(2);
            assertEquals(HPA + i * Gfn.PAGE_SIZE + 7, tlb.readFrame(gpa + 7));
            assertEquals(HPA + i * Gfn.PAGE_SIZE, tlb.writeFrame(gpa));
            assertEquals(HPA + i * Gfn.PAGE_SIZE, tlb.executeFrame(gpa));
            assertEquals(i << Gfn.PAGE_SHIFT | Access.ALL, tlb.leafTable(gpa));
        }
        tlb.flushRange(512, 512 * (PAGES - 1));
        assertEquals(4, tlb.validEntries());
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void cachedTranslationThatAllowsTooLittleFaultsOnce(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        for (boolean unhelpful : new boolean[] {true, false}) {
            Tlb cache = unhelpful ? tlb : new Tlb();
            try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
                tables.set(1, READ_ONLY);
                long pointer = walker.makeRootPointer(tables.root());
                walker.walkOrRefuse(cache, pointer, GPA, Access.READ, result);
                cache.insert(GPA, result);
                tables.set(1, WRITABLE);

                int first = walker.walkOrRefuse(cache, pointer, GPA, Access.WRITE, result);
                long exit = result.exit;
                int level = result.faultLevel;
                int misconfigured = result.misconfigLevel;
                boolean forgotten = cache.readFrame(GPA) == Tlb.MISS && cache.leafTable(GPA) == Tlb.MISS;
                int second = walker.walkOrRefuse(cache, pointer, GPA, Access.WRITE, result);

                assertEquals(unhelpful ? HardwareWalker.VIOLATION : HardwareWalker.OK, first);
                assertEquals(HardwareWalker.OK, second);
                if (unhelpful) {
                    assertEquals(exitOfStoreToReadOnlyPage(mode, walker), exit);
                    assertEquals(1, level);
                    assertEquals(0, misconfigured);
                    assertTrue(forgotten);
                }
            }
        }
    }

    /** The exit of a walk that really finds such a page. */
    private static long exitOfStoreToReadOnlyPage(PagingMode mode, HardwareWalker walker) {
        try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
            tables.set(1, READ_ONLY);
            var found = new WalkResult();
            int outcome = walker.walk(new Tlb(), walker.makeRootPointer(tables.root()), GPA, Access.WRITE, found);
            assertEquals(HardwareWalker.VIOLATION, outcome);
            return found.exit;
        }
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void pageThatLacksOnlyDirtyIsWalked(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        long dirty = mode.isEpt() ? 1L << 9 : 1L << 6;
        try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
            tables.set(1, WRITABLE);
            long pointer = walker.makeRootPointer(tables.root());
            walker.walkOrRefuse(tlb, pointer, GPA, Access.READ, result);
            tlb.insert(GPA, result);

            long store = tlb.writeFrame(GPA);
            int outcome = walker.walkOrRefuse(tlb, pointer, GPA, Access.WRITE, result);

            assertEquals(Tlb.MISS, store);
            assertEquals(HardwareWalker.OK, outcome);
            assertNotEquals(0, tables.get(1) & dirty);
        }
    }

    @Test
    void nothingIsRefusedAboutAPageThatIsNotCached() {
        HardwareWalker walker = HardwareWalker.of(VmConfig.builder().build());
        insert(GPA, HPA, 1, Access.READ);
        try (var tables = new HandMadeTables(4, GPA + Gfn.PAGE_SIZE, 7)) {
            tables.set(1, WRITABLE);

            int outcome = walker.walkOrRefuse(
                    tlb, walker.makeRootPointer(tables.root()), GPA + Gfn.PAGE_SIZE, Access.WRITE, result);

            assertEquals(HardwareWalker.OK, outcome);
            assertFalse(tlb.readFrame(GPA) == Tlb.MISS);
        }
    }

    @Test
    void hugePageRefusesAtItsLevel() {
        HardwareWalker walker = HardwareWalker.of(VmConfig.builder().build());
        insert(GPA, HPA + 0x3000, 2, Access.READ);

        int outcome = walker.walkOrRefuse(tlb, walker.makeRootPointer(0), GPA + 0x5000, Access.WRITE, result);

        assertEquals(HardwareWalker.VIOLATION, outcome);
        assertEquals(2, result.faultLevel);
        assertEquals(Tlb.MISS, tlb.readFrame(GPA + 0x5000));
        assertEquals(HPA + 0x3000, tlb.readFrame(GPA));
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void violationsAndMisconfigurationsAreNotCached(PagingMode mode) {
        HardwareWalker walker =
                HardwareWalker.of(VmConfig.builder().pagingMode(mode).build());
        long malformed = WRITABLE | 1L << 51;
        try (var tables = new HandMadeTables(mode.levels(), GPA, 7)) {
            long pointer = walker.makeRootPointer(tables.root());

            for (long spte : new long[] {0, malformed}) {
                tables.set(1, spte);
                assertNotEquals(HardwareWalker.OK, walker.walkOrRefuse(tlb, pointer, GPA, Access.READ, result));
                assertEquals(Tlb.MISS, tlb.readFrame(GPA));
                tables.set(1, WRITABLE);
                assertEquals(HardwareWalker.OK, walker.walkOrRefuse(tlb, pointer, GPA, Access.READ, result));
            }
        }
    }
}
