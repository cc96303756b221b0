package dev.tdpmmu;

import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.VcpuAccessTest.assertRefused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What the host does to pages, as guests and devices see it; and slots whose range alone is zapped. */
class HostChangesTest {
    @RegisterExtension
    final TestVms vms = new TestVms();

    /** The matrix, with one or the other way to unmap. */
    static Stream<VmConfig.Builder> matrix() {
        return Stream.concat(
                TestVms.matrix().map(config -> config.unmapLock(OperationLock.SHARED)),
                TestVms.matrix().map(config -> config.unmapLock(OperationLock.EXCLUSIVE)));
    }

    /** a page that the host allows no stores to is not made writable by the fast fix either. */
    @ParameterizedTest
    @MethodSource("matrix")
    void protectedPageIsReadAndNeverStoredTo(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        try (HostPages pages = HostPages.allocate(4 * KIB_4);
                Vcpu vcpu = vm.createVcpu()) {
            vm.addSlot(0, 0, 4 * KIB_4, Backing.host(pages, 0));
            vcpu.putLong(8, 1);
            vcpu.putLong(KIB_4, 2);

            pages.protect(0, 1);

            assertRefused(Reason.HOST_READ_ONLY, 8, () -> vcpu.putLong(8, 3));
            assertEquals(1, vcpu.getLong(8));
            assertRefused(Reason.HOST_READ_ONLY, 8, () -> vcpu.putLong(8, 3));
            vm.mmu().ranges().writeProtect(0, 4);
            assertRefused(Reason.HOST_READ_ONLY, 8, () -> vcpu.putLong(8, 3));
            vcpu.putLong(KIB_4, 4);
            pages.unprotect(0, 1);
            vcpu.putLong(8, 5);
            assertEquals(5, vm.memory().getLong(8));
        }
    }

    @ParameterizedTest
    @MethodSource("matrix")
    void pagesAreDiscardedMergedAndMovedUnderTheGuest(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        try (HostPages pages = HostPages.allocate(4 * KIB_4);
                Vcpu vcpu = vm.createVcpu()) {
            vm.addSlot(0, 0, 4 * KIB_4, Backing.host(pages, 0));
            for (int page = 0; page < 4; page++) {
                vcpu.putLong(page * KIB_4, 7);
            }

            assertTrue(pages.migrate(0));
            assertTrue(pages.merge(1, 2));
            pages.discard(3, 1);

            assertEquals(7, vcpu.getLong(0));
            vcpu.putLong(0, 8);
            assertEquals(8, vm.memory().getLong(0));
            assertEquals(7, vcpu.getLong(KIB_4));
            vcpu.putLong(KIB_4, 9);
            assertEquals(7, vcpu.getLong(2 * KIB_4), "the other of two merged pages");
            assertEquals(9, vcpu.getLong(KIB_4));
            assertEquals(0, vcpu.getLong(3 * KIB_4));
            vcpu.putLong(3 * KIB_4, 1);
            assertTrue(pages.discardWithoutBlocking(3, 1));
            assertEquals(0, vcpu.getLong(3 * KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource("matrix")
    void discardedRangeIsZeroAndItsNeighboursStay(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int page = 0; page < 4; page++) {
                vcpu.putLong(page * KIB_4, 7);
            }

            vm.discard(KIB_4, 2 * KIB_4);

            assertEquals(2, vm.stats().pages4k());
            assertEquals(7, vcpu.getLong(0));
            assertEquals(0, vcpu.getLong(KIB_4));
            assertEquals(0, vm.memory().getLong(2 * KIB_4));
            assertEquals(7, vcpu.getLong(3 * KIB_4));
            assertThrows(IllegalArgumentException.class, () -> vm.discard(8, KIB_4));
            assertThrows(IllegalArgumentException.class, () -> vm.discard(MIB_2 - KIB_4, 2 * KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource("matrix")
    void zappedRangeFaultsInAgainWithItsContent(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 7);
            vcpu.putLong(KIB_4, 8);

            assertEquals(1, vm.zap(KIB_4, 1));

            assertEquals(1, vm.stats().pages4k());
            assertEquals(8, vcpu.getLong(KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource("matrix")
    void slotsComeAndGoByRangeAndTheOthersStayMapped(VmConfig.Builder config) {
        Vm vm = vms.vm(config.slotZap(SlotZap.RANGE));
        MemSlot removed = vm.addSlot(0, 0, MIB_2, SMALL);
        MemSlot moved = vm.addSlot(1, MIB_2, MIB_2, SMALL);
        vm.addSlot(2, 2 * MIB_2, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int slot = 0; slot < 3; slot++) {
                vcpu.putLong(slot * MIB_2, slot + 1);
            }

            vm.removeSlot(removed);
            vm.moveSlot(moved, 4 * MIB_2);

            assertEquals(1, vm.stats().pages4k(), "leaves of the slot that stays");
            assertEquals(1, vm.mmu().roots().roots().size());
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.getLong(0));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.putLong(MIB_2, 1));
            assertEquals(2, vcpu.getLong(4 * MIB_2));
            assertEquals(3, vcpu.getLong(2 * MIB_2));
        }
    }

    /** The host goes on changing pages when a VM that had them is closed. */
    @Test
    void pagesOutliveTheVmThatHadThem() {
        Vm vm = vms.vm();
        try (HostPages pages = HostPages.allocate(4 * KIB_4)) {
            vm.addSlot(0, 0, 4 * KIB_4, Backing.host(pages, 0));
            vm.memory().putLong(0, 1);
            vm.close();

            pages.discard(0, 4);

            assertEquals(0, pages.presentPages());
            assertThrows(VmClosedException.class, () -> vm.discard(0, KIB_4));
            assertThrows(VmClosedException.class, () -> vm.zap(0, KIB_4));
        }
    }
}
