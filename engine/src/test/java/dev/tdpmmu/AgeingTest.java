package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Which pages look used, by A bits and by access tracking, and what it costs the guest to be asked. */
class AgeingTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final long PAGES_PER_BLOCK = MIB_2 / KIB_4;

    @RegisterExtension
    final TestVms vms = new TestVms();

    private static boolean hasBits(Vm vm) {
        return vm.config().accessedDirty() == AccessedDirty.ON;
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void touchedPageIsYoungOnce(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        Ageing ageing = vm.ageing();
        try (Vcpu vcpu = vm.createVcpu()) {
            for (long page = 0; page < 10; page++) {
                vcpu.getLong(page * KIB_4);
            }
            assertTrue(ageing.testYoung(0, MIB_2));
            assertTrue(ageing.testYoung(9 * KIB_4, 1));
            assertFalse(ageing.testYoung(10 * KIB_4, MIB_2 - 10 * KIB_4));

            assertEquals(10, ageing.clearYoungAndFlush(0, MIB_2));

            assertFalse(ageing.testYoung(0, MIB_2));
            assertEquals(0, ageing.clearYoung(0, MIB_2));
            vcpu.getLong(3 * KIB_4 + 8);
            assertTrue(ageing.testYoung(3 * KIB_4, KIB_4));
            assertFalse(ageing.testYoung(4 * KIB_4, KIB_4));
            assertEquals(1, ageing.clearYoungAndFlush(0, MIB_2));
        }
    }

    /** The slack: a note is made by the walk, so a page that stays in a TLB looks old until it is walked again. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void pageIsYoungAgainAtTheLatestAfterAFlush(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            assertEquals(1, vm.ageing().clearYoung(0, MIB_2));
            vcpu.putLong(0, 2);
            assertFalse(vm.ageing().testYoung(0, KIB_4), "used through the TLB");

            vm.ageing().clearYoungAndFlush(0, MIB_2);
            vcpu.putLong(0, 3);

            assertTrue(vm.ageing().testYoung(0, KIB_4));
            assertEquals(3, vm.memory().getLong(0));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void agedPageComesBackWithoutTheMmuLock(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            VmStats before = vm.stats();

            vm.ageing().clearYoungAndFlush(0, MIB_2);
            assertEquals(1, vcpu.getLong(0));
            assertFalse(hasBits(vm) ^ vm.translate(0).orElseThrow().writable(), "W comes with a store only");
            vcpu.putLong(0, 2);

            assertTrue(vm.translate(0).orElseThrow().writable());
            assertTrue(vm.translate(0).orElseThrow().executable());
            assertEquals(before.pfTaken(), vm.stats().pfTaken());
            // One for the load, one for the store; with A bits hardware helps itself.
            assertEquals(before.pfFast() + (hasBits(vm) ? 0 : 2), vm.stats().pfFast());
            assertEquals(before.pages4k(), vm.stats().pages4k());
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void ageingKeepsDirtyBits(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.getLong(KIB_4);

            vm.ageing().clearYoungAndFlush(0, MIB_2);

            if (hasBits(vm)) {
                assertTrue(vm.translate(0).orElseThrow().dirty());
                assertFalse(vm.translate(KIB_4).orElseThrow().dirty());
            }
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void ageingLosesNoLoggedStore(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, 0, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            vcpu.getLong(KIB_4);
            DirtyLog log = vm.startDirtyLog(slot);
            vcpu.putLong(0, 2);
            vm.ageing().clearYoungAndFlush(0, MIB_2);
            vcpu.putLong(KIB_4, 2);
            vm.ageing().clearYoung(0, MIB_2);
            vcpu.putLong(2 * KIB_4, 2);

            DirtyPages first = log.harvest();
            vm.ageing().clearYoungAndFlush(0, MIB_2);
            vcpu.getLong(0);
            vcpu.putLong(KIB_4, 3);
            vm.ageing().clearYoungAndFlush(0, MIB_2);
            DirtyPages second = log.harvest();

            assertEquals(3, first.count());
            assertEquals(1, second.count());
            assertTrue(second.isDirty(1));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void hugePageIsYoungAsAWholeAndCountsWithinTheRange(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, 2 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(5 * KIB_4);
            vcpu.getLong(MIB_2);

            assertTrue(vm.ageing().testYoung(100 * KIB_4, KIB_4));
            assertEquals(3, vm.ageing().clearYoungAndFlush(10 * KIB_4, 3 * KIB_4));
            assertFalse(vm.ageing().testYoung(0, MIB_2));
            assertEquals(PAGES_PER_BLOCK, vm.ageing().clearYoungAndFlush(0, 2 * MIB_2));
        }
    }

    /** Not even while somebody holds the lock exclusively: a second acquisition by this thread would never end. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void ageingTakesNoMmuLock(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(0);
            ReaderSlot worker = vm.takeReader();
            vm.mmu().lock().lock(worker, LockMode.EXCLUSIVE);
            try {
                assertTrue(vm.ageing().testYoung(0, MIB_2));
                assertEquals(1, vm.ageing().clearYoung(0, MIB_2));
                assertFalse(vm.ageing().testYoung(0, MIB_2));
            } finally {
                vm.mmu().lock().unlock(worker, LockMode.EXCLUSIVE);
            }
            vm.giveReader(worker);
        }
    }

    @Test
    void rangesAreChecked() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        long limit = vm.config().guestAddressLimit();

        assertThrows(IllegalArgumentException.class, () -> vm.ageing().testYoung(0, 0));
        assertThrows(IllegalArgumentException.class, () -> vm.ageing().clearYoung(-1, 1));
        assertThrows(IllegalArgumentException.class, () -> vm.ageing().clearYoungAndFlush(limit - KIB_4, 2 * KIB_4));
        assertEquals(0, vm.ageing().clearYoung(limit - KIB_4, KIB_4));
        assertFalse(vm.ageing().testYoung(0, limit));
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void workingSetCountsPagesByTheirLastUse(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        MemSlot slot = vm.addSlot(0, MIB_2, MIB_2, SMALL);
        WorkingSet set = vm.workingSet(slot);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertEquals(0, set.pagesYoungerThan(255));
            for (int round = 0; round < 3; round++) {
                // Round r uses pages 0 to r; the flush makes each use a walk.
                for (long page = 0; page <= round; page++) {
                    vcpu.getLong(MIB_2 + (2 - page) * KIB_4);
                }
                set.scan();
                vm.mmu().ranges().flush(0, 2 * PAGES_PER_BLOCK);
            }

            assertEquals(3, set.pagesYoungerThan(1));
            set.scan();
            assertEquals(0, set.pagesYoungerThan(1));
            assertEquals(3, set.pagesYoungerThan(2));
            vcpu.getLong(MIB_2 + 2 * KIB_4);
            set.scan();
            assertEquals(0, set.age(2));
            assertEquals(2, set.age(1));
            assertEquals(1, set.pagesYoungerThan(2));
            assertEquals(3 * KIB_4, set.bytes(3));
            assertEquals(255, set.age(3));
            assertThrows(IllegalArgumentException.class, () -> set.age(PAGES_PER_BLOCK));
            assertThrows(IllegalArgumentException.class, () -> set.pagesYoungerThan(0));
        }
    }

    /** a slot that begins and ends within huge blocks, between neighbours that are in use. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void workingSetOfASlotWithOddEndsStaysWithinIt(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        long bytes = 2 * MIB_2 - 2 * KIB_4;
        vm.addSlot(0, 0, MIB_2 + KIB_4, SMALL);
        MemSlot slot = vm.addSlot(1, MIB_2 + KIB_4, bytes, HUGE);
        vm.addSlot(2, 3 * MIB_2 - KIB_4, MIB_2, SMALL);
        WorkingSet set = vm.workingSet(slot);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(MIB_2);
            vcpu.getLong(MIB_2 + KIB_4);
            vcpu.getLong(3 * MIB_2 - 2 * KIB_4);
            vcpu.getLong(3 * MIB_2 - KIB_4);

            set.scan();

            assertEquals(0, set.age(0));
            assertEquals(0, set.age(slot.pages() - 1));
            assertEquals(2, set.pagesYoungerThan(1));
            assertTrue(vm.ageing().testYoung(MIB_2, KIB_4), "a neighbour is no concern of the slot");
            assertTrue(vm.ageing().testYoung(3 * MIB_2 - KIB_4, KIB_4));
        }
    }
}
