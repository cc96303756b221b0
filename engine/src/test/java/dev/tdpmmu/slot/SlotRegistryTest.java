package dev.tdpmmu.slot;

import static dev.tdpmmu.slot.SlotFixture.GIB_1;
import static dev.tdpmmu.slot.SlotFixture.KIB_4;
import static dev.tdpmmu.slot.SlotFixture.MIB_2;
import static dev.tdpmmu.slot.SlotFixture.NO_FLAGS;
import static dev.tdpmmu.slot.SlotFixture.SMALL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.MemoryCapExceededException;
import dev.tdpmmu.slot.SlotException.Reason;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

final class SlotRegistryTest {
    @Test
    void addedSlotIsFoundFromItsFirstToItsLastFrame() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(3, 16 * KIB_4, 4 * KIB_4);

            MemSlots slots = vm.registry.current();

            assertSame(MemSlot.NONE, slots.find(15));
            assertSame(slot, slots.find(16));
            assertSame(slot, slots.find(19));
            assertSame(MemSlot.NONE, slots.find(20));
            assertSame(slot, slots.byId(3));
            assertEquals(List.of(slot), slots.asList());
            assertEquals(4 * KIB_4, vm.account.usedInBytes());
        }
    }

    @Test
    void snapshotStaysAsItWasWhenSlotsChange() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlots empty = vm.registry.current();
            MemSlot slot = vm.add(0, 0, KIB_4);
            MemSlots one = vm.registry.current();

            vm.registry.remove(slot);

            assertEquals(0, empty.size());
            assertSame(MemSlot.NONE, empty.byId(0));
            assertSame(slot, one.find(0));
            assertSame(slot, one.byId(0));
            assertEquals(0, vm.registry.current().size());
            assertSame(MemSlot.NONE, vm.registry.current().find(0));
            assertSame(MemSlot.NONE, vm.registry.current().byId(0));
        }
    }

    @Test
    void everyChangeRaisesTheGenerationByOne() {
        try (SlotFixture vm = new SlotFixture()) {
            long first = vm.registry.current().generation();

            MemSlot slot = vm.add(0, 0, KIB_4);
            slot = vm.registry.move(slot, MIB_2).newSlot();
            slot = vm.registry.changeFlags(slot, Set.of(SlotFlag.SMALL_PAGES)).newSlot();
            vm.registry.remove(slot);

            assertEquals(first + 4, vm.registry.current().generation());
        }
    }

    @Test
    void generationPassesTheWrapOfMmioEntriesAndOfSmallerCounters() {
        for (long wrap : new long[] {1L << 18, 1L << 31, 1L << 32}) {
            SlotFixture vm = new SlotFixture();
            SlotRegistry registry = new SlotRegistry(vm.config, vm.frames, 1, wrap - 2);

            MemSlot slot = registry.add(0, 0, KIB_4, SMALL, NO_FLAGS).newSlot();
            long before = registry.current().generation();
            MemSlot moved = registry.move(slot, MIB_2).newSlot();

            assertEquals(wrap - 1, before);
            assertEquals(wrap, registry.current().generation());
            assertSame(moved, registry.current().find(Gfn.of(MIB_2), slot));
            registry.close();
        }
    }

    @Test
    void firstGenerationIsNearTheWrapOfMmioEntriesUnderProof() {
        try (SlotFixture vm = new SlotFixture()) {
            long first = vm.registry.current().generation();

            long stepsToWrap = (1L << 18) - first;

            assertEquals(Debug.PROVE, stepsToWrap < 8);
        }
    }

    @Test
    void misalignedAddressOrLengthIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            vm.assertRefused(Reason.MISALIGNED, "gpa=0x1001", () -> vm.add(0, KIB_4 + 1, KIB_4));
            vm.assertRefused(Reason.MISALIGNED, "granule=4096", () -> vm.add(0, 2048, KIB_4));
            vm.assertRefused(Reason.MISALIGNED, "bytes=0xfff", () -> vm.add(0, 0, KIB_4 - 1));
            vm.assertRefused(Reason.MISALIGNED, "bytes=0x1001", () -> vm.add(0, 0, KIB_4 + 1));

            MemSlot slot = vm.add(0, 0, KIB_4);
            vm.assertRefused(Reason.MISALIGNED, "gpa=0x200800", () -> vm.registry.move(slot, MIB_2 + 2048));
        }
    }

    @Test
    void addressPlusLengthThatWrapsIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            vm.assertRefused(Reason.WRAPS, "gpa=0xfffffffffffff000", () -> vm.add(0, -KIB_4, 2 * KIB_4));
            vm.assertRefused(Reason.WRAPS, "bytes=0x1000", () -> vm.add(0, -KIB_4, KIB_4));
            vm.assertRefused(Reason.WRAPS, "bytes=0xfffffffffffff000", () -> vm.add(0, KIB_4, -KIB_4));

            MemSlot slot = vm.add(0, 0, 2 * KIB_4);
            vm.assertRefused(Reason.WRAPS, "gpa=0xfffffffffffff000", () -> vm.registry.move(slot, -KIB_4));
        }
    }

    @Test
    void emptySlotIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            vm.assertRefused(Reason.EMPTY, "bytes=0", () -> vm.add(0, 0, 0));
        }
    }

    @Test
    void lastPageOfTheAddressSpaceIsAcceptedAndTheNextRefused() {
        for (PagingMode mode : PagingMode.values()) {
            for (int bits : new int[] {44, 46, 47, 48, 49, 52}) {
                VmConfig config = VmConfig.builder()
                        .pagingMode(mode)
                        .physicalAddressBits(bits)
                        .build();
                try (SlotFixture vm = new SlotFixture(config)) {
                    long limit = config.guestAddressLimit();

                    MemSlot last = vm.add(0, limit - KIB_4, KIB_4);

                    assertEquals(Math.min(bits, mode.levels() == 4 ? 48 : 57), Long.numberOfTrailingZeros(limit));
                    assertSame(last, vm.registry.current().find(Gfn.of(limit) - 1));
                    String text = "limit=0x" + Long.toHexString(limit);
                    vm.assertRefused(Reason.BEYOND_ADDRESS_LIMIT, text, () -> vm.add(1, limit, KIB_4));
                    vm.assertRefused(Reason.BEYOND_ADDRESS_LIMIT, text, () -> vm.add(1, limit - KIB_4, 2 * KIB_4));
                    vm.assertRefused(Reason.BEYOND_ADDRESS_LIMIT, text, () -> vm.add(1, 1L << 63, KIB_4));
                    vm.assertRefused(Reason.BEYOND_ADDRESS_LIMIT, text, () -> vm.registry.move(last, limit));
                }
            }
        }
    }

    @Test
    void pageCountIsLimitedTo31Bits() {
        try (SlotFixture vm = new SlotFixture()) {
            long most = (1L << 31) - 1;
            Backing synthetic = Backing.synthetic(PageSize.SIZE_1G);

            MemSlot slot = vm.add(0, 0, most << 12, synthetic);

            assertEquals(most, slot.pages());
            assertEquals(most << 12, slot.bytes());
            assertSame(slot, vm.registry.current().find(most - 1));
            assertSame(MemSlot.NONE, vm.registry.current().find(most));
            vm.registry.remove(slot);
            vm.assertRefused(Reason.TOO_MANY_PAGES, "max=2147483647", () -> vm.add(0, 0, 1L << 43, synthetic));
            vm.assertRefused(Reason.TOO_MANY_PAGES, "pages=2147483648", () -> vm.add(0, 0, 1L << 43, synthetic));
            vm.assertRefused(Reason.TOO_MANY_PAGES, "max=2147483647", () -> vm.add(0, 0, -KIB_4, synthetic));
        }
    }

    @Test
    void idOutsideItsRangeIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot last = vm.add(MemSlots.MAX_SLOTS - 1, 0, KIB_4);

            assertSame(last, vm.registry.current().byId(32_763));
            vm.assertRefused(Reason.BAD_ID, "max=32763", () -> vm.add(32_764, MIB_2, KIB_4));
            vm.assertRefused(Reason.BAD_ID, "id=-1", () -> vm.add(-1, MIB_2, KIB_4));
            vm.assertRefused(Reason.BAD_ID, "min=0", () -> vm.add(Integer.MIN_VALUE, MIB_2, KIB_4));
            vm.assertRefused(Reason.BAD_ID, "id=2147483647", () -> vm.add(Integer.MAX_VALUE, MIB_2, KIB_4));
        }
    }

    @Test
    void idOfLiveSlotIsRefusedAndFreeAfterItsRemoval() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(5, 0, KIB_4);

            vm.assertRefused(Reason.ID_IN_USE, "slot 5 [0x0, 0x1000)", () -> vm.add(5, MIB_2, KIB_4));
            vm.registry.remove(slot);

            assertTrue(vm.add(5, MIB_2, KIB_4).exists());
        }
    }

    @Test
    void overlapIsRefusedAndNamesTheOtherSlot() {
        try (SlotFixture vm = new SlotFixture()) {
            vm.add(1, 16 * KIB_4, 4 * KIB_4);
            vm.add(2, 24 * KIB_4, 4 * KIB_4);
            MemSlot moving = vm.add(3, 64 * KIB_4, 8 * KIB_4);
            String first = "other=slot 1 [0x10000, 0x14000)";
            String second = "other=slot 2 [0x18000, 0x1c000)";

            vm.assertRefused(Reason.OVERLAP, first, () -> vm.add(9, 16 * KIB_4, 4 * KIB_4));
            vm.assertRefused(Reason.OVERLAP, first, () -> vm.add(9, 19 * KIB_4, KIB_4));
            vm.assertRefused(Reason.OVERLAP, first, () -> vm.add(9, 15 * KIB_4, 2 * KIB_4));
            vm.assertRefused(Reason.OVERLAP, first, () -> vm.add(9, 0, 60 * KIB_4));
            vm.assertRefused(Reason.OVERLAP, second, () -> vm.add(9, 20 * KIB_4, 5 * KIB_4));
            vm.assertRefused(Reason.OVERLAP, second, () -> vm.registry.move(moving, 20 * KIB_4));

            assertEquals(9, vm.add(9, 20 * KIB_4, 4 * KIB_4).id());
        }
    }

    @Test
    void slotOfAnotherVmIsRefused() {
        try (SlotFixture vm = new SlotFixture();
                SlotFixture other = new SlotFixture()) {
            vm.add(0, 0, KIB_4);
            MemSlot foreign = other.add(0, 0, KIB_4);

            vm.assertRefused(Reason.FOREIGN_SLOT, "vm=7", () -> vm.registry.remove(foreign));
            vm.assertRefused(Reason.FOREIGN_SLOT, "slot 0", () -> vm.registry.move(foreign, MIB_2));
            vm.assertRefused(Reason.FOREIGN_SLOT, "slot 0", () -> vm.registry.changeFlags(foreign, NO_FLAGS));
        }
    }

    @Test
    void slotOfAnEarlierSnapshotIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot removed = vm.add(0, 0, KIB_4);
            vm.registry.remove(removed);
            MemSlot beforeMove = vm.add(1, 0, KIB_4);
            MemSlot beforeFlags = vm.registry.move(beforeMove, MIB_2).newSlot();
            vm.registry.changeFlags(beforeFlags, Set.of(SlotFlag.SMALL_PAGES));

            for (MemSlot old : List.of(removed, beforeMove, beforeFlags, MemSlot.NONE)) {
                vm.assertRefused(Reason.UNKNOWN_SLOT, "slot=" + old, () -> vm.registry.remove(old));
                vm.assertRefused(Reason.UNKNOWN_SLOT, "slot=" + old, () -> vm.registry.move(old, GIB_1));
                vm.assertRefused(Reason.UNKNOWN_SLOT, "live=", () -> vm.registry.changeFlags(old, NO_FLAGS));
            }
        }
    }

    @Test
    void readOnlyCannotBeToggled() {
        try (SlotFixture vm = new SlotFixture()) {
            Set<SlotFlag> readOnly = Set.of(SlotFlag.READ_ONLY);
            MemSlot ram = vm.add(0, 0, KIB_4);
            MemSlot rom = vm.registry.add(1, MIB_2, KIB_4, SMALL, readOnly).newSlot();

            vm.assertRefused(Reason.FLAG_FIXED, "READ_ONLY", () -> vm.registry.changeFlags(ram, readOnly));
            vm.assertRefused(Reason.FLAG_FIXED, "slot 1", () -> vm.registry.changeFlags(rom, NO_FLAGS));

            MemSlot changed =
                    vm.registry.changeFlags(rom, EnumSet.allOf(SlotFlag.class)).newSlot();
            assertTrue(changed.isReadOnly());
        }
    }

    @Test
    void nullArgumentIsNamed() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, KIB_4);

            assertNullNamed("config", () -> new SlotRegistry(null, vm.frames, 0));
            assertNullNamed("frames", () -> new SlotRegistry(vm.config, null, 0));
            assertNullNamed("backing", () -> vm.registry.add(1, MIB_2, KIB_4, null, NO_FLAGS));
            assertNullNamed("flags", () -> vm.registry.add(1, MIB_2, KIB_4, SMALL, null));
            assertNullNamed("slot", () -> vm.registry.remove(null));
            assertNullNamed("slot", () -> vm.registry.move(null, 0));
            assertNullNamed("slot", () -> vm.registry.changeFlags(null, NO_FLAGS));
            assertNullNamed("flags", () -> vm.registry.changeFlags(slot, null));
            assertNullNamed("pageSize", () -> Backing.anonymous(null));
            assertNullNamed("pageSize", () -> Backing.synthetic(null));
            assertNullNamed("run", () -> Backing.held(null, 0));
        }
    }

    private static void assertNullNamed(String name, Runnable call) {
        NullPointerException refusal = assertThrows(NullPointerException.class, call::run);
        assertEquals(name, refusal.getMessage());
    }

    @Test
    void changedSetOfFlagsDoesNotReachTheSlot() {
        try (SlotFixture vm = new SlotFixture()) {
            EnumSet<SlotFlag> flags = EnumSet.of(SlotFlag.SMALL_PAGES);
            MemSlot slot = vm.registry.add(0, 0, KIB_4, SMALL, flags).newSlot();

            flags.add(SlotFlag.READ_ONLY);

            assertEquals(Set.of(SlotFlag.SMALL_PAGES), slot.flags());
            assertThrows(UnsupportedOperationException.class, () -> slot.flags().clear());
        }
    }

    @Test
    void capOnePageShortLeavesNoTraceAndExactCapSuffices() {
        for (PageSize size : PageSize.values()) {
            long bytes = 2 * size.bytes();
            VmConfig exact = VmConfig.builder().memoryCapInBytes(bytes).build();
            VmConfig shorter =
                    VmConfig.builder().memoryCapInBytes(bytes - KIB_4).build();
            Backing backing = Backing.anonymous(size);

            try (SlotFixture vm = new SlotFixture(shorter)) {
                MemoryCapExceededException refusal = assertThrows(
                        MemoryCapExceededException.class, () -> vm.assertNoTrace(() -> vm.add(0, 0, bytes, backing)));
                assertEquals(bytes, refusal.requestedInBytes());
                assertEquals(bytes - KIB_4, refusal.capInBytes());
            }
            try (SlotFixture vm = new SlotFixture(exact)) {
                MemSlot slot = vm.add(0, 0, bytes, backing);
                assertEquals(bytes, vm.account.usedInBytes());
                assertThrows(
                        MemoryCapExceededException.class, () -> vm.assertNoTrace(() -> vm.add(1, 4 * GIB_1, KIB_4)));

                vm.registry.remove(slot).complete();
                assertTrue(vm.add(1, 4 * GIB_1, bytes, backing).exists());
            }
        }
    }

    @Test
    void framesOfRemovedSlotStayUntilTheChangeIsCompleted() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, 3 * KIB_4);
            vm.add(1, MIB_2, KIB_4);

            SlotChange change = vm.registry.remove(slot);
            long usedAfterRemoval = vm.account.usedInBytes();
            change.complete();
            long usedAfterCompletion = vm.account.usedInBytes();
            change.complete();

            assertEquals(4 * KIB_4, usedAfterRemoval);
            assertEquals(KIB_4, usedAfterCompletion);
            assertEquals(KIB_4, vm.account.usedInBytes());
        }
    }

    @Test
    void completionOfOtherChangesReleasesNothing() {
        try (SlotFixture vm = new SlotFixture()) {
            SlotChange add = vm.registry.add(0, 0, KIB_4, SMALL, NO_FLAGS);
            SlotChange move = vm.registry.move(add.newSlot(), MIB_2);
            SlotChange flags = vm.registry.changeFlags(move.newSlot(), Set.of(SlotFlag.SMALL_PAGES));

            add.complete();
            move.complete();
            flags.complete();

            assertEquals(KIB_4, vm.account.usedInBytes());
        }
    }

    @Test
    void changeSaysWhatHappenedAndWhetherMappingsMustGo() {
        try (SlotFixture vm = new SlotFixture()) {
            Backing huge = Backing.anonymous(PageSize.SIZE_2M);

            SlotChange add = vm.registry.add(0, 0, MIB_2, huge, NO_FLAGS);
            SlotChange move = vm.registry.move(add.newSlot(), GIB_1);
            SlotChange small = vm.registry.changeFlags(move.newSlot(), Set.of(SlotFlag.SMALL_PAGES));
            SlotChange large = vm.registry.changeFlags(small.newSlot(), NO_FLAGS);
            SlotChange remove = vm.registry.remove(large.newSlot());

            assertChange(SlotChange.Kind.ADD, MemSlot.NONE, add, false);
            assertChange(SlotChange.Kind.MOVE, add.newSlot(), move, true);
            assertChange(SlotChange.Kind.CHANGE_FLAGS, move.newSlot(), small, true);
            assertChange(SlotChange.Kind.CHANGE_FLAGS, small.newSlot(), large, false);
            assertChange(SlotChange.Kind.REMOVE, large.newSlot(), remove, true);
            assertSame(MemSlot.NONE, remove.newSlot());
            assertFalse(vm.registry.current().find(0).exists());
        }
    }

    private static void assertChange(SlotChange.Kind kind, MemSlot oldSlot, SlotChange change, boolean needsZap) {
        assertEquals(kind, change.kind());
        assertSame(oldSlot, change.oldSlot());
        assertEquals(needsZap, change.needsZap(), change::toString);
    }

    @Test
    void movedSlotKeepsItsMemory() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, 4 * KIB_4);
            GuestBytes.putLong(slot.hpa(3) + 8, 0x1234_5678L);

            MemSlot moved = vm.registry.move(slot, KIB_4).newSlot();

            assertEquals(slot.hpa(0), moved.hpa(1));
            assertEquals(0x1234_5678L, GuestBytes.getLong(moved.hpa(4) + 8));
            assertEquals(slot.id(), moved.id());
            assertEquals(slot.bytes(), moved.bytes());
            assertSame(MemSlot.NONE, vm.registry.current().find(0));
            assertSame(moved, vm.registry.current().find(4));
        }
    }

    @Test
    void moveToTheSamePlaceIsAllowed() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, 4 * KIB_4);

            MemSlot moved = vm.registry.move(slot, 0).newSlot();

            assertNotSame(slot, moved);
            assertSame(moved, vm.registry.current().find(0, slot));
        }
    }

    @Test
    void heldFramesBackTwoSlotsAndTwoVms() {
        MemoryAccount account = new MemoryAccount(MIB_2);
        try (SlotFixture vm = new SlotFixture();
                SlotFixture other = new SlotFixture()) {
            FrameRun run = new FrameAllocator(account).allocate(1, 8 * KIB_4);
            MemSlot whole = vm.add(0, 0, 8 * KIB_4, Backing.held(run, 0));
            MemSlot half = vm.add(1, GIB_1, 4 * KIB_4, Backing.held(run, 4 * KIB_4));
            MemSlot foreign = other.add(0, 0, 8 * KIB_4, Backing.held(run, 0));

            GuestBytes.putLong(whole.hpa(5), 42);

            assertEquals(42, GuestBytes.getLong(half.hpa(Gfn.of(GIB_1) + 1)));
            assertEquals(whole.hpa(0), foreign.hpa(0));
            assertEquals(0, vm.account.usedInBytes());
            run.close();
            vm.registry.remove(whole).complete();
            vm.registry.close();
            assertEquals(8 * KIB_4, account.usedInBytes());
            assertEquals(42, GuestBytes.getLong(foreign.hpa(5)));
            other.registry.close();
            assertEquals(0, account.usedInBytes());
        }
    }

    @Test
    void backingSmallerThanTheSlotIsRefused() {
        try (SlotFixture vm = new SlotFixture();
                FrameRun run = vm.frames.allocate(1, 4 * KIB_4)) {
            vm.assertRefused(
                    Reason.BACKING_TOO_SMALL,
                    "backingBytes=16384",
                    () -> vm.add(0, 0, 5 * KIB_4, Backing.held(run, 0)));
            vm.assertRefused(
                    Reason.BACKING_TOO_SMALL,
                    "offsetInBytes=4096",
                    () -> vm.add(0, 0, 4 * KIB_4, Backing.held(run, KIB_4)));
            vm.assertRefused(
                    Reason.BACKING_TOO_SMALL, "bytes=4096", () -> vm.add(0, 0, KIB_4, Backing.held(run, 4 * KIB_4)));
            vm.assertRefused(
                    Reason.BACKING_TOO_SMALL, "bytes=4096", () -> vm.add(0, 0, KIB_4, Backing.held(run, 1L << 62)));

            assertTrue(vm.add(0, 0, 3 * KIB_4, Backing.held(run, KIB_4)).exists());
        }
    }

    @Test
    void misalignedBackingIsRefused() {
        try (SlotFixture vm = new SlotFixture();
                FrameRun run = vm.frames.allocate(1, 4 * KIB_4)) {
            vm.assertRefused(Reason.BACKING_MISALIGNED, "offsetInBytes=8", () -> Backing.held(run, 8));
            vm.assertRefused(Reason.BACKING_MISALIGNED, "granule=4096", () -> Backing.held(run, -KIB_4));
        }
    }

    @Test
    void backingReleasedByTheCallerIsRefused() {
        try (SlotFixture vm = new SlotFixture()) {
            FrameRun run = vm.frames.allocate(1, 4 * KIB_4);
            Backing backing = Backing.held(run, 0);
            run.close();

            vm.assertRefused(Reason.BACKING_RELEASED, "hpa=0x", () -> vm.add(0, 0, 4 * KIB_4, backing));
        }
    }

    @Test
    void syntheticSlotsCostNothingAndHaveFramesOfTheirOwn() {
        VmConfig config = VmConfig.builder()
                .memoryCapInBytes(KIB_4)
                .pagingMode(PagingMode.EPT5)
                .physicalAddressBits(52)
                .build();
        try (SlotFixture vm = new SlotFixture(config)) {
            Backing synthetic = Backing.synthetic(PageSize.SIZE_1G);
            long terabyte = 1L << 40;

            MemSlot low = vm.add(0, 0, 4 * terabyte, synthetic);
            MemSlot next = vm.add(1, 4 * terabyte, 4 * terabyte, synthetic);
            MemSlot middle = vm.add(2, (1L << 51) - GIB_1, 2 * GIB_1, synthetic);
            MemSlot last = vm.add(3, (1L << 52) - GIB_1, GIB_1, synthetic);

            for (MemSlot slot : List.of(low, next, middle, last)) {
                assertFalse(slot.hasBytes());
                assertEquals(3, slot.maxLevel(slot.baseGfn()));
                assertTrue(slot.hpa(slot.baseGfn()) >= HostMemory.SIZE);
                assertTrue(slot.hpa(slot.endGfn() - 1) < 1L << 52);
            }
            assertEquals(low.hpa(low.endGfn() - 1) + KIB_4, next.hpa(next.baseGfn()));
            assertEquals(0, vm.account.usedInBytes());
        }
    }

    @Test
    void movedSyntheticSlotGetsTheFramesOfItsNewPlace() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, GIB_1, GIB_1, Backing.synthetic(PageSize.SIZE_1G));

            MemSlot moved = vm.registry.move(slot, 4 * GIB_1).newSlot();
            MemSlot second = vm.add(1, GIB_1, GIB_1, Backing.synthetic(PageSize.SIZE_1G));

            assertNotEquals(second.hpa(second.baseGfn()), moved.hpa(moved.baseGfn()));
            assertEquals(3, moved.maxLevel(moved.baseGfn()));
        }
    }

    @Test
    void closeReleasesLiveSlotsAndUnfinishedRemovals() {
        SlotFixture vm = new SlotFixture();
        MemSlot removed = vm.add(0, 0, KIB_4);
        vm.add(1, KIB_4, KIB_4);
        SlotChange unfinished = vm.registry.remove(removed);

        vm.registry.close();
        long used = vm.account.usedInBytes();
        unfinished.complete();
        vm.registry.close();

        assertEquals(0, used);
        assertEquals(0, vm.account.usedInBytes());
        assertEquals(0, vm.registry.current().size());
    }

    @Test
    void closedRegistryRefusesChanges() {
        SlotFixture vm = new SlotFixture();
        MemSlot slot = vm.add(0, 0, KIB_4);
        vm.registry.close();

        for (Runnable change : List.<Runnable>of(
                () -> vm.add(1, KIB_4, KIB_4),
                () -> vm.registry.remove(slot),
                () -> vm.registry.move(slot, KIB_4),
                () -> vm.registry.changeFlags(slot, NO_FLAGS))) {
            IllegalStateException refusal = assertThrows(IllegalStateException.class, change::run);
            assertEquals("slots are closed: vm=7", refusal.getMessage());
        }
    }
}
