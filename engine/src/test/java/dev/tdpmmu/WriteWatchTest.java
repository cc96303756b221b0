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
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Pages whose stores are reported one by one, beside pages whose stores are only logged. */
class WriteWatchTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";

    @RegisterExtension
    final TestVms vms = new TestVms();

    /** Remembers what it was told. */
    private static final class Log implements WriteWatcher {
        final List<String> stores = new ArrayList<>();

        @Override
        public void written(long gpa, int bytes, long value) {
            stores.add(bytes + "@" + Long.toHexString(gpa) + "=" + Long.toHexString(value));
        }

        List<String> take() {
            List<String> all = List.copyOf(stores);
            stores.clear();
            return all;
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void everyStoreToAWatchedPageIsMadeAndReported(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        Log log = new Log();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(KIB_4, 1);
            vcpu.putLong(2 * KIB_4, 1);
            WriteWatch watch = vm.watchWrites(KIB_4 + 100, 1, log);

            vcpu.putByte(KIB_4, (byte) 0x81);
            vcpu.putShort(KIB_4 + 8, (short) 0x8182);
            vcpu.putInt(KIB_4 + 16, 0x8182_8384);
            vcpu.putLong(KIB_4 + 24, 0x8182_8384_8586_8788L);
            vcpu.putLongVolatile(KIB_4 + 32, 5);
            vcpu.putLong(2 * KIB_4, 2);
            vcpu.putLong(0, 2);

            assertEquals(
                    List.of("1@1000=81", "2@1008=8182", "4@1010=81828384", "8@1018=8182838485868788", "8@1020=5"),
                    log.take());
            assertEquals((byte) 0x81, vcpu.getByte(KIB_4));
            assertEquals(0x8182_8384_8586_8788L, vcpu.getLong(KIB_4 + 24));
            assertFalse(vm.translate(KIB_4).orElseThrow().writable());
            vm.verify();

            watch.close();
            watch.close();
            vcpu.putLong(KIB_4, 7);
            assertEquals(List.of(), log.take());
            assertTrue(vm.translate(KIB_4).orElseThrow().writable());
            assertEquals(7, vcpu.getLong(KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void compareAndSetBulkAndCrossingStoresAreReported(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        Log log = new Log();
        try (Vcpu vcpu = vm.createVcpu();
                WriteWatch watch = vm.watchWrites(KIB_4, KIB_4, log)) {
            assertFalse(vcpu.compareAndSetLong(KIB_4, 9, 1));
            assertTrue(vcpu.compareAndSetLong(KIB_4, 0, 1));
            assertTrue(vcpu.compareAndSetInt(KIB_4 + 8, 0, 2));
            assertEquals(List.of("8@1000=1", "4@1008=2"), log.take());

            vcpu.write(KIB_4 - 1, new byte[] {1, 2, 3}, 0, 3);
            assertEquals(List.of("1@1000=2", "1@1001=3"), log.take());
            vcpu.write(2 * KIB_4 - 1, new byte[] {4, 5}, 0, 2);
            assertEquals(List.of("1@1fff=4"), log.take());

            vcpu.putInt(2 * KIB_4 - 2, 0x0403_0201);
            assertEquals(List.of("1@1ffe=1", "1@1fff=2"), log.take());
            assertEquals(0x0403_0201, vcpu.getInt(2 * KIB_4 - 2));
            vm.memory().putLong(KIB_4, 3);
            assertEquals(List.of(), log.take(), "devices are not watched");
            assertTrue(watch.covers(1));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void partOfAHugePageIsWatchedAndTheRestStaysWritable(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, 2 * MIB_2, HUGE);
        Log log = new Log();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.putLong(MIB_2, 1);
            WriteWatch watch = vm.watchWrites(5 * KIB_4, 2 * KIB_4, log);

            vcpu.putLong(5 * KIB_4, 5);
            vcpu.putLong(6 * KIB_4, 6);
            vcpu.putLong(7 * KIB_4, 7);
            vcpu.putLong(MIB_2, 2);

            assertEquals(List.of("8@5000=5", "8@6000=6"), log.take());
            assertEquals(PageSize.SIZE_4K, vm.translate(7 * KIB_4).orElseThrow().pageSize());
            assertTrue(vm.translate(7 * KIB_4).orElseThrow().writable());
            assertFalse(vm.translate(5 * KIB_4).orElseThrow().writable());
            assertEquals(PageSize.SIZE_2M, vm.translate(MIB_2).orElseThrow().pageSize());
            vm.verify();
            watch.close();
            vcpu.putLong(5 * KIB_4, 8);
            assertEquals(List.of(), log.take());
            assertEquals(PageSize.SIZE_2M, vm.translate(5 * KIB_4).orElseThrow().pageSize(), "a fault promotes it");
            assertEquals(6, vcpu.getLong(6 * KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void nestedWatchesEndOneByOne(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        Log outerLog = new Log();
        Log innerLog = new Log();
        try (Vcpu vcpu = vm.createVcpu()) {
            WriteWatch outer = vm.watchWrites(0, 3 * KIB_4, outerLog);
            WriteWatch inner = vm.watchWrites(KIB_4, KIB_4, innerLog);

            vcpu.putLong(KIB_4, 1);
            assertEquals(List.of("8@1000=1"), outerLog.take());
            assertEquals(List.of("8@1000=1"), innerLog.take());

            inner.close();
            vcpu.putLong(KIB_4, 2);
            assertEquals(List.of("8@1000=2"), outerLog.take());
            assertEquals(List.of(), innerLog.take());

            outer.close();
            vcpu.putLong(KIB_4, 3);
            assertEquals(List.of(), outerLog.take());
            assertTrue(vm.translate(KIB_4).orElseThrow().writable());
        }
    }

    /** Dirty logging takes W alone and the fast fix gives it back; a watch takes both bits and nothing gives them back. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void fastFixTellsALoggedPageFromAWatchedOne(VmConfig.Builder config) {
        Vm vm = vms.vm(config.pml(false));
        MemSlot slot = vm.addSlot(0, 0, MIB_2, SMALL);
        Log watched = new Log();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.putLong(KIB_4, 1);
            DirtyLog log = vm.startDirtyLog(slot);
            WriteWatch watch = vm.watchWrites(KIB_4, KIB_4, watched);
            long fast = vm.stats().pfFast();

            vcpu.putLong(0, 2);
            assertEquals(fast + 1, vm.stats().pfFast());
            vcpu.putLong(KIB_4, 2);
            vcpu.putLong(KIB_4 + 8, 3);

            assertEquals(fast + 1, vm.stats().pfFast());
            assertFalse(vm.translate(KIB_4).orElseThrow().writable());
            assertEquals(List.of("8@1000=2", "8@1008=3"), watched.take());
            DirtyPages dirty = log.harvest();
            assertEquals(2, dirty.count(), "an emulated store is logged as well");
            watch.close();
            vcpu.putLong(KIB_4, 4);
            assertEquals(List.of(), watched.take());
            assertTrue(log.harvest().isDirty(1));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void agedPageStaysWatched(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        Log log = new Log();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            WriteWatch first = vm.watchWrites(0, KIB_4, log);
            vm.ageing().clearYoungAndFlush(0, MIB_2);
            vcpu.putLong(0, 2);
            assertEquals(2, vcpu.getLong(0));
            vcpu.putLong(0, 3);
            assertEquals(List.of("8@0=2", "8@0=3"), log.take());
            first.close();

            vm.ageing().clearYoungAndFlush(0, MIB_2);
            WriteWatch second = vm.watchWrites(0, KIB_4, log);
            vcpu.putLong(0, 4);
            assertEquals(List.of("8@0=4"), log.take());
            second.close();
        }
    }

    @Test
    void watchOutlivesZapAndSlot() {
        Vm vm = vms.vm();
        Log log = new Log();
        WriteWatch watch = vm.watchWrites(0, KIB_4, log);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.putLong(0, 1));
            MemSlot slot = vm.addSlot(0, 0, MIB_2, HUGE);
            vcpu.getLong(0);
            assertEquals(PageSize.SIZE_4K, vm.translate(0).orElseThrow().pageSize());
            vcpu.putLong(0, 1);
            vm.zap(0, MIB_2);
            vcpu.putLong(0, 2);
            vm.removeSlot(slot);
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.putLong(0, 3));
            vm.addSlot(0, 0, MIB_2, HUGE);
            vcpu.putLong(0, 4);

            assertEquals(List.of("8@0=1", "8@0=2", "8@0=4"), log.take());
        }
        watch.close();
    }

    @Test
    void watcherMayEndItsWatchAndUseTheVcpu() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            List<Long> seen = new ArrayList<>();
            WriteWatch[] own = new WriteWatch[1];
            own[0] = vm.watchWrites(0, KIB_4, (gpa, bytes, value) -> {
                seen.add(vcpu.getLong(gpa));
                own[0].close();
                vcpu.putLong(gpa + 8, value + 1);
            });

            vcpu.putLong(0, 1);
            vcpu.putLong(0, 5);

            assertEquals(List.of(1L), seen);
            assertEquals(2, vcpu.getLong(8));
        }
    }

    @Test
    void watchOfAClosedVmEndsQuietly() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        WriteWatch watch = vm.watchWrites(0, KIB_4, new Log());
        assertThrows(IllegalArgumentException.class, () -> vm.watchWrites(-1, 1, new Log()));
        assertThrows(NullPointerException.class, () -> vm.watchWrites(0, 1, null));

        vm.close();

        watch.close();
    }
}
