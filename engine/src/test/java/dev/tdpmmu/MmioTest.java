package dev.tdpmmu;

import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.VcpuAccessTest.assertRefused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class MmioTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final long DEVICE = 0x10_0000L;

    @RegisterExtension
    final TestVms vms = new TestVms();

    private final Registers device = new Registers();

    /** Memory in the first page, the device behind it and at {@link #DEVICE}. */
    private Vm vm(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, KIB_4);
        vm.addMmio(KIB_4, KIB_4, device);
        vm.addMmio(DEVICE, KIB_4, device);
        return vm;
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void everyWidthReachesTheDeviceInOnePiece(VmConfig.Builder config) {
        try (Vcpu vcpu = vm(config).createVcpu()) {
            assertEquals((byte) 0x88, vcpu.getByte(DEVICE));
            assertEquals((short) 0x8788, vcpu.getShort(DEVICE));
            assertEquals(0x8586_8788, vcpu.getInt(DEVICE));
            assertEquals(0x8182_8384_8586_8788L, vcpu.getLong(DEVICE));
            vcpu.putByte(DEVICE, (byte) -1);
            vcpu.putShort(DEVICE, (short) -1);
            vcpu.putInt(DEVICE, -1);
            vcpu.putLong(DEVICE, -1);
            vcpu.putByteVolatile(DEVICE, (byte) -2);
            vcpu.putShortVolatile(DEVICE, (short) -2);
            vcpu.putIntVolatile(DEVICE, -2);
            vcpu.putLongVolatile(DEVICE, -2);
            assertEquals((byte) 0x88, vcpu.getByteVolatile(DEVICE));
            assertEquals((short) 0x8788, vcpu.getShortVolatile(DEVICE));
            assertEquals(0x8586_8788, vcpu.getIntVolatile(DEVICE));
            assertEquals(0x8182_8384_8586_8788L, vcpu.getLongVolatile(DEVICE));

            assertEquals(
                    List.of(
                            "r1@100000",
                            "r2@100000",
                            "r4@100000",
                            "r8@100000",
                            "w1@100000=ff",
                            "w2@100000=ffff",
                            "w4@100000=ffffffff",
                            "w8@100000=ffffffffffffffff",
                            "w1@100000=fe",
                            "w2@100000=fffe",
                            "w4@100000=fffffffe",
                            "w8@100000=fffffffffffffffe",
                            "r1@100000",
                            "r2@100000",
                            "r4@100000",
                            "r8@100000"),
                    device.log);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void accessOverTheBorderOfMemoryAndDeviceIsDoneByteByByte(VmConfig.Builder config) {
        Vm vm = vm(config);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putInt(KIB_4 - 2, 0x4433_2211);

            assertEquals(List.of("w1@1000=33", "w1@1001=44"), device.log);
            assertEquals(
                    (short) 0x2211,
                    vm.memory().getByte(KIB_4 - 2) & 0xff | (vm.memory().getByte(KIB_4 - 1) & 0xff) << 8);
            assertEquals(0x8888_2211, vcpu.getInt(KIB_4 - 2));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void secondAccessFindsTheMmioEntryAndSkipsTheSlowPath(VmConfig.Builder config) {
        Vm vm = vm(config);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(DEVICE);
            long taken = vm.stats().pfTaken();
            vcpu.getLong(DEVICE);
            vcpu.putLong(DEVICE, 1);

            assertEquals(taken, vm.stats().pfTaken());
            assertEquals(1, vm.stats().pfMmioSpteCreated());
            assertEquals(3, vm.stats().pfEmulate());
        }
    }

    @Test
    void fetchAndAtomicAndBulkOnADeviceAreRefused() {
        try (Vcpu vcpu = vm(VmConfig.builder()).createVcpu()) {
            assertRefused(Reason.FETCH_FROM_MMIO, DEVICE, () -> vcpu.fetch(DEVICE));
            assertRefused(Reason.ATOMIC_ON_MMIO, DEVICE, () -> vcpu.compareAndSetInt(DEVICE, 0, 1));
            assertRefused(Reason.ATOMIC_ON_MMIO, DEVICE, () -> vcpu.compareAndSetLong(DEVICE, 0, 1));
            assertRefused(Reason.NO_BYTES, DEVICE, () -> vcpu.read(DEVICE, new byte[2], 0, 2));
            assertRefused(Reason.NO_BYTES, DEVICE, () -> vcpu.write(DEVICE, new byte[2], 0, 2));
            assertFalse(vcpu.touch(DEVICE, Access.READ));
            assertEquals(List.of(), device.log);
        }
    }

    @Test
    void deviceThatDoesNotCoverTheWholeAccessIsNotAsked() {
        Vm vm = vms.vm();
        vm.addMmio(DEVICE, 4, device);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, DEVICE, () -> vcpu.getLong(DEVICE));
            assertRefused(Reason.NO_SLOT, DEVICE + 2, () -> vcpu.getInt(DEVICE + 2));
            assertEquals(0x8586_8788, vcpu.getInt(DEVICE));
        }
    }

    @Test
    void badRangesAreRefused() {
        Vm vm = vm(VmConfig.builder());
        long limit = vm.config().guestAddressLimit();

        assertThrows(IllegalArgumentException.class, () -> vm.addMmio(DEVICE + 8, 8, device));
        assertThrows(IllegalArgumentException.class, () -> vm.addMmio(-8, 8, device));
        assertThrows(IllegalArgumentException.class, () -> vm.addMmio(0x20_0000, 0, device));
        assertThrows(IllegalArgumentException.class, () -> vm.addMmio(limit - 8, 9, device));
        assertThrows(IllegalArgumentException.class, () -> vm.addMmio(8, Long.MAX_VALUE, device));
        assertThrows(NullPointerException.class, () -> vm.addMmio(0x20_0000, 8, null));
        assertThrows(IllegalArgumentException.class, () -> vm.removeMmio(DEVICE + 8));
        vm.removeMmio(DEVICE);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, DEVICE, () -> vcpu.getByte(DEVICE));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void romIsReadByTheGuestAndWrittenByDevicesOnly(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, KIB_4, SMALL, SlotFlag.READ_ONLY);
        vm.memory().putLong(8, 42);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertEquals(42, vcpu.getLong(8));
            assertEquals(42, vcpu.fetch(8));
            assertRefused(Reason.READ_ONLY, 8, () -> vcpu.putLong(8, 1));
            assertRefused(Reason.READ_ONLY, 8, () -> vcpu.compareAndSetLong(8, 42, 1));
            assertRefused(Reason.READ_ONLY, 8, () -> vcpu.write(8, new byte[4], 0, 4));
            vm.addMmio(0, KIB_4, device);
            vcpu.putLong(8, 1);
            assertEquals(List.of("w8@8=1"), device.log);
            assertEquals(42, vcpu.getLong(8));
            assertFalse(vm.translate(8).orElseThrow().writable());
        }
    }

    @Test
    void exceptionOfAHandlerReachesTheGuestThreadAndLeavesTheVcpuUsable() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), KIB_4);
        IllegalStateException broken = new IllegalStateException("device is broken");
        vm.addMmio(DEVICE, KIB_4, new MmioHandler() {
            @Override
            public long read(long gpa, int bytes) {
                throw broken;
            }

            @Override
            public void write(long gpa, int bytes, long value) {
                throw new StackOverflowError("too deep");
            }
        });
        try (Vcpu vcpu = vm.createVcpu()) {
            assertSame(broken, assertThrows(IllegalStateException.class, () -> vcpu.getLong(DEVICE)));
            assertThrows(StackOverflowError.class, () -> vcpu.putLong(DEVICE, 1));

            vcpu.putLong(0, 7);
            assertEquals(7, vcpu.getLong(0));
            vm.addSlot(5, MIB_2, MIB_2, SMALL);
            vm.removeSlot(TestVms.slotAt(vm, MIB_2));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void handlerMayUseTheSameVcpu(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vm.addMmio(MIB_2, KIB_4, new MmioHandler() {
                @Override
                public long read(long gpa, int bytes) {
                    return vcpu.getLong(8) + 1;
                }

                @Override
                public void write(long gpa, int bytes, long value) {
                    vcpu.putLong(8, value);
                }
            });

            vcpu.putLong(MIB_2, 41);
            assertEquals(42, vcpu.getLong(MIB_2));
            assertEquals(41, vcpu.getLong(8));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void handlerMayChangeTheSlots(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, KIB_4);
        try (Vcpu vcpu = vm.createVcpu()) {
            vm.addMmio(MIB_2, KIB_4, new MmioHandler() {
                @Override
                public long read(long gpa, int bytes) {
                    vm.removeSlot(TestVms.slotAt(vm, 0));
                    return 1;
                }

                @Override
                public void write(long gpa, int bytes, long value) {
                    vm.addSlot(1, 0, KIB_4, SMALL);
                    vm.barrier();
                    vm.verify();
                }
            });
            vcpu.putLong(0, 7);

            assertEquals(1, vcpu.getLong(MIB_2));
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.getLong(0));
            vcpu.putLong(MIB_2, 0);
            assertEquals(0, vcpu.getLong(0));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void handlerMayCloseTheVm(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, KIB_4);
        vm.addMmio(KIB_4, KIB_4, new MmioHandler() {
            @Override
            public long read(long gpa, int bytes) {
                vm.close();
                return 5;
            }

            @Override
            public void write(long gpa, int bytes, long value) {
                vm.close();
            }
        });
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(0, 7);

        assertEquals(5, vcpu.getLong(KIB_4));
        assertThrows(VmClosedException.class, () -> vcpu.getLong(0));
        assertThrows(VmClosedException.class, () -> vcpu.putLong(KIB_4 - 2, 0));
        vcpu.close();
        assertTrue(vm.isClosed());
    }

    @Test
    void storeOverABorderWhereTheDeviceBeginsLaterWritesNothing() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), KIB_4);
        vm.addMmio(KIB_4 + 2, 8, device);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertThrows(GuestAccessException.class, () -> vcpu.putLong(KIB_4 - 2, -1));

            assertEquals((short) 0, vcpu.getShort(KIB_4 - 2));
            assertEquals(List.of(), device.log);
        }
    }
}
