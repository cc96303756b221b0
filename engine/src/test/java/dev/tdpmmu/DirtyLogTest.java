package dev.tdpmmu;

import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.DirtyLogConfig;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.MemoryCapExceededException;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Tests {@link DirtyLog} and {@link DirtyLogging} with one thread. */
class DirtyLogTest {
    private static final String SETTINGS = "dev.tdpmmu.DirtyLogTest#settings";

    @RegisterExtension
    final TestVms vms = new TestVms();

    /** Every way in which stores are seen: hardware log, D without it, W. */
    static Stream<VmConfig.Builder> settings() {
        List<VmConfig.Builder> all = new ArrayList<>();
        for (PagingMode mode : PagingMode.values()) {
            if (mode.isEpt()) {
                all.add(VmConfig.builder().pagingMode(mode).name(mode + " PML"));
                all.add(VmConfig.builder()
                        .pagingMode(mode)
                        .accessedDirty(AccessedDirty.OFF)
                        .name(mode + " no A/D"));
            }
            all.add(VmConfig.builder().pagingMode(mode).pml(false).name(mode + " A/D"));
        }
        return all.stream();
    }

    private static MemSlot live(Vm vm, int slotId) {
        return vm.memorySlots().stream()
                .filter(slot -> slot.id() == slotId)
                .findFirst()
                .orElseThrow();
    }

    private static List<Long> list(DirtyPages pages) {
        List<Long> list = new ArrayList<>();
        for (long page = pages.next(0); page >= 0; page = page + 1 < pages.pages() ? pages.next(page + 1) : -1) {
            list.add(page);
        }
        return list;
    }

    private static List<Long> collect(Vcpu vcpu) {
        List<Long> pages = new ArrayList<>();
        vcpu.collectDirty((slotId, page) -> pages.add(page), Integer.MAX_VALUE);
        return pages;
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void harvestHandsOutExactlyWhatWasStoredSinceTheLastOne(VmConfig.Builder builder) {
        Vm vm = vms.vm(builder);
        MemSlot slot = vm.addSlot(1, 5 * KIB_4, 131 * KIB_4, TestVms.SMALL);
        Vcpu vcpu = vm.createVcpu();
        long base = slot.gpa();
        vcpu.putLong(base, 1);
        vcpu.getLong(base + 7 * KIB_4);
        DirtyLog log = vm.startDirtyLog(slot);

        vcpu.getLong(base);
        vcpu.getLong(base + 9 * KIB_4);
        assertEquals(List.of(), list(log.harvest()), "loads are no stores");
        vcpu.putLong(base, 2);
        vcpu.putLong(base + 7 * KIB_4, 2);
        vcpu.putLong(base + 9 * KIB_4, 2);
        vcpu.putLong(base + 63 * KIB_4, 2);
        vcpu.putLong(base + 64 * KIB_4, 2);
        vcpu.putLong(base + 130 * KIB_4, 2);
        vcpu.putLong(base + 130 * KIB_4, 3);
        assertEquals(List.of(0L, 7L, 9L, 63L, 64L, 130L), list(log.harvest()));
        assertEquals(List.of(), list(log.harvest()));
        vcpu.putLong(base + 64 * KIB_4, 4);
        vcpu.getLong(base + 7 * KIB_4);
        vm.memory().write(base + 62 * KIB_4, new byte[3 * 4096], 1, 8193);
        assertEquals(List.of(62L, 63L, 64L), list(log.harvest()));
    }

    /** The sequence of the kernel's dirty_log_page_splitting_test. */
    @ParameterizedTest
    @MethodSource(SETTINGS)
    void pageSplittingWithoutManualProtect(VmConfig.Builder builder) {
        splitAndRecover(builder.dirtyTracking(DirtyTracking.GET_AND_CLEAR), false);
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void pageSplittingWithManualProtect(VmConfig.Builder builder) {
        splitAndRecover(builder.dirtyTracking(DirtyTracking.INITIALLY_SET), true);
    }

    private void splitAndRecover(VmConfig.Builder builder, boolean manual) {
        Vm vm = vms.vm(builder.eagerSplit(true));
        long bytes = 3 * MIB_2;
        long pages = bytes / KIB_4;
        List<Vcpu> vcpus = List.of(vm.createVcpu(), vm.createVcpu());
        for (int i = 0; i < 2; i++) {
            vm.addSlot(i, i * 16 * MIB_2, bytes, TestVms.HUGE);
            storeEverywhere(vcpus.get(i), i * 16 * MIB_2, pages, 1);
        }
        VmStats populated = vm.stats();
        assertEquals(2 * pages, populated.pages2m() * 512 + populated.pages1g() * 262_144, "no 4K needed");

        List<DirtyLog> logs = List.of(vm.startDirtyLog(live(vm, 0)), vm.startDirtyLog(live(vm, 1)));
        VmStats enabled = vm.stats();
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 2; i++) {
                storeEverywhere(vcpus.get(i), i * 16 * MIB_2, pages, 2 + round);
                DirtyPages dirty = logs.get(i).harvest();
                assertEquals(pages, dirty.count());
                if (manual) {
                    assertEquals(pages, logs.get(i).clear(dirty));
                }
            }
            if (round == 0) {
                assertEquals(0, vm.stats().pages2m() + vm.stats().pages1g(), "after the first clear");
            }
        }
        logs.forEach(DirtyLog::stop);
        for (int i = 0; i < 2; i++) {
            storeEverywhere(vcpus.get(i), i * 16 * MIB_2, pages, 9);
        }

        if (manual) {
            assertEquals(populated.pages2m(), enabled.pages2m(), "enabling changes nothing");
            assertEquals(populated.pages4k(), enabled.pages4k(), "enabling changes nothing");
        } else {
            assertEquals(0, enabled.pages2m() + enabled.pages1g(), "after enabling");
            assertTrue(enabled.pages4k() >= 2 * pages);
        }
        assertEquals(populated.pages2m(), vm.stats().pages2m(), "after disabling and access");
        assertEquals(populated.pages1g(), vm.stats().pages1g());
        assertEquals(0, vm.stats().pages4k());
    }

