package dev.tdpmmu.mmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteText;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class SpteTransitionTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";
    private static final long GFN = 0x200;
    private static final long FRAME = HostMemory.SIZE / 2;

    /** One entry of each state, for one level. */
    private static final class States {
        final long leaf;
        final long otherFrame;
        final long mmio;
        final long table;
        final long otherTable;

        States(MmuFixture f, int level) {
            leaf = f.format.makeLeaf(FRAME, level, Access.ALL, true, false);
            otherFrame = f.format.makeLeaf(FRAME + PagingLevel.bytes(level), level, Access.ALL, true, false);
            mmio = f.format.makeMmio(GFN, Access.WRITE, 3);
            table = f.format.makeTable(HostMemory.SIZE / 8);
            otherTable = f.format.makeTable(HostMemory.SIZE / 8 + HostMemory.PAGE_SIZE);
        }
    }

    private static void apply(MmuFixture f, int level, long oldSpte, long newSpte) {
        f.locked(LockMode.SHARED, () -> new SpteTransition(f.format, 1).apply(f.worker, GFN, level, oldSpte, newSpte));
    }

    private static void assertIllegal(MmuFixture f, String what, int level, long oldSpte, long newSpte) {
        MmuCorruptionException thrown =
                assertThrows(MmuCorruptionException.class, () -> apply(f, level, oldSpte, newSpte), what);

        String message = thrown.getMessage();
        assertTrue(message.startsWith(what), message);
        assertTrue(message.contains("gfn=0x200, level=" + PagingLevel.name(level)), message);
        assertTrue(message.contains("old=[" + SpteText.describe(f.format, oldSpte, level) + "]"), message);
        assertTrue(message.contains("new=[" + SpteText.describe(f.format, newSpte, level) + "]"), message);
    }

    /** Takes the counts of made-up transitions back, so that the fixture's last check holds. */
    private static void forget(MmuFixture f) {
        for (int counter = Counter.PAGES_4K; counter <= Counter.PAGES_1G; counter++) {
            f.worker.count(counter, -f.worker.counted(counter));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void everyIllegalTransitionThrowsWithBothEntriesDecoded(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            for (int level = PagingLevel.L4K; level <= PagingLevel.MAX_HUGE; level++) {
                States s = new States(f, level);
                assertIllegal(f, "leaf changed its frame", level, s.leaf, s.otherFrame);
                assertIllegal(f, "frozen entry was not thawed first", level, Spte.FROZEN, s.leaf);
                assertIllegal(f, "frozen entry was not thawed first", level, Spte.FROZEN, Spte.FROZEN);
                assertIllegal(f, "non-present entry changed into another", level, 0, 0);
                assertIllegal(f, "entry is illegal", level, 0, s.leaf | 1L << 51);
                assertIllegal(f, "entry is illegal", level, 0, 0x10);
                forget(f);
            }
            States s = new States(f, PagingLevel.L4K);
            assertIllegal(f, "frozen entry was not thawed first", PagingLevel.L4K, Spte.FROZEN, s.mmio);
            assertIllegal(f, "MMIO entry over a present one", PagingLevel.L4K, s.leaf, s.mmio);
            forget(f);
            for (int level = PagingLevel.L2M; level <= PagingLevel.MAX_HUGE; level++) {
                States above = new States(f, level);
                assertIllegal(f, "table replaced by a table", level, above.table, above.otherTable);
                assertIllegal(f, "frozen entry was not thawed first", level, Spte.FROZEN, above.table);
                assertIllegal(f, "entry is illegal", level, 0, above.mmio);
            }
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void everyLegalTransitionCountsTheLeavesOfItsLevel(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            for (int level = PagingLevel.L2M; level <= PagingLevel.MAX_HUGE; level++) {
                States s = new States(f, level);
                int counter = Counter.PAGES_4K + level - 1;
                assertCounts(f, counter, 1, level, 0, s.leaf);
                assertCounts(f, counter, 0, level, s.leaf, f.format.clearWritable(s.leaf));
                assertCounts(f, counter, -1, level, s.leaf, s.table);
                assertCounts(f, counter, 1, level, s.table, s.leaf);
                assertCounts(f, counter, -1, level, s.leaf, Spte.FROZEN);
                assertCounts(f, counter, 0, level, Spte.FROZEN, 0);
                assertCounts(f, counter, 0, level, 0, s.table);
                assertCounts(f, counter, 0, level, s.table, Spte.FROZEN);
                assertCounts(f, counter, 0, level, s.table, 0);
            }
            States s = new States(f, PagingLevel.L4K);
            assertCounts(f, Counter.PAGES_4K, 0, PagingLevel.L4K, 0, s.mmio);
            assertCounts(f, Counter.PAGES_4K, 0, PagingLevel.L4K, s.mmio, f.format.makeMmio(GFN, Access.READ, 4));
            assertCounts(f, Counter.PAGES_4K, 1, PagingLevel.L4K, s.mmio, s.leaf);
            assertCounts(f, Counter.PAGES_4K, -1, PagingLevel.L4K, s.leaf, 0);
            assertCounts(f, Counter.PAGES_4K, 0, PagingLevel.L4K, 0, Spte.FROZEN);
            assertCounts(f, Counter.PAGES_4K, 0, PagingLevel.L4K, s.mmio, 0);
        }
    }

    private static void assertCounts(MmuFixture f, int counter, long delta, int level, long oldSpte, long newSpte) {
        long before = f.worker.counted(counter);

        apply(f, level, oldSpte, newSpte);

        String what =
                SpteText.describe(f.format, oldSpte, level) + " -> " + SpteText.describe(f.format, newSpte, level);
        assertEquals(delta, f.worker.counted(counter) - before, what);
        forget(f);
    }

    @Test
    void changeWithoutTheLockIsRefused() {
        try (MmuFixture f = new MmuFixture()) {
            SpteTransition transition = new SpteTransition(f.format, 1);

            IllegalStateException thrown = assertThrows(
                    IllegalStateException.class,
                    () -> transition.apply(f.worker, GFN, PagingLevel.L4K, 0, Spte.FROZEN));

            assertTrue(thrown.getMessage().startsWith("lock is not held: rank=MMU"), thrown.getMessage());
        }
    }
}
