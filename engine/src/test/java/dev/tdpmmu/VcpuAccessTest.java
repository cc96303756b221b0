package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class VcpuAccessTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final long PATTERN = 0x8877_6655_4433_2211L;

    @RegisterExtension
    final TestVms vms = new TestVms();

    static void assertRefused(Reason reason, long gpa, Executable access) {
        GuestAccessException thrown = assertThrows(GuestAccessException.class, access);
        assertEquals(reason, thrown.reason(), thrown.getMessage());
        assertEquals(gpa, thrown.gpa(), thrown.getMessage());
        assertTrue(thrown.getMessage().contains("reason=" + reason), thrown.getMessage());
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void everyWidthAtEveryOffsetAroundAPageBorderIsLittleEndian(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (long gpa = KIB_4 - 9; gpa <= KIB_4 + 9; gpa++) {
                vcpu.putLong(gpa, PATTERN);
                assertEquals(PATTERN, vcpu.getLong(gpa));
                for (int i = 0; i < 8; i++) {
                    assertEquals((byte) (PATTERN >>> 8 * i), vcpu.getByte(gpa + i), "byte " + i + " of " + gpa);
                }
                vcpu.putInt(gpa, 0x0a0b_0c0d);
                assertEquals(0x0a0b_0c0d, vcpu.getInt(gpa));
                assertEquals(0x8877_6655_0a0b_0c0dL, vcpu.getLong(gpa));
                vcpu.putShort(gpa, (short) 0xfeed);
                assertEquals((short) 0xfeed, vcpu.getShort(gpa));
                vcpu.putByte(gpa, (byte) 0x7f);
                assertEquals((byte) 0x7f, vcpu.getByte(gpa));
                assertEquals(0x8877_6655_0a0b_fe7fL, vcpu.getLong(gpa));
                assertEquals(0x8877_6655_0a0b_fe7fL, vm.memory().getLong(gpa), "the device sees the same bytes");
            }
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void volatileAndCompareAndSetForms(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLongVolatile(KIB_4 - 8, PATTERN);
            assertEquals(PATTERN, vcpu.getLongVolatile(KIB_4 - 8));
            vcpu.putIntVolatile(KIB_4 - 4, 5);
            assertEquals(5, vcpu.getIntVolatile(KIB_4 - 4));
            vcpu.putShortVolatile(KIB_4 - 2, (short) -3);
            assertEquals((short) -3, vcpu.getShortVolatile(KIB_4 - 2));
            vcpu.putByteVolatile(KIB_4 - 1, (byte) 9);
            assertEquals((byte) 9, vcpu.getByteVolatile(KIB_4 - 1));

            vcpu.putLong(64, 1);
            assertFalse(vcpu.compareAndSetLong(64, 2, 3));
            assertEquals(1, vcpu.getLong(64));
            assertTrue(vcpu.compareAndSetLong(64, 1, 3));
            assertEquals(3, vcpu.getLong(64));
            assertFalse(vcpu.compareAndSetInt(64, 4, 5));
            assertTrue(vcpu.compareAndSetInt(64, 3, 5));
            assertEquals(5, vcpu.getInt(64));
        }
    }

    @Test
    void misalignedAtomicAccessIsRefusedAndChangesNothing() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.MISALIGNED, 1, () -> vcpu.putLongVolatile(1, -1));
            assertRefused(Reason.MISALIGNED, 4, () -> vcpu.getLongVolatile(4));
            assertRefused(Reason.MISALIGNED, 2, () -> vcpu.putIntVolatile(2, -1));
            assertRefused(Reason.MISALIGNED, 2, () -> vcpu.getIntVolatile(2));
            assertRefused(Reason.MISALIGNED, 1, () -> vcpu.putShortVolatile(1, (short) -1));
            assertRefused(Reason.MISALIGNED, 1, () -> vcpu.getShortVolatile(1));
            assertRefused(Reason.MISALIGNED, 4, () -> vcpu.compareAndSetLong(4, 0, -1));
            assertRefused(Reason.MISALIGNED, 2, () -> vcpu.compareAndSetInt(2, 0, -1));
            assertRefused(Reason.MISALIGNED, 2, () -> vcpu.fetch(2));
            assertEquals(0, vcpu.getLong(0));
            assertEquals(0, vcpu.getLong(8));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void bulkCopiesCrossPagesAndSlots(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, 3 * KIB_4, SMALL);
        vm.addSlot(1, 3 * KIB_4, MIB_2, HUGE);
        byte[] source = new byte[5 * 4096 + 77];
        for (int i = 0; i < source.length; i++) {
            source[i] = (byte) (i * 31 + 7);
        }
        byte[] target = new byte[source.length + 20];
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.write(123, source, 0, source.length);
            vcpu.read(123, target, 10, source.length);
            vcpu.read(5, target, 0, 0);

            byte[] expected = new byte[target.length];
            System.arraycopy(source, 0, expected, 10, source.length);
            assertArrayEquals(expected, target);
            assertThrows(IndexOutOfBoundsException.class, () -> vcpu.read(0, target, 10, target.length));
            assertThrows(IndexOutOfBoundsException.class, () -> vcpu.write(0, source, -1, 2));
        }
    }

    @Test
    void bulkCopyThatMeetsNothingHasCopiedWhatCameBefore() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), KIB_4);
        try (Vcpu vcpu = vm.createVcpu()) {
            byte[] ones = {1, 1, 1, 1};

            assertRefused(Reason.NO_SLOT, KIB_4, () -> vcpu.write(KIB_4 - 2, ones, 0, 4));

            assertEquals((short) 0x0101, vcpu.getShort(KIB_4 - 2));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void accessCrossesTheBorderOfTwoSlots(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, KIB_4, SMALL);
        vm.addSlot(1, KIB_4, KIB_4, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(KIB_4 - 3, PATTERN);

            assertEquals(PATTERN, vcpu.getLong(KIB_4 - 3));
            assertEquals((byte) 0x33, vm.memory().getByte(KIB_4 - 1));
            assertEquals((byte) 0x44, vm.memory().getByte(KIB_4));
        }
    }

    @Test
    void storeOverTheEndOfMemoryWritesNothing() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), KIB_4);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, KIB_4, () -> vcpu.putLong(KIB_4 - 3, -1));
            assertRefused(Reason.NO_SLOT, KIB_4, () -> vcpu.getLong(KIB_4 - 3));
            vcpu.putByte(KIB_4 - 1, (byte) 5);

            assertEquals(0x0500_0000, vcpu.getInt(KIB_4 - 4));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void lastBytesOfTheAddressSpaceAreReachable(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        long limit = vm.config().guestAddressLimit();
        vm.addSlot(0, limit - KIB_4, KIB_4, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(limit - 8, PATTERN);
            assertEquals(PATTERN, vcpu.getLong(limit - 8));
            assertEquals((byte) 0x88, vcpu.getByte(limit - 1));
            assertRefused(Reason.BEYOND_LIMIT, limit, () -> vcpu.getByte(limit));
            assertRefused(Reason.BEYOND_LIMIT, limit, () -> vcpu.getLong(limit - 7));
            assertRefused(Reason.BEYOND_LIMIT, limit, () -> vcpu.putLong(limit - 7, 0));
            assertRefused(Reason.BEYOND_LIMIT, -8, () -> vcpu.getLong(-8));
            assertRefused(Reason.BEYOND_LIMIT, Long.MIN_VALUE, () -> vcpu.putLong(Long.MIN_VALUE, 1));
            assertRefused(Reason.BEYOND_LIMIT, Long.MAX_VALUE - 3, () -> vcpu.fetch(Long.MAX_VALUE - 3));
            assertRefused(Reason.BEYOND_LIMIT, limit, () -> vcpu.touch(limit, Access.READ));
            assertEquals(PATTERN, vcpu.getLong(limit - 8), "nothing was written");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void fetchSeesWhatAStoreWrote(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putInt(KIB_4 - 4, 0x90c3_90c3);

            assertEquals(0x90c3_90c3, vcpu.fetch(KIB_4 - 4));
            assertEquals(0, vcpu.fetch(KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void touchTranslatesAndTransfersNothing(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, MIB_2, SMALL);
        vm.addSlot(1, MIB_2, 8 * MIB_2, Backing.synthetic(PageSize.SIZE_2M));
        try (Vcpu vcpu = vm.createVcpu()) {
            assertTrue(vcpu.touch(0, Access.WRITE));
            assertTrue(vcpu.touch(2 * MIB_2, Access.READ));
            assertTrue(vcpu.touch(2 * MIB_2, Access.WRITE));
            assertFalse(vcpu.touch(64 * MIB_2, Access.READ));

            assertEquals(0, vcpu.getLong(0));
            assertTrue(vm.translate(2 * MIB_2).orElseThrow().dirty());
            assertEquals(PageSize.SIZE_2M, vm.translate(2 * MIB_2).orElseThrow().pageSize());
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void backingWithoutBytesIsRefusedEachTime(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, MIB_2, Backing.synthetic(PageSize.SIZE_4K));
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int i = 0; i < 3; i++) {
                assertRefused(Reason.NO_BYTES, 8, () -> vcpu.getLong(8));
                assertRefused(Reason.NO_BYTES, 8, () -> vcpu.putLong(8, 1));
                assertRefused(Reason.NO_BYTES, 8, () -> vcpu.fetch(8));
                assertRefused(Reason.NO_BYTES, 8, () -> vcpu.compareAndSetLong(8, 0, 1));
                assertRefused(Reason.NO_BYTES, 8, () -> vm.memory().getLong(8));
            }
            assertTrue(vcpu.touch(8, Access.WRITE));
        }
    }

    @Test
    void addressWithoutSlotAndDeviceIsRefusedAsSuchForEveryKindOfAccess() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), KIB_4);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.getByte(MIB_2));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.putLong(MIB_2, 1));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.getIntVolatile(MIB_2));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.read(MIB_2, new byte[1], 0, 1));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.fetch(MIB_2));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.compareAndSetInt(MIB_2, 0, 1));
            assertRefused(Reason.NO_SLOT, MIB_2, () -> vcpu.compareAndSetLong(MIB_2, 0, 1));
            assertEquals(0, vcpu.getLong(0), "the vCPU goes on");
        }
    }

    @Test
    void hitRateCountsEachAccessOnceHoweverOftenItsWalkIsRepeated() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getByte(0);
            vcpu.getByte(1);

            assertEquals(2, vcpu.accesses());
            assertEquals(1, vcpu.tlbMisses());
            assertEquals(0.5, vm.stats().tlbHitRate());
        }
    }

    @Test
    void everyExitHasExactlyOneOutcome() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        vm.addMmio(MIB_2, KIB_4, new Registers());
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int i = 0; i < 20; i++) {
                vcpu.putLong(i * KIB_4, i);
                vcpu.getLong(MIB_2);
            }
            vm.mmu().ranges().writeProtect(0, 20);
            for (int i = 0; i < 20; i++) {
                vcpu.putLong(i * KIB_4, i);
            }

            VmStats stats = vm.stats();
            assertEquals(20, stats.pfFixed());
            assertEquals(20, stats.pfFast());
            assertEquals(20, stats.pfEmulate());
            assertEquals(
                    vcpu.exits(),
                    stats.pfFixed() + stats.pfFast() + stats.pfSpurious() + stats.pfEmulate() + stats.pfRetry());
            assertEquals(vcpu.accesses(), stats.accesses());
        }
    }

    @Test
    void observerIsToldOfEveryExit() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        long[] told = new long[1];
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.observe(nanos -> told[0]++);
            vcpu.getLong(0);
            vcpu.getLong(KIB_4);
            vcpu.observe(null);
            vcpu.getLong(2 * KIB_4);

            assertEquals(2, told[0]);
            assertEquals(3, vcpu.exits());
        }
    }
}