    private static void storeEverywhere(Vcpu vcpu, long gpa, long pages, long value) {
        for (long page = 0; page < pages; page++) {
            vcpu.putLong(gpa + page * KIB_4, value);
        }
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void withoutEagerSplitTheStoreSplitsAndOnlyItsPageIsDirty(VmConfig.Builder builder) {
        Vm vm = vms.vm(builder.eagerSplit(false));
        MemSlot slot = vm.addSlot(0, MIB_2, 2 * MIB_2, TestVms.HUGE);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(MIB_2, 1);
        vcpu.putLong(2 * MIB_2, 1);
        DirtyLog log = vm.startDirtyLog(slot);
        assertEquals(2, vm.stats().pages2m());

        vcpu.putLong(MIB_2 + 5 * KIB_4, 2);

        assertEquals(1, vm.stats().pages2m());
        assertEquals(1, vm.stats().splits());
        assertEquals(List.of(5L), list(log.harvest()));
        vcpu.putLong(MIB_2 + 5 * KIB_4, 3);
        vcpu.putLong(MIB_2 + 6 * KIB_4, 3);
        assertEquals(List.of(5L, 6L), list(log.harvest()));
    }

    /** A huge leaf without W may still have D: what is split from it would never be logged. */
    @Test
    void hugeLeafThatIsNotWritableLosesDirtyAsWell() {
        Vm vm = vms.vm(VmConfig.builder().eagerSplit(false));
        MemSlot slot = vm.addSlot(0, MIB_2, MIB_2, TestVms.HUGE);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(MIB_2, 1);
        vm.watchWrites(MIB_2, KIB_4, (gpa, bytes, value) -> {}).close();
        assertEquals(1, vm.stats().pages2m());
        DirtyLog log = vm.startDirtyLog(slot);

        vcpu.putLong(MIB_2 + 3 * KIB_4, 2);
        vcpu.putLong(MIB_2 + 4 * KIB_4, 2);

        assertEquals(List.of(3L, 4L), list(log.harvest()));
    }

    @ParameterizedTest
    @EnumSource(
            value = DirtyTracking.class,
            names = {"MANUAL_PROTECT", "INITIALLY_SET"})
    void manualProtectionClearsAnyRange(DirtyTracking tracking) {
        for (VmConfig.Builder builder : settings().toList()) {
            for (OperationLock how : OperationLock.values()) {
                Vm vm = vms.vm(builder.dirtyTracking(tracking).clearLock(how));
                MemSlot slot = vm.addSlot(1, 5 * KIB_4, 131 * KIB_4, TestVms.SMALL);
                Vcpu vcpu = vm.createVcpu();
                DirtyLog log = vm.startDirtyLog(slot);
                if (tracking == DirtyTracking.INITIALLY_SET) {
                    assertEquals(131, log.harvest().count());
                    assertEquals(131, log.clear(0, 131));
                }
                for (long page = 60; page < 70; page++) {
                    vcpu.putLong(slot.gpa() + page * KIB_4, 1);
                }

                assertEquals(10, log.harvest().count());
                assertEquals(10, log.harvest().count(), "a copy");
                assertEquals(3, log.clear(63, 3));
                assertEquals(0, log.clear(63, 3));
                assertEquals(0, log.clear(7, 0));
                assertEquals(List.of(60L, 61L, 62L, 66L, 67L, 68L, 69L), list(log.harvest()));
                vcpu.putLong(slot.gpa() + 64 * KIB_4, 2);
                assertEquals(List.of(60L, 61L, 62L, 64L, 66L, 67L, 68L, 69L), list(log.harvest()));
                assertEquals(8, log.clear(0, 131));
                assertEquals(0, log.harvest().count());
                assertThrows(IllegalArgumentException.class, () -> log.clear(130, 2));
                vcpu.close();
            }
        }
    }

    /** What the hardware had logged when the page was cleared was stored before: it is not reported again. */
    @Test
    void clearCountsWhatTheHardwareHasLogged() {
        Vm vm = vms.vm(VmConfig.builder().dirtyTracking(DirtyTracking.MANUAL_PROTECT));
        MemSlot slot = vm.addSlot(0, 0, 16 * KIB_4, TestVms.SMALL);
        Vcpu vcpu = vm.createVcpu();
        DirtyLog log = vm.startDirtyLog(slot);
        vcpu.putLong(0, 1);
        vcpu.putLong(0, 2);

        assertEquals(1, log.clear(0, 16));

        assertEquals(0, log.harvest().count());
    }

    @Test
    void onlyManualProtectionClears() {
        Vm vm = vms.vm();
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, 0, KIB_4, TestVms.SMALL));

