package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.slot.MemSlot;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The list of tables that only the mitigation needs: who is on it, who is not, and that its length is the statistic. */
class PossibleNxPagesTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    private static long describedTable(TableCache tables) {
        long table = tables.take();
        TableHeaders.describe(table, 0, PagingLevel.L4K, 0);
        TableHeaders.setNxState(table, TableHeaders.NX_HUGE_DISALLOWED);
        return table;
    }

    /** whoever detaches a table between its link and its listing takes the mark away, and the listing must see it. */
    @Test
    void detachedTableIsNotListed() {
        try (MmuFixture f = new MmuFixture()) {
            TableCache tables = new TableCache(f.pool);
            tables.topUp(1);
            long table = describedTable(tables);
            PossibleNxPages pages = new PossibleNxPages();

            pages.forget(table);
            pages.track(table);

            assertEquals(0, pages.size());
            assertEquals(0, pages.takeOldest());
            tables.putBack(table);
            tables.drain();
        }
    }

    @Test
    void lengthFollowsEveryOrderOfRemoval() {
        try (MmuFixture f = new MmuFixture()) {
            TableCache tables = new TableCache(f.pool);
            tables.topUp(3);
            long[] all = {describedTable(tables), describedTable(tables), describedTable(tables)};
            for (int first = 0; first < 3; first++) {
                PossibleNxPages pages = new PossibleNxPages();
                for (long table : all) {
                    TableHeaders.setNxState(table, TableHeaders.NX_HUGE_DISALLOWED);
                    pages.track(table);
                    pages.track(table);
                }
                assertEquals(3, pages.size(), "listed once each");

                pages.forget(all[first]);
                pages.forget(all[first]);

                assertEquals(2, pages.size());
                assertEquals(all[first == 0 ? 1 : 0], pages.takeOldest());
                assertEquals(all[first == 2 ? 1 : 2], pages.takeOldest());
                assertEquals(0, pages.takeOldest());
                assertEquals(0, pages.size());
            }
            for (long table : all) {
                tables.putBack(table);
            }
            tables.drain();
        }
    }

    @Test
    void verifierComparesTheLengthWithTheTables() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().nxHugePageMitigation(true))) {
            f.add(0, 0, MIB_2, PageSize.SIZE_2M);
            f.fault(0, Access.EXECUTE);
            long table = f.tableOf(0, PagingLevel.L4K);
            f.mmu.verify();

            TableHeaders.setNxState(table, TableHeaders.NX_NONE);
            assertThrows(MmuCorruptionException.class, f.mmu::verify);
            TableHeaders.setNxState(table, TableHeaders.NX_HUGE_DISALLOWED);
            assertThrows(MmuCorruptionException.class, f.mmu::verify);

            TableHeaders.setNxState(table, TableHeaders.NX_LISTED);
            f.mmu.verify();
        }
    }

    /** a table that is there for another reason than the mitigation makes no later leaf smaller. */
    @ParameterizedTest
    @MethodSource(FORMATS)
    void tableForAnotherReasonDoesNotKeepLeavesSmall(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder.nxHugePageMitigation(true))) {
            MemSlot small = f.add(0, 0, 2 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            f.fault(0, Access.EXECUTE);
            assertEquals(0, f.mmu.nxSplits(), "small for the slot's sake");
            MemSlot slot = f.slots.changeFlags(small, Set.of()).newSlot();

            assertEquals(FaultResult.FIXED, f.fault(KIB_4, Access.READ));

            assertEquals(PagingLevel.L2M, f.levelOf(KIB_4));
            assertEquals(slot.hpa(0), f.format.address(f.read(0)));
            f.fault(2 * KIB_4, Access.EXECUTE);
            assertTrue(f.format.isExecutable(f.read(2 * KIB_4)));
            assertEquals(1, f.mmu.nxSplits());
            assertEquals(FaultResult.FIXED, f.fault(MIB_2, Access.READ));
            assertEquals(PagingLevel.L2M, f.levelOf(MIB_2));
        }
    }

    /** R-52 and the rule against endless rounds: a table that stays has used up its unit of the budget. */
    @Test
    void tableThatCannotBeZappedIsTriedOnce() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().nxHugePageMitigation(true))) {
            MemSlot slot = f.add(0, 0, MIB_2, PageSize.SIZE_2M);
            f.add(1, MIB_2, MIB_2, PageSize.SIZE_2M);
            f.fault(0, Access.EXECUTE);
            f.fault(MIB_2, Access.EXECUTE);
            f.slots.changeFlags(slot, Set.of(SlotFlag.LOG_DIRTY));

            assertEquals(0, f.mmu.ranges().recoverNx(1));

            assertEquals(1, f.mmu.nxSplits());
            assertEquals(0, f.tlb.calls.size(), "nothing was zapped: " + f.tlb.calls);
            assertEquals(1, f.mmu.ranges().recoverNx(1));
            assertEquals("[0x200-0x400]", f.tlb.calls.toString());
            assertEquals(PagingLevel.L4K, f.levelOf(0));
            assertEquals(PagingLevel.L2M, f.levelOf(MIB_2));
            assertEquals(0, f.mmu.nxSplits());
        }
    }

    /** One flush for a batch, over all that it zapped. */
    @ParameterizedTest
    @MethodSource(FORMATS)
    void recoveryFlushesOnceForABatch(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder.nxHugePageMitigation(true))) {
            f.add(0, 0, GIB_1, PageSize.SIZE_2M);
            for (long block = 10; block < 20; block++) {
                f.fault(block * MIB_2, Access.EXECUTE);
            }

            assertEquals(10, f.mmu.ranges().recoverNx(10));

            assertEquals("[0x1400-0x2800]", f.tlb.calls.toString());
        }
    }

    /** roots stay when their last user leaves, so that who comes back finds everything mapped. */
    @Test
    void rootStaysWhenItsLastUserLeaves() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_2M);
            f.fault(0, Access.WRITE);
            String census = f.census();
            long root = f.vcpu.root().hpa();

            for (int toggle = 0; toggle < 1000; toggle++) {
                f.mmu.unloadRoot(f.vcpu);
                f.mmu.loadRoot(f.vcpu);
                assertEquals(root, f.vcpu.root().hpa());
            }

            assertEquals(FaultResult.SPURIOUS, f.fault(0, Access.WRITE));
            assertEquals(census, f.census());
        }
    }
}
