package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.Counter;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Huge leaves that come back in place: how large, with which permissions, how used, and with how many flushes. */
class HugePageRecovererTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    /** A slot whose pages were mapped small and may be huge from now on. */
    private static MemSlot allowHuge(MmuFixture f, MemSlot small) {
        return f.slots.changeFlags(small, Set.of()).newSlot();
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void recoveryGoesThrough2MiBTo1GiBWithFewFlushes(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot small = f.add(0, 0, 2 * GIB_1, PageSize.SIZE_1G, SlotFlag.SMALL_PAGES);
            for (long block = 0; block < 512; block += 8) {
                f.fault(block * MIB_2, Access.WRITE);
            }
            f.fault(GIB_1, Access.WRITE);
            MemSlot slot = allowHuge(f, small);

            long recovered = f.mmu.ranges().recover(slot);

            assertEquals(64 + 1 + 2, recovered);
            assertTrue(f.tlb.calls.size() <= 4, "one for each pass and each long epoch: " + f.tlb.calls);
            assertEquals("0x0-0x80000", f.tlb.calls.get(0));
            assertEquals(0, f.counted(Counter.PAGES_4K));
            assertEquals(2, f.counted(Counter.PAGES_1G));
            assertTrue(f.format.allows(f.read(5 * KIB_4), Access.ALL));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void firstPresentLeafGivesThePermissions(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot small = f.add(0, 0, 2 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            f.fault(3 * KIB_4, Access.WRITE);
            f.fault(4 * KIB_4, Access.WRITE);
            f.fault(MIB_2 + 3 * KIB_4, Access.WRITE);
            f.fault(MIB_2 + 4 * KIB_4, Access.WRITE);
            f.mmu.ranges().writeProtect(3, 4);
            f.mmu.ranges().writeProtect(512 + 4, 512 + 5);
            MemSlot slot = allowHuge(f, small);

            assertEquals(2, f.mmu.ranges().recover(slot));

            assertEquals(PagingLevel.L2M, f.levelOf(0));
            assertFalse(f.format.isWritable(f.read(0)));
            assertTrue(f.format.isMmuWritable(f.read(0)), "the fast fix may give W back");
            assertTrue(f.format.isWritable(f.read(MIB_2)));
            assertEquals(FaultResult.FIXED, f.fault(4 * KIB_4, Access.WRITE));
            assertEquals(1, f.counted(Counter.PF_FAST));
        }
    }

    /** Without A/D bits an old first leaf must not make the young ones behind it old. */
    @ParameterizedTest
    @MethodSource(FORMATS)
    void leavesTogetherSayHowTheHugeOneWasUsed(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot small = f.add(0, 0, 3 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            for (long block = 0; block < 3; block++) {
                f.fault(block * MIB_2, Access.READ);
                f.fault(block * MIB_2 + KIB_4, Access.WRITE);
            }
            walkTo(f, KIB_4);
            f.mmu.ranges().age(0, 1);
            f.mmu.ranges().age(2 * 512, 3 * 512);
            MemSlot slot = allowHuge(f, small);

            assertEquals(3, f.mmu.ranges().recover(slot));

            assertTrue(f.format.isAccessed(f.read(0)), "a young leaf was behind an old one");
            if (f.format.accessedDirty()) {
                assertTrue(f.format.isDirty(f.read(0)));
                assertFalse(f.format.isDirty(f.read(MIB_2)));
            }
            assertFalse(f.format.isAccessed(f.read(2 * MIB_2)), "all leaves were old");
        }
    }

    /** What hardware does to the entries on a store. */
    private static void walkTo(MmuFixture f, long gpa) {
        long bits = f.format.accessedBit() | f.format.dirtyBit();
        long address = f.addressOf(gpa, PagingLevel.L4K);
        long spte = SpteAccess.readAcquire(address);
        assertTrue(SpteAccess.compareAndSet(address, spte, spte | bits) || bits == 0);
    }

    @Test
    void watchedFramesAndLoggedSlotsAndEmptyTablesAreLeftAlone() {
        try (MmuFixture f = new MmuFixture()) {
            MemSlot small = f.add(0, 0, 3 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            MemSlot logged = f.add(1, 4 * MIB_2, MIB_2, PageSize.SIZE_2M, SlotFlag.LOG_DIRTY);
            for (long block = 0; block < 3; block++) {
                f.fault(block * MIB_2, Access.WRITE);
            }
            f.fault(4 * MIB_2, Access.READ);
            f.mmu.ranges().watch(7, 8);
            f.mmu.ranges().unmap(512, 1024, OperationLock.EXCLUSIVE, true);
            MemSlot slot = allowHuge(f, small);

            assertEquals(1, f.mmu.ranges().recover(slot));
            assertEquals(0, f.mmu.ranges().recover(logged));

            assertEquals(PagingLevel.L4K, f.levelOf(0));
            assertEquals(PagingLevel.L4K, f.levelOf(MIB_2), "an empty table says nothing about permissions");
            assertEquals(PagingLevel.L2M, f.levelOf(2 * MIB_2));
            assertEquals(PagingLevel.L4K, f.levelOf(4 * MIB_2));
            f.mmu.ranges().unwatch(7, 8);
        }
    }

    /** blocks that a slot fills only in part are left alone at its head and its tail. */
    @ParameterizedTest
    @MethodSource(FORMATS)
    void recoveryIsClippedToTheSlotAtHeadAndTail(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot before = f.add(0, 0, MIB_2 - KIB_4, PageSize.SIZE_4K);
            MemSlot small = f.add(1, MIB_2 - KIB_4, 2 * MIB_2 - KIB_4, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            MemSlot behind = f.add(2, 3 * MIB_2 - 2 * KIB_4, MIB_2, PageSize.SIZE_4K);
            for (long gpa : new long[] {0, MIB_2 - KIB_4, MIB_2, 2 * MIB_2, 3 * MIB_2 - 2 * KIB_4}) {
                f.fault(gpa, Access.WRITE);
            }
            MemSlot slot = allowHuge(f, small);

            assertEquals(1, f.mmu.ranges().recover(slot));

            assertEquals(PagingLevel.L4K, f.levelOf(MIB_2 - KIB_4));
            assertEquals(PagingLevel.L2M, f.levelOf(MIB_2));
            assertEquals(PagingLevel.L4K, f.levelOf(2 * MIB_2));
            assertEquals(before.hpa(0), f.format.address(f.read(0)));
            assertEquals(behind.hpa(Gfn.of(3 * MIB_2 - 2 * KIB_4)), f.format.address(f.read(3 * MIB_2 - 2 * KIB_4)));
        }
    }

    /** the verifier reads every table's header; a split makes tables of two levels. */
    @ParameterizedTest
    @MethodSource(FORMATS)
    void everyTableLiesOneLevelBelowItsParent(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, GIB_1, PageSize.SIZE_1G);
            f.fault(0, Access.READ);

            assertEquals(1 + 512, f.mmu.ranges().split(0, Gfn.of(GIB_1), PagingLevel.L4K));

            int levels = f.config.pagingMode().levels();
            assertEquals("4k=262144 2m=0 1g=0 tables=" + (levels - 2 + 1 + 512) + " mmio=0", f.census());
        }
    }
}
