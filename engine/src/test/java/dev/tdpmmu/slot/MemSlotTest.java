package dev.tdpmmu.slot;

import static dev.tdpmmu.slot.SlotFixture.GIB_1;
import static dev.tdpmmu.slot.SlotFixture.KIB_4;
import static dev.tdpmmu.slot.SlotFixture.MIB_2;
import static dev.tdpmmu.slot.SlotFixture.NO_FLAGS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

final class MemSlotTest {
    @Test
    void slotTellsItsRangeInAllUnits() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(4, 3 * KIB_4, 5 * KIB_4);

            String text = slot.toString();

            assertEquals(4, slot.id());
            assertEquals(3, slot.baseGfn());
            assertEquals(8, slot.endGfn());
            assertEquals(5, slot.pages());
            assertEquals(3 * KIB_4, slot.gpa());
            assertEquals(5 * KIB_4, slot.bytes());
            assertEquals(SlotFixture.SMALL, slot.backing());
            assertTrue(slot.exists());
            assertTrue(slot.hasBytes());
            assertEquals("slot 4 [0x3000, 0x8000) AnonymousBacking[pageSize=SIZE_4K] []", text);
        }
    }

    @Test
    void noSlotContainsNoFrameAndAllowsNothing() {
        MemSlot none = MemSlot.NONE;

        boolean contains = none.contains(0) || none.contains(-1) || none.contains(Long.MIN_VALUE);

        assertFalse(contains);
        assertFalse(none.exists());
        assertFalse(none.hasBytes());
        assertEquals(0, none.access());
        assertEquals(0, none.pages());
        assertEquals(-1, none.id());
        assertEquals("no slot", none.toString());
    }

    @Test
    void accessLacksWriteOnlyInReadOnlySlots() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot ram = vm.add(0, 0, KIB_4);
            MemSlot rom = vm.registry
                    .add(1, KIB_4, KIB_4, SlotFixture.SMALL, Set.of(SlotFlag.READ_ONLY))
                    .newSlot();

            assertEquals(Access.ALL, ram.access());
            assertFalse(ram.isReadOnly());
            assertEquals(Access.READ | Access.EXECUTE, rom.access());
            assertTrue(rom.isReadOnly());
        }
    }

    @Test
    void hostAddressesAreLinearAndInsideTheFrames() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 7 * KIB_4, 1024 * KIB_4, Backing.anonymous(PageSize.SIZE_2M));

            long first = slot.hpa(7);

            for (long gfn = slot.baseGfn(); gfn < slot.endGfn(); gfn++) {
                assertEquals(first + (gfn - 7) * KIB_4, slot.hpa(gfn));
                assertTrue(HostMemory.isFrame(slot.hpa(gfn)));
            }
            GuestBytes.putLong(slot.hpa(slot.endGfn() - 1) + KIB_4 - 8, 9);
            assertEquals(9, GuestBytes.getLong(slot.hpa(slot.endGfn() - 1) + KIB_4 - 8));
        }
    }

    @Test
    void lookupOutsideTheSlotIsCaughtInDebugBuilds() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, KIB_4, KIB_4);

            if (Debug.CHECK) {
                assertThrows(IllegalArgumentException.class, () -> slot.hpa(2));
                assertThrows(IllegalArgumentException.class, () -> slot.maxLevel(0));
            }
        }
    }

    @Test
    void leafIsAsLargeAsTheBackingsPages() {
        try (SlotFixture vm = new SlotFixture()) {
            for (PageSize size : PageSize.values()) {
                MemSlot anonymous = vm.add(size.level(), size.level() * 4 * GIB_1, GIB_1, Backing.anonymous(size));
                MemSlot synthetic =
                        vm.add(8 + size.level(), size.level() * 64 * GIB_1, 2 * GIB_1, Backing.synthetic(size));

                assertEquals(size.level(), anonymous.maxLevel(anonymous.baseGfn()));
                assertEquals(size.level(), anonymous.maxLevel(anonymous.endGfn() - 1));
                assertEquals(size.level(), synthetic.maxLevel(synthetic.baseGfn()));
            }
        }
    }

    @Test
    void leafStaysInsideTheSlot() {
        try (SlotFixture vm = new SlotFixture()) {
            long gpa = GIB_1 - MIB_2 - KIB_4;
            MemSlot slot = vm.add(0, gpa, GIB_1 + 2 * (MIB_2 + KIB_4), Backing.anonymous(PageSize.SIZE_1G));

            assertEquals(1, slot.maxLevel(Gfn.of(gpa)));
            assertEquals(2, slot.maxLevel(Gfn.of(gpa) + 1));
            assertEquals(2, slot.maxLevel(Gfn.of(GIB_1) - 1));
            assertEquals(3, slot.maxLevel(Gfn.of(GIB_1)));
            assertEquals(3, slot.maxLevel(Gfn.of(2 * GIB_1) - 1));
            assertEquals(2, slot.maxLevel(Gfn.of(2 * GIB_1)));
            assertEquals(2, slot.maxLevel(Gfn.of(2 * GIB_1 + MIB_2) - 1));
            assertEquals(1, slot.maxLevel(Gfn.of(2 * GIB_1 + MIB_2)));
        }
    }

    @Test
    void anonymousSlotIsChargedWithWholeFrames() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, MIB_2 - KIB_4, 2 * KIB_4, Backing.anonymous(PageSize.SIZE_2M));

            long used = vm.account.usedInBytes();

            assertEquals(2 * MIB_2, used);
            assertEquals(MIB_2 - KIB_4, slot.hpa(slot.baseGfn()) & (MIB_2 - 1));
            assertEquals(1, slot.maxLevel(slot.baseGfn()));
        }
    }

    @Test
    void leafIsSmallWhereGuestAndHostBlocksDoNotStartTogether() {
        try (SlotFixture vm = new SlotFixture();
                FrameRun run = vm.frames.allocate(3, 2 * GIB_1)) {
            MemSlot both = vm.add(0, 4 * GIB_1, GIB_1, Backing.held(run, GIB_1));
            MemSlot shiftedBy2M = vm.add(1, 8 * GIB_1, GIB_1, Backing.held(run, MIB_2));
            MemSlot shiftedBy4K = vm.add(2, 12 * GIB_1, GIB_1, Backing.held(run, KIB_4));
            MemSlot equallyShifted = vm.add(3, 16 * GIB_1 + KIB_4, GIB_1, Backing.held(run, KIB_4));

            assertEquals(3, both.maxLevel(both.baseGfn()));
            assertEquals(2, shiftedBy2M.maxLevel(shiftedBy2M.baseGfn()));
            assertEquals(1, shiftedBy4K.maxLevel(shiftedBy4K.baseGfn() + 1024));
            assertEquals(2, equallyShifted.maxLevel(equallyShifted.baseGfn() + 1024));
        }
    }

    @Test
    void moveThatBreaksCongruenceMakesLeavesSmaller() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, 2 * GIB_1, Backing.anonymous(PageSize.SIZE_1G));

            MemSlot by2M = vm.registry.move(slot, 4 * GIB_1 + MIB_2).newSlot();
            MemSlot by4K = vm.registry.move(by2M, 4 * GIB_1 + KIB_4).newSlot();
            MemSlot back = vm.registry.move(by4K, 4 * GIB_1).newSlot();

            assertEquals(2, by2M.maxLevel(by2M.baseGfn()));
            assertEquals(1, by4K.maxLevel(by4K.baseGfn() + 1023));
            assertEquals(3, back.maxLevel(back.baseGfn()));
        }
    }

    @Test
    void smallPagesFlagForbidsHugeLeaves() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, GIB_1, Backing.anonymous(PageSize.SIZE_1G));

            MemSlot small =
                    vm.registry.changeFlags(slot, Set.of(SlotFlag.SMALL_PAGES)).newSlot();
            MemSlot large = vm.registry.changeFlags(small, NO_FLAGS).newSlot();

            assertEquals(1, small.maxLevel(0));
            assertEquals(3, large.maxLevel(0));
        }
    }

    @Test
    void largestLeafAgreesWithItsDefinitionForRandomSlots() {
        long seed = System.nanoTime();
        System.out.println("MemSlotTest seed=" + seed);
        Random random = new Random(seed);

        for (int round = 0; round < 300; round++) {
            try (SlotFixture vm = new SlotFixture();
                    FrameRun run = vm.frames.allocate(1 + random.nextInt(3), 2 * GIB_1)) {
                long grain = PagingLevel.bytes(1 + random.nextInt(2));
                long gpa = random.nextInt(1000) * grain;
                long bytes = (1 + random.nextInt(500)) * grain;
                long offset = Math.min(random.nextInt(500) * grain, run.bytes() - bytes);
                MemSlot slot = vm.add(0, gpa, bytes, Backing.held(run, offset));

                for (int i = 0; i < 50; i++) {
                    long gfn = slot.baseGfn() + random.nextLong(slot.pages());
                    assertEquals(definedLevel(slot, run, gfn), slot.maxLevel(gfn), () -> "seed=" + seed + " " + slot);
                }
            }
        }
    }

    /** The definition, block by block and frame by frame at the ends. */
    private static int definedLevel(MemSlot slot, FrameRun run, long gfn) {
        for (int level = run.level(); level > 1; level--) {
            long first = gfn / PagingLevel.pages(level) * PagingLevel.pages(level);
            long last = first + PagingLevel.pages(level) - 1;
            if (slot.contains(first) && slot.contains(last) && slot.hpa(first) % PagingLevel.bytes(level) == 0) {
                return level;
            }
        }
        return 1;
    }
}
