package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.VcpuAccessTest.assertRefused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotException;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Slots that change while their pages are mapped and cached, and what {@code translate} tells of them. */
class SlotsInUseTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";

    @RegisterExtension
    final TestVms vms = new TestVms();

    @ParameterizedTest
    @MethodSource(MATRIX)
    void removedSlotIsGoneForVcpusAndDevicesAndComesBackZero(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, 0, 2 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(8, 42);
            vcpu.putLong(MIB_2 + 8, 43);
            long used = vm.stats().memoryUsedInBytes();

            vm.removeSlot(slot);

            assertEquals(used - 2 * MIB_2, vm.stats().memoryUsedInBytes());
            assertRefused(Reason.NO_SLOT, 8, () -> vcpu.getLong(8));
            assertRefused(Reason.NO_SLOT, 8, () -> vcpu.putLong(8, 1));
            assertRefused(Reason.NO_SLOT, 8, () -> vm.memory().getLong(8));
            assertEquals(Optional.empty(), vm.translate(8));
            vm.addSlot(0, 0, 2 * MIB_2, HUGE);
            assertEquals(0, vcpu.getLong(8));
            assertEquals(0, vcpu.getLong(MIB_2 + 8));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void removedAddressGoesToTheDeviceBehindIt(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, 0, KIB_4, SMALL);
        Registers device = new Registers();
        vm.addMmio(0, KIB_4, device);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(8, 42);
            assertEquals(List.of(), device.log, "slots win");

            vm.removeSlot(slot);

            vcpu.putLong(8, 43);
            assertEquals(List.of("w8@8=2b"), device.log);
            vm.addSlot(1, 0, KIB_4, SMALL);
            vcpu.putLong(8, 44);
            assertEquals(1, device.log.size());
            assertEquals(44, vcpu.getLong(8));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void dataFollowsAMoveAlsoOntoAPartOfItsOldPlace(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, 0, 2 * MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(8, 1);
            vcpu.putLong(MIB_2 + 8, 2);

            MemSlot moved = vm.moveSlot(slot, MIB_2);

            assertEquals(1, vcpu.getLong(MIB_2 + 8));
            assertEquals(2, vcpu.getLong(2 * MIB_2 + 8));
            assertRefused(Reason.NO_SLOT, 8, () -> vcpu.getLong(8));
            assertEquals(1, vm.memory().getLong(MIB_2 + 8));
            vcpu.putLong(MIB_2 + 8, 3);
            vm.moveSlot(moved, 0);
            assertEquals(3, vcpu.getLong(8));
            assertRefused(Reason.NO_SLOT, 2 * MIB_2 + 8, () -> vcpu.putLong(2 * MIB_2 + 8, 1));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void smallPagesFlagChangesTheSizeOfLeavesAndKeepsData(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, 0, 2 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(8, 1);
            vcpu.putLong(KIB_4 + 8, 2);
            assertEquals(PageSize.SIZE_2M, vm.translate(8).orElseThrow().pageSize());

            MemSlot small = vm.changeSlotFlags(slot, SlotFlag.SMALL_PAGES);
            assertEquals(1, vcpu.getLong(8));
            assertEquals(2, vcpu.getLong(KIB_4 + 8));
            assertEquals(PageSize.SIZE_4K, vm.translate(8).orElseThrow().pageSize());
            assertEquals(2, vm.stats().pages4k());

            vm.changeSlotFlags(small);
            assertEquals(1, vcpu.getLong(8), "still mapped small");
            assertEquals(0, vcpu.getLong(2 * KIB_4 + 8));
            assertEquals(PageSize.SIZE_2M, vm.translate(8).orElseThrow().pageSize());
            assertEquals(1, vm.stats().promotions());
            assertEquals(2, vcpu.getLong(KIB_4 + 8));
            assertEquals(0, vm.stats().pages4k());
            assertThrows(SlotException.class, () -> vm.changeSlotFlags(small), "replaced");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void hugeLeavesOfAnyOffsetShowTheSameBytesAsSmallOnes(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, MIB_2 - KIB_4, MIB_2 + 2 * KIB_4, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (long gpa = MIB_2 - 8; gpa < 2 * MIB_2 + KIB_4; gpa += 8 * 1021) {
                vcpu.putLong(gpa, gpa);
            }

            for (long gpa = MIB_2 - 8; gpa < 2 * MIB_2 + KIB_4; gpa += 8 * 1021) {
                assertEquals(gpa, vcpu.getLong(gpa));
                assertEquals(gpa, vm.memory().getLong(gpa));
            }
            assertEquals(1, vm.stats().pages2m());
            assertEquals(2, vm.stats().pages4k(), "head and tail");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void twoSlotsAndTwoVmsShareHeldFrames(VmConfig.Builder config) {
        Vm first = vms.vm(config);
        Vm second = vms.vm(VmConfig.builder());
        FrameRun run = Vm.allocateSharedFrames(PageSize.SIZE_2M, 2 * MIB_2);
        MemSlot low = first.addSlot(0, 0, 2 * MIB_2, Backing.held(run, 0));
        first.addSlot(1, 8 * MIB_2, MIB_2, Backing.held(run, MIB_2));
        second.addSlot(0, 0, MIB_2, Backing.held(run, MIB_2));
        assertThrows(SlotException.class, () -> second.addSlot(1, 4 * MIB_2, 2 * MIB_2, Backing.held(run, MIB_2)));
        Vcpu a = first.createVcpu();
        Vcpu b = second.createVcpu();
        a.putLong(MIB_2 + 8, 42);

        assertEquals(42, a.getLong(8 * MIB_2 + 8));
        assertEquals(42, b.getLong(8));
        b.putLong(8, 43);
        assertEquals(43, a.getLong(MIB_2 + 8));
        run.close();
        first.removeSlot(low);
        assertEquals(43, a.getLong(8 * MIB_2 + 8), "the other slots hold the frames");
        assertEquals(43, b.getLong(8));
    }

    @Test
    void slotOfAnotherVmIsRefused() {
        Vm vm = vms.vm();
        MemSlot foreign = vms.vm().addSlot(0, 0, KIB_4, SMALL);

        assertThrows(SlotException.class, () -> vm.removeSlot(foreign));
        assertThrows(SlotException.class, () -> vm.moveSlot(foreign, MIB_2));
        assertThrows(SlotException.class, () -> vm.changeSlotFlags(foreign, SlotFlag.SMALL_PAGES));
        assertThrows(NullPointerException.class, () -> vm.removeSlot(null));
    }

    @Test
    void removedSlotIsUnknownAfterwards() {
        Vm vm = vms.vm();
        MemSlot slot = vm.addSlot(0, 0, KIB_4, SMALL);
        vm.removeSlot(slot);

        assertThrows(SlotException.class, () -> vm.removeSlot(slot));
        assertThrows(SlotException.class, () -> vm.moveSlot(slot, MIB_2));
        assertEquals(List.of(), vm.memorySlots());
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void translateTellsAccessedAndDirtyAndHasNoEffect(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, MIB_2, SMALL);
        boolean bits = vm.config().accessedDirty() == AccessedDirty.ON;
        try (Vcpu vcpu = vm.createVcpu()) {
            assertEquals(Optional.empty(), vm.translate(0));
            vcpu.getLong(0);
            VmStats before = vm.stats();

            Translation loaded = vm.translate(0x123).orElseThrow();

            assertTrue(loaded.accessed());
            assertEquals(!bits, loaded.dirty(), "without D bits a writable page counts as dirty");
            assertTrue(loaded.readable() && loaded.writable() && loaded.executable());
            assertEquals(0x123, loaded.gpa());
            assertEquals(0x123, loaded.hpa() & 0xfff);
            assertEquals(loaded, vm.translate(0x123).orElseThrow());
            assertEquals(before, vm.stats(), "no effect");
            vcpu.putLong(0, 1);
            assertTrue(vm.translate(0).orElseThrow().dirty());
            assertEquals(Optional.empty(), vm.translate(KIB_4));
            assertEquals(before.pages4k(), vm.stats().pages4k());
        }
    }

    @Test
    void translateRefusesAddressesThatDoNotExist() {
        Vm vm = vms.vm();
        long limit = vm.config().guestAddressLimit();

        assertThrows(IllegalArgumentException.class, () -> vm.translate(limit));
        assertThrows(IllegalArgumentException.class, () -> vm.translate(-1));
        assertEquals(Optional.empty(), vm.translate(limit - 1));
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void storeAfterWriteProtectionFaultsAndIsFixedOnce(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, 2 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.putLong(MIB_2, 1);

            assertTrue(vm.mmu().ranges().writeProtect(0, 0x400));

            assertFalse(vm.translate(0).orElseThrow().writable());
            long exits = vcpu.exits();
            assertEquals(1, vcpu.getLong(0));
            assertEquals(exits, vcpu.exits(), "loads go on");
            vcpu.putLong(0, 2);
            vcpu.putLong(8, 2);
            assertEquals(exits + 1, vcpu.exits());
            assertTrue(vm.translate(0).orElseThrow().writable());
            assertFalse(vm.translate(MIB_2).orElseThrow().writable());
            assertTrue(vcpu.touch(MIB_2, Access.WRITE));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void writeProtectionOfAPartOfAHugeLeafReachesThePiecesThatTlbsHoldOfTheRest(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.putLong(100 * KIB_4, 1);
            long exits = vcpu.exits();

            vm.mmu().ranges().writeProtect(0, 1);

            assertFalse(vm.translate(100 * KIB_4).orElseThrow().writable(), "one leaf, one W");
            vcpu.putLong(100 * KIB_4, 2);
            assertEquals(exits + 1, vcpu.exits(), "the store was seen");
        }
    }

    @Test
    void deviceViewStaysWithinOneSlot() {
        Vm vm = vms.vm();
        vm.addSlot(0, 0, KIB_4, SMALL);
        vm.addSlot(1, KIB_4, KIB_4, SMALL);
        GuestMemory memory = vm.memory();
        byte[] bytes = {1, 2, 3, 4};

        memory.write(KIB_4 - 4, bytes, 0, 4);
        memory.putInt(16, 7);
        memory.putByte(20, (byte) 8);

        byte[] back = new byte[4];
        memory.read(KIB_4 - 4, back, 0, 4);
        assertEquals(0x0403_0201, memory.getInt(KIB_4 - 4));
        assertEquals(4, back[3]);
        assertEquals(0x8_0000_0007L, memory.getLong(16));
        assertEquals((byte) 8, memory.getByte(20));
        assertRefused(Reason.NO_SLOT, KIB_4 - 4, () -> memory.getLong(KIB_4 - 4));
        assertRefused(Reason.NO_SLOT, 2 * KIB_4, () -> memory.putByte(2 * KIB_4, (byte) 1));
        assertRefused(Reason.NO_SLOT, -1, () -> memory.getByte(-1));
        assertRefused(Reason.NO_SLOT, Long.MAX_VALUE, () -> memory.getLong(Long.MAX_VALUE));
        assertThrows(IndexOutOfBoundsException.class, () -> memory.read(0, back, 1, 4));
    }
}
