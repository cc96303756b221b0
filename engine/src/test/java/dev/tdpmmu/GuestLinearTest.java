package dev.tdpmmu;

import static dev.tdpmmu.GuestVms.DATA;
import static dev.tdpmmu.GuestVms.HIGH;
import static dev.tdpmmu.GuestVms.LOW;
import static dev.tdpmmu.GuestVms.RW;
import static dev.tdpmmu.GuestVms.TABLES;
import static dev.tdpmmu.GuestVms.URW;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.VcpuAccessTest.assertRefused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageFault;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A guest with its own page tables, in memory of a real VM. */
class GuestLinearTest {
    private static final String MATRIX = "dev.tdpmmu.GuestVms#matrix";

    @RegisterExtension
    final TestVms vms = new TestVms();

    @ParameterizedTest
    @MethodSource(MATRIX)
    void accessesOfEverySizeGoThroughBothTables(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(HIGH, DATA + KIB_4, PageSize.SIZE_4K, RW);
        tables.map(HIGH + KIB_4, DATA, PageSize.SIZE_4K, RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            linear.putByte(HIGH, (byte) 0x81);
            linear.putShort(HIGH + 2, (short) 0x8283);
            linear.putInt(HIGH + 4, 0x8485_8687);
            linear.putLong(HIGH + 8, 0x8889_8a8b_8c8d_8e8fL);
            linear.putLong(HIGH + KIB_4 - 3, 0x0807_0605_0403_0201L);
            linear.write(HIGH + KIB_4 - 5, new byte[] {9, 9}, 0, 2);

            assertEquals((byte) 0x81, vcpu.getByte(DATA + KIB_4));
            assertEquals((short) 0x8283, vcpu.getShort(DATA + KIB_4 + 2));
            assertEquals(0x8485_8687, vcpu.getInt(DATA + KIB_4 + 4));
            assertEquals(0x8889_8a8b_8c8d_8e8fL, vcpu.getLong(DATA + KIB_4 + 8));
            assertEquals(0x0807_0605_04L, vcpu.getLong(DATA) & 0xff_ffff_ffffL);
            assertEquals((byte) 0x81, linear.getByte(HIGH));
            assertEquals((short) 0x8283, linear.getShort(HIGH + 2));
            assertEquals(0x8485_8687, linear.getInt(HIGH + 4));
            assertEquals(0x8889_8a8b_8c8d_8e8fL, linear.getLong(HIGH + 8));
            assertEquals(0x0807_0605_0403_0201L, linear.getLong(HIGH + KIB_4 - 3));
            assertEquals(0x8485_8687, linear.fetch(HIGH + 4));
            assertTrue(linear.compareAndSetLong(HIGH + 16, 0, 5));
            assertFalse(linear.compareAndSetInt(HIGH + 16, 4, 6));
            byte[] bytes = new byte[6];
            linear.read(HIGH + KIB_4 - 5, bytes, 0, 6);
            assertArrayEquals(new byte[] {9, 9, 1, 2, 3, 4}, bytes);
            assertEquals(vcpu.linear(), linear);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void everySizeOfGuestPagesMeetsEverySizeOfHostPages(VmConfig.Builder config, int levels) {
        for (PageSize host : new PageSize[] {PageSize.SIZE_4K, PageSize.SIZE_2M}) {
            Vm vm = GuestVms.vm(vms, config, host);
            GuestTables tables = GuestVms.tables(vm, levels);
            long gva4k = LOW;
            long gva2m = 0x7f00_8000_0000L;
            long gva1g = 0x7f40_0000_0000L;
            tables.map(gva4k, DATA + MIB_2 + KIB_4, PageSize.SIZE_4K, RW);
            tables.map(gva2m, DATA + MIB_2, PageSize.SIZE_2M, RW);
            tables.map(gva1g, DATA, PageSize.SIZE_1G, RW);
            try (Vcpu vcpu = vm.createVcpu()) {
                GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

                linear.putLong(gva4k, 11);
                linear.putLong(gva2m + 2 * KIB_4, 22);
                linear.putLong(gva1g + MIB_2 + 3 * KIB_4, 33);

                for (int round = 0; round < 2; round++) {
                    assertEquals(11, vcpu.getLong(DATA + MIB_2 + KIB_4));
                    assertEquals(11, linear.getLong(gva2m + KIB_4));
                    assertEquals(11, linear.getLong(gva1g + MIB_2 + KIB_4));
                    assertEquals(22, linear.getLong(gva1g + MIB_2 + 2 * KIB_4));
                    assertEquals(33, linear.getLong(gva2m + 3 * KIB_4));
                    assertEquals(0, linear.getLong(gva1g + 4 * KIB_4));
                }
                String above = levels == 4 ? "A" : "A A";
                assertEquals(above + " A A AD", tables.usedFlags(gva4k, 1));
                assertEquals(above + " A AD", tables.usedFlags(gva2m, 2));
                assertEquals(above + " AD", tables.usedFlags(gva1g, 3));
            }
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void readsSetOnlyAccessedAndPageFaultsSetNothing(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(LOW, DATA, PageSize.SIZE_4K, GuestVms.URW & ~2L);
        String above = levels == 4 ? "" : "- ";
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            assertEquals(Optional.of(new GuestPageFault(LOW, 0x3)), linear.probe(LOW, Access.WRITE));
            assertEquals(Optional.of(new GuestPageFault(LOW + KIB_4, 0x0)), linear.probe(LOW + KIB_4, Access.READ));
            assertEquals(above + "- - - -", tables.usedFlags(LOW, 1));

            assertEquals(Optional.empty(), linear.probe(LOW, Access.READ));
            assertEquals((above + "- - - -").replace('-', 'A'), tables.usedFlags(LOW, 1));

            linear.paging(linear.paging().withWriteProtect(false));
            linear.putLong(LOW, 1);
            assertEquals((above + "- - - -").replace('-', 'A') + "D", tables.usedFlags(LOW, 1));
            linear.paging(linear.paging().withWriteProtect(true));
            GuestPageFault fault = assertThrows(GuestPageFaultException.class, () -> linear.putLong(LOW, 1))
                    .fault();
            assertEquals("gva=0x7f0040201000, errorCode=0x3 (present write supervisor)", fault.toString());
        }
    }

    @Test
    void accessBitsOfTheHostFollowTheReference() {
        // Reference 6.2, the A/D variant of the basic EPT test: with A/D on guest tables are A+D, with A/D off
        // nothing.
        for (AccessedDirty bits : AccessedDirty.values()) {
            Vm vm = GuestVms.vm(vms, VmConfig.builder().accessedDirty(bits));
            GuestTables tables = GuestVms.tables(vm, 4);
            tables.map(LOW, DATA, PageSize.SIZE_4K, RW);
            tables.map(LOW + KIB_4, DATA + KIB_4, PageSize.SIZE_4K, RW);
            try (Vcpu vcpu = vm.createVcpu()) {
                GuestLinear linear = GuestVms.enable(vcpu, tables, 4);

                linear.getLong(LOW);
                linear.putLong(LOW + KIB_4, 1);

                if (bits == AccessedDirty.ON) {
                    assertEquals("A", used(vm, DATA));
                    assertEquals("AD", used(vm, DATA + KIB_4));
                    for (int level = 1; level <= 4; level++) {
                        assertEquals("AD", used(vm, tables.addressOf(LOW, level)), "table of level " + level);
                    }
                }
                assertEquals("A A A A", tables.usedFlags(LOW, 1));
                assertEquals("A A A AD", tables.usedFlags(LOW + KIB_4, 1));
            }
        }
    }

    private static String used(Vm vm, long gpa) {
        Translation translation = vm.translate(gpa).orElseThrow();
        return (translation.accessed() ? "A" : "") + (translation.dirty() ? "D" : "");
    }

    @Test
    void withoutFlagsOfTheHostOnlyFlagsThatAreSetAreStores() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder().accessedDirty(AccessedDirty.OFF));
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW | 0x60);
        for (int level = 2; level <= 4; level++) {
            tables.setEntry(LOW, level, tables.entry(LOW, level) | 0x20);
        }
        MemSlot slot = TestVms.slotAt(vm, TABLES);
        DirtyLog log = vm.startDirtyLog(slot);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            log.harvest();

            linear.putLong(LOW, 1);
            assertEquals(0, log.harvest().count(), "flags that are set already store nothing");

            tables.setEntry(LOW, 1, tables.entry(LOW, 1) & ~0x40L);
            log.harvest();
            linear.moveToCr3(tables.cr3());
            linear.putLong(LOW, 1);
            assertEquals(1, log.harvest().count(), "D of the leaf");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void flagsThatTheHardwareSetsAreLogged(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW);
        DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, TABLES));
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            log.harvest();

            linear.getLong(LOW);

            assertEquals(levels, log.harvest().count(), "a page for each level");
            assertEquals(0, log.harvest().count());
            tables.setEntry(LOW, 1, tables.entry(LOW, 1) & ~0x20L);
            log.harvest();
            linear.invlpg(LOW);
            linear.getLong(LOW);
            assertTrue(log.harvest().count() >= 1, "A of the leaf");
            assertEquals(0x20, tables.entry(LOW, 1) & 0x60);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void kernelMendsItsTablesOnDemand(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        List<GuestPageFault> faults = new ArrayList<>();
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            linear.user(true);
            linear.onPageFault(fault -> {
                faults.add(fault);
                long page = fault.gva() & -KIB_4;
                boolean store = (fault.errorCode() & GuestPageFault.WRITE) != 0;
                tables.map(page, DATA + (page & 0xf000), PageSize.SIZE_4K, store ? URW : URW & ~2L);
                return faults.size() < 5;
            });

            assertEquals(0, linear.getLong(LOW + 8));
            linear.putLong(LOW + 8, 3);
            linear.putLong(LOW + 2 * KIB_4, 4);

            assertEquals(3, linear.getLong(LOW + 8));
            assertEquals(
                    List.of(
                            new GuestPageFault(LOW + 8, 0x4),
                            new GuestPageFault(LOW + 8, 0x7),
                            new GuestPageFault(LOW + 2 * KIB_4, 0x6)),
                    faults);
            assertEquals(Optional.of(new GuestPageFault(0, 0x4)), linear.probe(0, Access.READ));
            assertEquals(3, faults.size(), "a probe asks nobody");
        }
    }

    @Test
    void addressesThatAreNotCanonicalAreNoPageFaults() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder());
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(HIGH, DATA, PageSize.SIZE_4K, RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertThrows(IllegalStateException.class, vcpu::linear);
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            linear.getLong(HIGH);

            var high = assertThrows(NonCanonicalAddressException.class, () -> linear.getLong(HIGH & -1L >>> 1));
            assertTrue(high.getMessage().contains("linearAddressBits=48"), high.getMessage());
            assertThrows(NonCanonicalAddressException.class, () -> linear.getLong(1L << 47));
            assertThrows(NonCanonicalAddressException.class, () -> linear.putLong((1L << 47) - 4, 1));
            linear.invlpg(1L << 47);
            linear.getLong(HIGH);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void devicesBehindLinearAddressesGetGuestPhysicalOnes(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        long device = 0x8000_0000L;
        tables.map(LOW, device, PageSize.SIZE_4K, RW);
        tables.map(LOW + KIB_4, DATA, PageSize.SIZE_4K, RW);
        Registers registers = new Registers();
        vm.addMmio(device, KIB_4, registers);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            linear.putInt(LOW + 16, 7);
            int value = linear.getInt(LOW + 16);

            assertEquals(0x8586_8788, value);
            assertEquals(List.of("w4@80000010=7", "r4@80000010"), registers.log);
            assertEquals(
                    "AD",
                    tables.usedFlags(LOW, 1).substring(tables.usedFlags(LOW, 1).length() - 2));
            assertRefused(Reason.ATOMIC_ON_MMIO, device, () -> linear.compareAndSetInt(LOW, 0, 1));
            assertRefused(Reason.FETCH_FROM_MMIO, device, () -> linear.fetch(LOW));
            assertFalse(linear.touch(LOW, Access.READ));
            linear.putShort(LOW + KIB_4 - 1, (short) 0x0201);
            assertEquals("w1@80000fff=1", registers.log.getLast());
            assertEquals(2, linear.getByte(LOW + KIB_4));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void tablesWhereNoMemoryIsAreRefused(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        long device = 0x8000_0000L;
        long numbers = 0x9000_0000L;
        vm.addMmio(device, KIB_4, new Registers());
        vm.addSlot(2, numbers, KIB_4, Backing.synthetic(PageSize.SIZE_4K));
        tables.setEntry(LOW, 2, device | URW);
        tables.setEntry(LOW + MIB_2, 2, 0xa000_0000L | URW);
        tables.setEntry(LOW + 2 * MIB_2, 2, numbers | URW);
        tables.map(LOW + 3 * MIB_2, numbers, PageSize.SIZE_4K, RW);
        long limit = vm.config().guestAddressLimit();
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            assertRefused(Reason.TABLE_ON_MMIO, device + 8, () -> linear.getLong(LOW & -MIB_2 | KIB_4));
            assertRefused(Reason.NO_SLOT, 0xa000_0000L + 8, () -> linear.getLong(LOW + MIB_2));
            assertRefused(Reason.NO_BYTES, numbers + 8, () -> linear.getLong(LOW + 2 * MIB_2));
            assertRefused(Reason.NO_BYTES, numbers, () -> linear.getLong(LOW + 3 * MIB_2));
            assertTrue(linear.touch(LOW + 3 * MIB_2, Access.WRITE));
            linear.paging(linear.paging().withPhysicalAddressBits(52));
            tables.setEntry(LOW, 2, limit | URW);
            assertRefused(Reason.BEYOND_LIMIT, limit + 8, () -> linear.getLong(LOW));
            tables.map(LOW + 3 * MIB_2, limit, PageSize.SIZE_4K, RW);
            linear.invlpg(LOW + 3 * MIB_2);
            assertRefused(Reason.BEYOND_LIMIT, limit, () -> linear.getLong(LOW + 3 * MIB_2));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void watchersSeeTheFlagsThatAreSetInWatchedTables(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW);
        long leaf = tables.addressOf(LOW, 1);
        long above = tables.addressOf(LOW, 2);
        List<String> seen = new ArrayList<>();
        try (Vcpu vcpu = vm.createVcpu();
                WriteWatch first =
                        vm.watchWrites(leaf, 8, (gpa, bytes, value) -> seen.add(gpa + "=" + (value & 0x60)));
                WriteWatch second =
                        vm.watchWrites(above, 8, (gpa, bytes, value) -> seen.add(gpa + "=" + (value & 0x60)))) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            linear.putLong(LOW, 7);

            assertEquals(List.of(above + "=32", leaf + "=96"), seen);
            assertEquals(7, linear.getLong(LOW));
            linear.invlpg(LOW);
            assertEquals(7, linear.getLong(LOW), "tables are read though they cannot be stored to");
            assertEquals(2, seen.size());
            assertTrue(first.covers(leaf >>> 12) && second.covers(above >>> 12));
        }
    }

    @Test
    void onlyTheAccessThatMeetsAWatchedTableIsEmulated() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder());
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW);
        DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, TABLES));
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            WriteWatch watch = vm.watchWrites(tables.addressOf(LOW, 1), 8, (gpa, bytes, value) -> {});
            linear.putLong(LOW, 7);
            watch.close();
            log.harvest();

            linear.moveToCr3(tables.cr3());
            linear.putLong(LOW, 8);

            assertEquals(4, log.harvest().count(), "reads of tables count as stores again");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void tablesInAReadOnlySlotWorkIfTheirFlagsAreSet(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        long rom = 0x2000_0000L;
        vm.addSlot(2, rom, KIB_4, TestVms.SMALL, SlotFlag.READ_ONLY);
        tables.setEntry(LOW, 2, rom | URW);
        vm.memory().putLong(rom + 8, DATA | RW | 0x60);
        vm.memory().putLong(rom + 16, DATA | RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);

            linear.putLong(LOW, 7);

            assertEquals(7, vcpu.getLong(DATA));
            assertRefused(Reason.READ_ONLY, rom + 16, () -> linear.getLong(LOW + KIB_4));
        }
    }

    @Test
    void guestsOfFiveLevelsReachAddressesOf57Bits() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder().pagingMode(PagingMode.EPT5));
        GuestTables tables = GuestVms.tables(vm, 5);
        long gva = 0xff00_1234_5678_9000L;
        tables.map(gva, DATA, PageSize.SIZE_4K, RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 5);

            linear.putLong(gva, 9);

            assertEquals(9, vcpu.getLong(DATA));
            assertEquals(57, linear.paging().linearAddressBits());
            assertThrows(NonCanonicalAddressException.class, () -> linear.getLong(1L << 56));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void closedVcpusAndVmsAreNotUsed(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW);
        Vcpu open = vm.createVcpu();
        Vcpu closed = vm.createVcpu();
        GuestLinear stays = GuestVms.enable(open, tables, levels);
        GuestLinear goes = GuestVms.enable(closed, tables, levels);
        stays.putLong(LOW, 1);
        goes.putLong(LOW, 2);

        closed.close();
        assertThrows(IllegalStateException.class, () -> goes.getLong(LOW));
        assertEquals(2, stays.getLong(LOW));
        vm.close();
        assertThrows(VmClosedException.class, () -> stays.getLong(LOW));
        assertThrows(VmClosedException.class, () -> open.enablePaging(stays.paging()));
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void accessWaitsForRoomInTheDirtyRing(VmConfig.Builder config, int levels) {
        Vm vm = vms.vm(config.dirtyTracking(DirtyTracking.RING).dirtyRingEntries(1024));
        vm.addMemory(0, TABLES, GuestVms.TABLES_BYTES, PageSize.SIZE_4K);
        vm.addMemory(1, DATA, 8 * MIB_2, PageSize.SIZE_4K, SlotFlag.LOG_DIRTY);
        GuestTables tables = GuestVms.tables(vm, levels);
        for (int page = 0; page < 2048; page++) {
            tables.map(LOW + page * KIB_4, DATA + page * KIB_4, PageSize.SIZE_4K, RW);
        }
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            Set<Long> logged = new HashSet<>();
            vcpu.onDirtyRingFull(() -> {
                vcpu.collectDirty((slot, page) -> logged.add(page), Integer.MAX_VALUE);
                vm.resetDirtyRings();
            });

            for (int page = 0; page < 2048; page++) {
                linear.putLong(LOW + page * KIB_4, page);
            }
            vm.drainHardwareLogs();
            vcpu.collectDirty((slot, page) -> logged.add(page), Integer.MAX_VALUE);

            assertEquals(2048, logged.size());
            vcpu.onDirtyRingFull(null);
            var full = assertThrows(GuestAccessException.class, () -> {
                for (int page = 0; page < 2048; page++) {
                    linear.putLong(LOW + page * KIB_4, page);
                }
                vm.resetDirtyRings();
                for (int page = 0; page < 2048; page++) {
                    linear.putLong(LOW + page * KIB_4, page);
                }
            });
            assertEquals(Reason.DIRTY_RING_FULL, full.reason());
        }
    }

    @Test
    void registersAreChecked() {
        assertThrows(IllegalArgumentException.class, () -> GuestPaging.of(0, 3));
        assertThrows(IllegalArgumentException.class, () -> GuestPaging.of(1, 4));
        assertThrows(IllegalArgumentException.class, () -> GuestPaging.of(1L << 46, 4));
        assertThrows(IllegalArgumentException.class, () -> GuestPaging.of(0, 4).withPhysicalAddressBits(53));
    }
}