        assertThrows(IllegalStateException.class, () -> log.clear(0, 1));
        assertThrows(IllegalArgumentException.class, () -> log.harvest(new DirtyPages(2)));
        log.stop();
        assertThrows(IllegalStateException.class, log::harvest);
        assertThrows(IllegalStateException.class, log::stop);
    }

    /** I18: the log counts down from 511, a write to a page puts its address there, and the full log exits. */
    @Test
    void fullHardwareLogExitsWithin513StoresAndLosesNothing() {
        Vm vm = vms.vm();
        MemSlot slot = vm.addSlot(0, 0, 1024 * KIB_4, TestVms.SMALL);
        Vcpu vcpu = vm.createVcpu();
        for (int page = 0; page < 1024; page++) {
            vcpu.putLong(page * KIB_4, 1);
        }
        DirtyLog log = vm.startDirtyLog(slot);
        long exits = vcpu.exits();

        for (int page = 0; page < DirtyLogConfig.PML_ENTRIES; page++) {
            vcpu.putLong(page * KIB_4, 2);
            vcpu.putLong(page * KIB_4, 3);
        }
        assertEquals(0, vm.stats().pmlFull(), "512 fit");
        vcpu.getLong(700 * KIB_4);
        assertEquals(0, vm.stats().pmlFull(), "a load that sets no flag needs no room");
        vcpu.putLong(600 * KIB_4, 2);
        assertEquals(1, vm.stats().pmlFull(), "the 513th store to a clean page");
        for (int page = 512; page < 1024; page++) {
            vcpu.putLong(page * KIB_4, 2);
        }

        assertEquals(1, vm.stats().pmlFull(), "one more round of 512 fits");
        assertEquals(exits, vcpu.exits(), "a full log is no violation");
        assertEquals(1024, log.harvest().count());
        assertEquals(0, log.harvest().count());
    }

    @Test
    void onePageIsStoredToUntilTheHardwareLogIsFull() {
        Vm vm = vms.vm(VmConfig.builder().dirtyTracking(DirtyTracking.MANUAL_PROTECT));
        MemSlot slot = vm.addSlot(0, 0, KIB_4, TestVms.SMALL);
        Vcpu vcpu = vm.createVcpu();
        DirtyLog log = vm.startDirtyLog(slot);
        int stores = 0;
        while (vm.stats().pmlFull() == 0 && stores < 514) {
            vcpu.putLong(0, ++stores);
            // Clears D behind the log's back, as the guest of the original test does.
            vm.mmu().ranges().clearDirty(0, 1);
        }

        assertEquals(513, stores);
        assertEquals(List.of(0L), list(log.harvest()));
    }

    @Test
    void storesOfIdleVcpusAreFoundAndTheirLogEndsWithTheLastSlot() {
        Vm vm = vms.vm();
        MemSlot slot = vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL);
        MemSlot other = vm.addSlot(1, MIB_2, 8 * KIB_4, TestVms.SMALL);
        Vcpu vcpu = vm.createVcpu();
        DirtyLog log = vm.startDirtyLog(slot);
        DirtyLog otherLog = vm.startDirtyLog(other);
        vcpu.putLong(0, 1);
        vcpu.putLong(MIB_2, 1);
        log.stop();
        assertEquals(List.of(0L), list(otherLog.harvest()), "the other one goes on");
        vcpu.putLong(MIB_2 + KIB_4, 1);
        otherLog.stop();
        vcpu.putLong(2 * KIB_4, 1);

        DirtyLog again = vm.startDirtyLog(live(vm, 0));

        assertEquals(List.of(), list(again.harvest()), "stores of before are forgotten");
        vcpu.putLong(2 * KIB_4, 2);
        vcpu.putLong(3 * KIB_4, 2);
        assertEquals(List.of(2L, 3L), list(again.harvest()));
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void closedVcpuLosesNoStores(VmConfig.Builder builder) {
        Vm vm = vms.vm(builder);
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(0, 1);
        vcpu.putLong(5 * KIB_4, 1);

        vcpu.close();

        assertEquals(List.of(0L, 5L), list(log.harvest()));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void closedVcpuLeavesWhatItsRingHeldInTheBitmap(boolean pml) {
        Vm vm = vms.vm(VmConfig.builder().dirtyTracking(DirtyTracking.RING).pml(pml));
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        Vcpu other = vm.createVcpu();
        vcpu.putLong(0, 1);
        vcpu.putLong(KIB_4, 1);
        vm.drainHardwareLogs();
        vcpu.collectDirty((slotId, page) -> {}, 1);
        vcpu.putLong(5 * KIB_4, 1);

        vcpu.close();

        assertEquals(List.of(0L, 1L, 5L), list(log.harvest()), "also what was collected: it is armed only now");
        other.putLong(0, 2);
        vm.drainHardwareLogs();
        assertEquals(List.of(0L), collect(other));
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void movedSlotKeepsItsMarks(VmConfig.Builder builder) {
        Vm vm = vms.vm(builder);
        MemSlot slot = vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL);
        DirtyLog log = vm.startDirtyLog(slot);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(0, 1);
        vcpu.putLong(5 * KIB_4, 1);

        MemSlot moved = vm.moveSlot(live(vm, 0), MIB_2);
        vcpu.putLong(MIB_2 + 2 * KIB_4, 1);

        assertEquals(List.of(0L, 2L, 5L), list(log.harvest()));
        vcpu.putLong(MIB_2 + 2 * KIB_4, 2);
        assertEquals(List.of(2L), list(log.harvest()));
        assertEquals(MIB_2, moved.gpa());
    }

    @Test
    void moveThatIsRefusedLeavesNothingBehind() {
        Vm vm = vms.vm();
        vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL);
        vm.addSlot(1, MIB_2, 8 * KIB_4, TestVms.SMALL);
        vm.startDirtyLog(live(vm, 0));
        Vcpu vcpu = vm.createVcpu();
        assertThrows(SlotException.class, () -> vm.moveSlot(live(vm, 0), MIB_2));

        vm.removeSlot(live(vm, 0));
        vm.addSlot(2, 0, 4 * KIB_4, TestVms.SMALL);
        DirtyLog log = vm.startDirtyLog(live(vm, 2));
        vcpu.putLong(KIB_4, 1);

        assertEquals(List.of(1L), list(log.harvest()));
    }

    /** A ring that is soft-full takes no more from a collector: the rest names a place that will be unknown. */
    @Test
    void movedSlotKeepsTheMarksForWhichItsRingHasNoRoom() {
        Vm vm = vms.vm(VmConfig.builder().dirtyTracking(DirtyTracking.RING).dirtyRingEntries(1024));
        long base = 64 * MIB_2;
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, base, 1024 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        for (int page = 0; page < 1000; page++) {
            vcpu.touch(base + page * KIB_4, Access.READ);
        }
        int soft = 1024 - vm.config().dirtyLog().reservedRingEntries();
        int stored = 0;
        for (; stored < soft - 1; stored++) {
            vcpu.putLong(base + stored * KIB_4, 1);
        }
        vm.drainHardwareLogs();
        // Leaves the guest, so that its hardware log is empty again.
        vcpu.touch(base + 1001 * KIB_4, Access.READ);
        for (; stored < soft + 500; stored++) {
            vcpu.putLong(base + stored * KIB_4, 1);
        }

        vm.moveSlot(live(vm, 0), 128 * MIB_2);

        DirtyPages all = new DirtyPages(1024);
        vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE);
        vm.resetDirtyRings();
        vm.drainHardwareLogs();
        vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE);
        all.addAll(log.harvest());
        assertEquals(stored, all.count());
        vcpu.putLong(128 * MIB_2 + 950 * KIB_4, 1);
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void softFullRingEndsTheAccessUntilItIsReset(boolean pml) {
        Vm vm = vms.vm(VmConfig.builder()
                .dirtyTracking(DirtyTracking.RING)
                .dirtyRingEntries(1024)
                .pml(pml));
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, 0, 4096 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        int stored = 0;
        GuestAccessException full = null;
        while (full == null && stored < 2048) {
            try {
                vcpu.putLong(stored * KIB_4, 1);
                stored++;
            } catch (GuestAccessException refused) {
                full = refused;
            }
        }
        int soft = 1024 - vm.config().dirtyLog().reservedRingEntries();
        assertEquals(GuestAccessException.Reason.DIRTY_RING_FULL, full.reason());
        assertTrue(stored >= soft - 1 && stored <= soft + 513, "stored=" + stored);
        int refusedPage = stored;
        assertThrows(GuestAccessException.class, () -> vcpu.putLong(refusedPage * KIB_4, 1));
        assertEquals(2, vm.stats().dirtyRingFull());

        DirtyPages all = new DirtyPages(4096);
        int collected = vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE);
        assertEquals(collected, vm.resetDirtyRings());
        vcpu.putLong(refusedPage * KIB_4, 1);
        vm.drainHardwareLogs();
        vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE);

        assertEquals(stored + 1, all.count());
        assertEquals(0, log.harvest().count(), "stores of devices only");
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void handlerMakesRoomInTheRing(boolean pml) {
        Vm vm = vms.vm(VmConfig.builder()
                .dirtyTracking(DirtyTracking.RING)
                .dirtyRingEntries(1024)
                .pml(pml));
        vm.startDirtyLog(vm.addSlot(0, 0, 4096 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        DirtyPages all = new DirtyPages(4096);
        vcpu.onDirtyRingFull(() -> {
            assertTrue(vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE) > 0);
            vm.resetDirtyRings();
        });

        for (int page = 0; page < 4096; page++) {
            vcpu.putLong(page * KIB_4, 1);
        }

        vm.drainHardwareLogs();
        vcpu.collectDirty((slotId, page) -> all.add(page), Integer.MAX_VALUE);
        assertEquals(4096, all.count());
        assertTrue(vm.stats().dirtyRingFull() >= 4);
    }

    @ParameterizedTest
    @MethodSource(SETTINGS)
    void resetArmsNeighboursAcrossTablesAndDevicesUseTheBitmap(VmConfig.Builder builder) {
        Vm vm = vms.vm(builder.dirtyTracking(DirtyTracking.RING));
        long base = MIB_2 - 37 * KIB_4;
        DirtyLog log = vm.startDirtyLog(vm.addSlot(0, base, 131 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        for (long page = 130; page >= 0; page--) {
            vcpu.putLong(base + page * KIB_4, 1);
        }
        vm.memory().putLong(base + 64 * KIB_4, 2);
        vm.drainHardwareLogs();
        assertEquals(131, collect(vcpu).size());
        assertEquals(131, vm.resetDirtyRings());
        assertEquals(List.of(64L), list(log.harvest()));

        for (long page = 0; page < 131; page += 5) {
            vcpu.putLong(base + page * KIB_4, 3);
        }
        vm.drainHardwareLogs();

        assertEquals(27, collect(vcpu).size());
        assertEquals(27, vm.resetDirtyRings());
        assertEquals(0, vm.resetDirtyRings());
        assertEquals(0, log.harvest().count());
    }

    @Test
    void ringEntriesOfASlotThatIsGoneAreResetWithoutEffect() {
        Vm vm = vms.vm(VmConfig.builder().dirtyTracking(DirtyTracking.RING));
        vm.startDirtyLog(vm.addSlot(0, 0, 8 * KIB_4, TestVms.SMALL));
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(7 * KIB_4, 1);
        vm.drainHardwareLogs();
        assertEquals(List.of(7L), collect(vcpu));

        vm.removeSlot(live(vm, 0));
        vm.addSlot(0, 0, 4 * KIB_4, TestVms.SMALL, SlotFlag.LOG_DIRTY);

        assertEquals(1, vm.resetDirtyRings());
        vcpu.putLong(KIB_4, 1);
        vm.drainHardwareLogs();
        assertEquals(List.of(1L), collect(vcpu));
    }

    @Test
    void bitmapBeyondTheCapLeavesTheSlotAsItWas() {
        Vm vm = vms.vm(VmConfig.builder().memoryCapInBytes(32 * MIB_2));
        MemSlot slot = vm.addSlot(0, 0, 16 * MIB_2, TestVms.SMALL);
        long room = vm.stats().memoryCapInBytes() - vm.stats().memoryUsedInBytes();
        vm.addSlot(1, 64 * MIB_2, room / KIB_4 * KIB_4, TestVms.SMALL);

        assertThrows(MemoryCapExceededException.class, () -> vm.startDirtyLog(slot));

        assertFalse(live(vm, 0).logsDirty());
        vm.removeSlot(live(vm, 1));
        DirtyLog log = vm.startDirtyLog(slot);
        vm.createVcpu().putLong(KIB_4, 1);
        assertEquals(List.of(1L), list(log.harvest()));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void eagerSplitBeyondTheCapLeavesTheRestToTheStores(boolean pml) {
        Vm vm = vms.vm(VmConfig.builder().memoryCapInBytes(64 * MIB_2).pml(pml));
        MemSlot slot = vm.addSlot(0, 0, 16 * MIB_2, TestVms.HUGE);
        Vcpu vcpu = vm.createVcpu();
        for (long gpa = 0; gpa < 16 * MIB_2; gpa += MIB_2) {
            vcpu.putLong(gpa, 1);
        }
        long room = vm.stats().memoryCapInBytes() - vm.stats().memoryUsedInBytes();
        vm.addSlot(1, 1L << 32, (room / KIB_4 - 12) * KIB_4, TestVms.SMALL);

        DirtyLog log = vm.startDirtyLog(slot);

        long huge = vm.stats().pages2m();
        assertTrue(huge > 0 && huge < 16, "pages2m=" + huge);
        vm.removeSlot(live(vm, 1));
        for (long gpa = 0; gpa < 16 * MIB_2; gpa += MIB_2) {
            vcpu.putLong(gpa + KIB_4, 2);
        }
        DirtyPages dirty = log.harvest();
        assertEquals(16, dirty.count());
        for (long page = 1; page < dirty.pages(); page += 512) {
            assertTrue(dirty.isDirty(page));
        }
        assertEquals(0, vm.stats().pages2m());
    }
}
