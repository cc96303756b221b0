package dev.tdpmmu.slot;

import static dev.tdpmmu.slot.SlotFixture.GIB_1;
import static dev.tdpmmu.slot.SlotFixture.KIB_4;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.slot.SlotException.Reason;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Slots over pages of the host: which page is behind which frame, who is refused, and who keeps the pages alive. */
final class HostBackingTest {
    @Test
    void slotKnowsThePageBehindEachFrame() {
        try (SlotFixture vm = new SlotFixture();
                HostPages pages = HostPages.allocate(8 * KIB_4)) {
            MemSlot slot = vm.add(0, GIB_1, 5 * KIB_4, Backing.host(pages, 3 * KIB_4));
            MemSlot linear = vm.add(1, 0, KIB_4);

            assertFalse(slot.isLinear());
            assertSame(pages, slot.hostPages());
            assertEquals(3, slot.hostPage(slot.baseGfn()));
            assertEquals(7, slot.hostPage(slot.endGfn() - 1));
            assertEquals(1, slot.maxLevel(slot.baseGfn()));
            assertEquals(PageSize.SIZE_4K, slot.backing().pageSize());
            assertTrue(slot.hasBytes());
            assertThrows(IllegalStateException.class, () -> slot.hpa(slot.baseGfn()));
            assertThrows(IllegalArgumentException.class, () -> slot.hostPage(slot.endGfn()));
            assertTrue(linear.isLinear());
            assertThrows(IllegalStateException.class, linear::hostPages);
            assertThrows(IllegalStateException.class, () -> linear.hostPage(0));
            assertTrue(MemSlot.NONE.isLinear());
        }
    }

    @Test
    void movedSlotKeepsItsPages() {
        try (SlotFixture vm = new SlotFixture();
                HostPages pages = HostPages.allocate(8 * KIB_4)) {
            MemSlot slot = vm.add(0, GIB_1, 4 * KIB_4, Backing.host(pages, 2 * KIB_4));

            MemSlot moved = vm.registry.move(slot, 5 * KIB_4).newSlot();

            assertSame(pages, moved.hostPages());
            assertEquals(2, moved.hostPage(5));
            assertEquals(5, moved.hostPage(8));
        }
    }

    @Test
    void slotThatDoesNotFitIsRefused() {
        try (SlotFixture vm = new SlotFixture();
                HostPages pages = HostPages.allocate(4 * KIB_4)) {
            Backing all = Backing.host(pages, 0);
            Backing last = Backing.host(pages, 3 * KIB_4);
            Backing none = Backing.host(pages, 1L << 62);

            vm.assertRefused(Reason.BACKING_TOO_SMALL, "backingBytes=16384", () -> vm.add(0, 0, 5 * KIB_4, all));
            vm.assertRefused(Reason.BACKING_TOO_SMALL, "offsetInBytes=12288", () -> vm.add(0, 0, 2 * KIB_4, last));
            vm.assertRefused(Reason.BACKING_TOO_SMALL, "bytes=4096", () -> vm.add(0, 0, KIB_4, none));
            vm.assertRefused(Reason.BACKING_MISALIGNED, "offsetInBytes=8", () -> Backing.host(pages, 8));
            vm.assertRefused(Reason.BACKING_MISALIGNED, "granule=4096", () -> Backing.host(pages, -KIB_4));
            assertThrows(NullPointerException.class, () -> Backing.host(null, 0));
            assertTrue(vm.add(0, 0, KIB_4, last).exists());
        }
    }

    @Test
    void vmThatCannotNameEveryFrameOfTheHostIsRefused() {
        int hostBits = Long.numberOfTrailingZeros(HostMemory.SIZE);
        VmConfig exact = VmConfig.builder().physicalAddressBits(hostBits).build();
        VmConfig narrow = VmConfig.builder().physicalAddressBits(hostBits - 1).build();

        try (HostPages pages = HostPages.allocate(KIB_4);
                SlotFixture wide = new SlotFixture(exact);
                SlotFixture vm = new SlotFixture(narrow)) {
            Backing backing = Backing.host(pages, 0);

            vm.assertRefused(Reason.BACKING_BEYOND_ADDRESS_LIMIT, "limit=", () -> vm.add(0, 0, KIB_4, backing));
            assertTrue(wide.add(0, 0, KIB_4, backing).exists());
        }
    }

