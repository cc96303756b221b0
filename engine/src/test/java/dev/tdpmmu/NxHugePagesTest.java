package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The mitigation that forbids the execution of huge pages, with the steps and the numbers of the kernel's
 * nx_huge_pages_test.
 */
class NxHugePagesTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final int SLOT = 10;
    private static final long REGION_1 = 4L << 30;
    private static final long REGION_2 = REGION_1 + MIB_2;
    private static final long REGION_3 = REGION_2 + MIB_2;
    private static final int ROUNDS = 5;

    @RegisterExtension
    final TestVms vms = new TestVms();

    private static VmConfig.Builder mitigated(VmConfig.Builder config) {
        // The period is an hour: the agent never gets in a test's way.
        return config.nxHugePageMitigation(true).nxRecoveryRatio(1).nxRecoveryPeriod(Duration.ofHours(1));
    }

    private Vm vmWithRegions(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(SLOT, REGION_1, 3 * MIB_2, HUGE);
        return vm;
    }

    private static void assertPages(long pages2m, long splits, Vm vm) {
        assertEquals(pages2m, vm.stats().pages2m(), "pages_2m");
        assertEquals(splits, vm.stats().nxLpageSplits(), "nx_lpage_splits");
        assertEquals(splits, vm.nxHugePages().splits());
        // Compares the statistic with the tables that are marked.
        vm.verify();
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void fetchSplitsAndRecoveryGivesUpTheTables(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            assertPages(0, 0, vm);
            vcpu.getLong(REGION_1);
            assertPages(1, 0, vm);
            vcpu.getLong(REGION_2);
            assertPages(2, 0, vm);
            vcpu.fetch(REGION_1);
            assertPages(1, 1, vm);
            vcpu.fetch(REGION_3);
            assertPages(1, 2, vm);
            vcpu.getLong(REGION_1);
            assertPages(1, 2, vm);

            for (int round = 0; round < ROUNDS; round++) {
                vm.nxHugePages().recover();
            }

            assertPages(1, 0, vm);
            vcpu.getLong(REGION_3);
            assertPages(2, 0, vm);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void nothingIsSplitWithoutTheMitigation(VmConfig.Builder config) {
        Vm vm = vmWithRegions(config.nxHugePageMitigation(false).nxRecoveryRatio(1));
        try (Vcpu vcpu = vm.createVcpu()) {
            assertPages(0, 0, vm);
            vcpu.getLong(REGION_1);
            assertPages(1, 0, vm);
            vcpu.getLong(REGION_2);
            assertPages(2, 0, vm);
            vcpu.fetch(REGION_1);
            assertPages(2, 0, vm);
            vcpu.fetch(REGION_3);
            assertPages(3, 0, vm);
            vcpu.getLong(REGION_1);
            assertPages(3, 0, vm);

            for (int round = 0; round < ROUNDS; round++) {
                assertEquals(0, vm.nxHugePages().recover());
            }

            assertPages(3, 0, vm);
            vcpu.getLong(REGION_3);
            assertPages(3, 0, vm);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void readsOfASplitRegionStaySmallUntilRecovery(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            long promotions = vm.stats().promotions();

            for (long page = 0; page < 16; page++) {
                vcpu.putLong(REGION_1 + page * KIB_4, page);
            }

            assertPages(0, 1, vm);
            assertEquals(16, vm.stats().pages4k());
            assertEquals(promotions, vm.stats().promotions());
            assertEquals(1, vm.nxHugePages().recover());
            assertEquals(5, vcpu.getLong(REGION_1 + 5 * KIB_4));
            assertPages(1, 0, vm);
        }
    }

    @Test
    void eachRoundTakesItsShareRoundedUp() {
        Vm vm = vms.vm(mitigated(VmConfig.builder()).nxRecoveryRatio(2));
        vm.addSlot(0, 0, 4 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (long block = 0; block < 4; block++) {
                vcpu.fetch(block * MIB_2);
            }

            assertEquals(2, vm.nxHugePages().recover());
            assertPages(0, 2, vm);
            // Oldest first.
            assertTrue(vm.translate(0).isEmpty());
            assertTrue(vm.translate(2 * MIB_2).isPresent());
            assertEquals(1, vm.nxHugePages().recover());
            assertEquals(1, vm.nxHugePages().recover());
            assertEquals(0, vm.nxHugePages().recover());
            assertPages(0, 0, vm);
        }
    }

    @Test
    void ratioZeroSwitchesRecoveryOff() {
        Vm vm = vmWithRegions(mitigated(VmConfig.builder()).nxRecoveryRatio(0));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);

            assertEquals(0, vm.nxHugePages().recover());

            assertPages(0, 1, vm);
        }
    }

    /** A fetch from 1 GiB hides two huge levels; the upper table takes the lower one with it. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void fetchSplitsAGibibyteDownToTheSmallestPage(VmConfig.Builder config) {
        Vm vm = vms.vm(mitigated(config));
        vm.addSlot(0, 0, 1L << 30, Backing.synthetic(PageSize.SIZE_1G));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.touch(0, Access.READ);
            assertEquals(1, vm.stats().pages1g());

            vcpu.touch(3 * MIB_2, Access.EXECUTE);

            assertPages(511, 2, vm);
            assertEquals(512, vm.stats().pages4k());
            assertFalse(vm.translate(0).orElseThrow().executable());
            assertTrue(vm.translate(3 * MIB_2).orElseThrow().executable());
            assertTrue(vm.translate(3 * MIB_2 + 7 * KIB_4).orElseThrow().executable());
            assertEquals(1, vm.nxHugePages().recover());
            assertPages(0, 0, vm);
            vcpu.touch(3 * MIB_2, Access.READ);
            assertEquals(1, vm.stats().pages1g());
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void switchReplacesEveryLeaf(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config).nxHugePageMitigation(false));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            assertFalse(vm.nxHugePages().isOn());

            vm.nxHugePages().setOn(true);

            assertTrue(vm.nxHugePages().isOn());
            assertPages(0, 0, vm);
            vcpu.fetch(REGION_1);
            vcpu.getLong(REGION_2);
            assertPages(1, 1, vm);
            assertFalse(vm.translate(REGION_2).orElseThrow().executable());
            vm.nxHugePages().setOn(false);
            assertPages(0, 0, vm);
            vcpu.fetch(REGION_1);
            assertPages(1, 0, vm);
        }
    }

    /** Ends the test where the guest would leave and come back for ever. */
    private static void allowExits(Vcpu vcpu, long most) {
        long limit = vcpu.exits() + most;
        vcpu.observe(nanos -> assertTrue(vcpu.exits() <= limit, "fetch does not end: exits=" + vcpu.exits()));
    }

    /**
     * A huge leaf that must not be executed is no answer to a fetch, by whichever way the fault comes to it: that
     * leaf is there already, nothing would change, and the guest would fetch for ever.
     */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void fetchFromAHugePageEndsWhileAnotherPageIsWatched(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu();
                WriteWatch watch = vm.watchWrites(REGION_3, KIB_4, (gpa, bytes, value) -> {})) {
            vcpu.getLong(REGION_1);
            assertPages(1, 0, vm);
            allowExits(vcpu, 4);

            vcpu.fetch(REGION_1);
            vcpu.fetch(REGION_2);
            vcpu.fetch(REGION_3);

            // The watched region is small because of the watch: there is no huge leaf to give its table up for.
            assertPages(0, 2, vm);
            assertEquals(REGION_3 >>> 12, watch.startGfn());
        }
    }

    /** Where stores are logged leaves are small in any case: the fetch splits the huge one, which is not listed. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void fetchFromAHugePageEndsWhileTheSlotIsLogged(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config).eagerSplit(false));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(REGION_1);
            DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, REGION_1));
            assertPages(1, 0, vm);
            allowExits(vcpu, 4);

            vcpu.fetch(REGION_1);
            vcpu.fetch(REGION_2);

            assertPages(0, 0, vm);
            vcpu.putLong(REGION_1, 1);
            assertEquals(1, log.harvest().count());
        }
    }

    /** a table that recovery zapped is in no TLB when the round returns. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void recoveryFlushesWhatItZaps(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            vcpu.fetch(REGION_3);
            long exits = vcpu.exits();
            vcpu.fetch(REGION_1);
            assertEquals(exits, vcpu.exits(), "cached");

            assertEquals(2, vm.nxHugePages().recover());

            vcpu.fetch(REGION_1);
            vcpu.fetch(REGION_3);
            assertEquals(exits + 2, vcpu.exits());
        }
    }

    /** recovery in a slot whose stores are logged would only make the guest fault its small leaves in again. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void tablesOfALoggedSlotLeaveTheListButStay(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, REGION_1));
            vcpu.fetch(REGION_1);
            long leaves = vm.stats().pages4k();
            long taken = vm.stats().pfTaken();

            assertEquals(0, vm.nxHugePages().recover());

            assertPages(0, 0, vm);
            assertEquals(leaves, vm.stats().pages4k());
            vcpu.fetch(REGION_1);
            assertEquals(taken, vm.stats().pfTaken());
            log.stop();
            vcpu.getLong(REGION_1);
            assertPages(1, 0, vm);
        }
    }

    /** The end of a log recovers huge pages where tables were listed, and the list forgets those. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void endOfALogTakesTablesOffTheList(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            vcpu.putLong(REGION_2, 2);
            DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, REGION_1));
            vcpu.putLong(REGION_2, 3);
            DirtyPages dirty = log.harvest();
            assertEquals(1, dirty.count());

            log.stop();

            assertPages(2, 0, vm);
            assertFalse(vm.translate(REGION_1).orElseThrow().executable(), "huge leaf must not be executed");
            vcpu.fetch(REGION_1);
            assertPages(1, 1, vm);
            assertEquals(3, vcpu.getLong(REGION_2));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void listEmptiesWithTheSlot(VmConfig.Builder config) {
        Vm vm = vmWithRegions(mitigated(config));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);
            vcpu.fetch(REGION_3);
            MemSlot slot = TestVms.slotAt(vm, REGION_1);

            vm.removeSlot(slot);

            vm.verify();
            for (int round = 0; round < ROUNDS; round++) {
                vm.nxHugePages().recover();
            }
            assertPages(0, 0, vm);
        }
    }

    @Test
    @Timeout(30)
    void agentRecoversByItself() {
        Vm vm = vmWithRegions(mitigated(VmConfig.builder()).nxRecoveryPeriod(Duration.ofMillis(1)));
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.fetch(REGION_1);

            awaitNoSplits(vm);

            // The list is shorter before the table has gone.
            while (vm.stats().pages2m() == 0) {
                vcpu.getLong(REGION_1);
            }
        }
        // Ends the agent: its last round may still have a table to retire.
        vm.close();
    }

    @Test
    @Timeout(30)
    void agentRunsAlsoIfTheMitigationIsSwitchedOnLater() {
        Vm vm = vmWithRegions(
                mitigated(VmConfig.builder()).nxHugePageMitigation(false).nxRecoveryPeriod(Duration.ofMillis(1)));
        try (Vcpu vcpu = vm.createVcpu()) {
            vm.nxHugePages().setOn(true);
            vcpu.fetch(REGION_1);

            awaitNoSplits(vm);
        }
        vm.close();
    }

    private static void awaitNoSplits(Vm vm) {
        while (vm.nxHugePages().splits() != 0) {
            Thread.yield();
        }
    }
}