    @Test
    void vmPaysNothingForPagesOfTheHost() {
        try (SlotFixture vm = new SlotFixture();
                HostPages pages = HostPages.allocate(8 * KIB_4)) {
            vm.add(0, 0, 8 * KIB_4, Backing.host(pages, 0));

            assertEquals(0, vm.account.usedInBytes());
        }
    }

    @Test
    void closedPagesAreRefused() {
        HostPages pages = HostPages.allocate(4 * KIB_4);
        Backing backing = Backing.host(pages, 0);
        pages.close();
        pages.close();

        try (SlotFixture vm = new SlotFixture()) {
            vm.assertRefused(Reason.BACKING_RELEASED, "pages=4", () -> vm.add(0, 0, KIB_4, backing));
        }
        assertEquals(0, pages.frames().usedInBytes());
        assertEquals(HostFaultResult.GONE, pages.faultIn(0, true));
        assertThrows(IllegalStateException.class, () -> pages.addListener(new HostRecorder()));
        for (Runnable operation : operations(pages)) {
            assertThrows(IllegalStateException.class, operation::run);
        }
    }

    @Test
    void slotKeepsClosedPagesAliveUntilItsRemovalIsComplete() {
        HostPages pages = HostPages.allocate(4 * KIB_4);
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot slot = vm.add(0, 0, 2 * KIB_4, Backing.host(pages, 0));
            HostRecorder recorder = new HostRecorder();
            pages.addListener(recorder);
            pages.faultIn(0, true);
            pages.faultIn(1, true);
            assertTrue(pages.merge(0, 1));

            pages.close();

            for (Runnable operation : operations(pages)) {
                assertThrows(IllegalStateException.class, operation::run);
            }
            recorder.forget();
            assertEquals(HostFaultResult.READY, pages.faultIn(1, true));
            assertEquals(List.of("start 1 2", "end 1 2"), recorder.heard);
            assertEquals(HostFaultResult.READY, pages.faultIn(3, false));
            GuestBytes.putLong(HostPageWord.hpa(pages.word(1)), 5);
            assertEquals(0, GuestBytes.getLong(HostPageWord.hpa(pages.word(0))));

            SlotChange removal = vm.registry.remove(slot);
            assertTrue(pages.frames().usedInBytes() > 0);
            removal.complete();
            pages.removeListener(recorder);

            assertEquals(0, pages.frames().usedInBytes());
            assertEquals(HostFaultResult.GONE, pages.faultIn(1, true));
        }
    }

    @Test
    void severalSlotsAndVmsHoldThePages() {
        HostPages pages = HostPages.allocate(4 * KIB_4);
        SlotFixture other = new SlotFixture();
        try (SlotFixture vm = new SlotFixture()) {
            vm.add(0, 0, 4 * KIB_4, Backing.host(pages, 0));
            vm.add(1, GIB_1, 2 * KIB_4, Backing.host(pages, KIB_4));
            other.add(0, 0, KIB_4, Backing.host(pages, 3 * KIB_4));
            pages.close();
        }

        assertTrue(pages.frames().usedInBytes() > 0);
        assertEquals(HostFaultResult.READY, pages.faultIn(3, true));
        other.close();
        assertEquals(0, pages.frames().usedInBytes());
    }

    private static List<Runnable> operations(HostPages pages) {
        return List.of(
                () -> pages.discard(0, 1),
                () -> pages.discardWithoutBlocking(0, 1),
                () -> pages.protect(0, 1),
                () -> pages.unprotect(0, 1),
                () -> pages.merge(0, 1),
                () -> pages.migrate(0),
                () -> pages.isPresent(0));
    }
}
