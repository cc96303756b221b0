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
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPageFault;
import dev.tdpmmu.slot.MemSlot;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** What a guest sees of its tables before and after it flushes, and in which mode. */
class GuestTlbTest {
    private static final String MATRIX = "dev.tdpmmu.GuestVms#matrix";
    private static final long HUGE = 0x7f00_8000_0000L;
    private static final long OLD = DATA;
    private static final long NEW = DATA + MIB_2;

    @RegisterExtension
    final TestVms vms = new TestVms();

    /** A page and a global one, both used, whose leaves then are changed behind the TLB's back. */
    private GuestLinear changedBehindTheTlb(Vm vm, Vcpu vcpu, GuestTables tables, int levels) {
        vcpu.putLong(OLD, 1);
        vcpu.putLong(OLD + KIB_4, 1);
        vcpu.putLong(NEW, 2);
        vcpu.putLong(NEW + KIB_4, 2);
        GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
        linear.vpid(2);
        map(tables, OLD);
        linear.getLong(LOW);
        linear.getLong(HIGH);
        linear.vpid(1);
        linear.getLong(LOW);
        linear.getLong(HIGH);
        map(tables, NEW);
        assertEquals("11", seen(linear), "a TLB keeps what nobody flushes");
        return linear;
    }

    private static void map(GuestTables tables, long where) {
        tables.map(LOW, where, PageSize.SIZE_4K, URW);
        tables.map(HIGH, where + KIB_4, PageSize.SIZE_4K, RW | GuestPageEntry.GLOBAL);
    }

    private static String seen(GuestLinear linear) {
        return "" + linear.getLong(LOW) + linear.getLong(HIGH);
    }

    @ParameterizedTest
    @CsvSource({
        "INVLPG,                   21, 11",
        "INVLPG of a global page,  12, 11",
        "MOV to CR3,               21, 11",
        "INVVPID address,          21, 11",
        "INVVPID address of 2,     11, 21",
        "INVVPID single,           22, 11",
        "INVVPID all,              22, 22",
        "INVVPID globals,          21, 11",
        "INVEPT,                   22, 22",
        "SMEP,                     22, 11",
        "WP,                       11, 11",
        "PKRU,                     11, 11",
        "host flush of the page,   21, 21",
        "host takes the slot,      22, 22",
    })
    void changesOfGuestTablesAreSeenAfterTheRightFlush(String flush, String expected, String expectedOfOther) {
        Vm vm = GuestVms.vm(vms, VmConfig.builder());
        GuestTables tables = GuestVms.tables(vm, 4);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = changedBehindTheTlb(vm, vcpu, tables, 4);

            flush(flush, vm, linear, tables);

            assertEquals(expected, seen(linear));
            linear.vpid(2);
            assertEquals(expectedOfOther, seen(linear));
        }
    }

    private static void flush(String name, Vm vm, GuestLinear linear, GuestTables tables) {
        switch (name) {
            case "INVLPG" -> linear.invlpg(LOW + 5);
            case "INVLPG of a global page" -> linear.invlpg(HIGH);
            case "MOV to CR3" -> linear.moveToCr3(tables.cr3());
            case "INVVPID address" -> linear.invvpid(InvvpidType.INDIVIDUAL_ADDRESS, 1, LOW);
            case "INVVPID address of 2" -> linear.invvpid(InvvpidType.INDIVIDUAL_ADDRESS, 2, LOW);
            case "INVVPID single" -> linear.invvpid(InvvpidType.SINGLE_CONTEXT, 1, 0);
            case "INVVPID all" -> linear.invvpid(InvvpidType.ALL_CONTEXTS, 0, 0);
            case "INVVPID globals" -> linear.invvpid(InvvpidType.SINGLE_CONTEXT_RETAINING_GLOBALS, 1, 0);
            case "INVEPT" -> linear.invept();
            case "SMEP" -> linear.paging(linear.paging().withSmep(true));
            case "WP" -> linear.paging(linear.paging().withWriteProtect(false));
            case "PKRU" -> linear.paging(linear.paging().withPkru(-1));
            case "host flush of the page" -> vm.shootdown().flushRange(Gfn.of(OLD), Gfn.of(OLD) + 1);
            case "host takes the slot" -> {
                MemSlot slot = vm.addSlot(9, 0, KIB_4, TestVms.SMALL);
                vm.removeSlot(slot);
            }
            default -> throw new IllegalArgumentException("no such flush: name=" + name);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void tablesThatAreCachedAreNotReadAgain(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW);
        tables.map(LOW + KIB_4, DATA, PageSize.SIZE_4K, URW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            linear.getLong(LOW);
            long above = tables.entry(LOW, 2);

            tables.setEntry(LOW, 2, 0);
            assertEquals(0, linear.getLong(LOW + KIB_4), "the leaf's table is cached");
            linear.invlpg(LOW + KIB_4);
            GuestPageFault fault = assertThrows(GuestPageFaultException.class, () -> linear.getLong(LOW + KIB_4))
                    .fault();
            assertEquals(0, fault.errorCode());
            assertEquals(0, linear.getLong(LOW), "the mapping itself is cached still");

            tables.setEntry(LOW, 2, above);
            assertEquals(0, linear.getLong(LOW + KIB_4), "what is not present is not cached");
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void leavesOfCachedTablesAreJudgedAsIfTheWalkBeganAtTheTop(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config);
        GuestTables tables = GuestVms.tables(vm, levels);
        long used = URW | GuestPageEntry.ACCESSED | GuestPageEntry.DIRTY;
        tables.map(LOW, DATA, PageSize.SIZE_4K, used);
        tables.map(LOW + KIB_4, DATA, PageSize.SIZE_4K, used);
        tables.map(LOW + 2 * KIB_4, 1L << 46, PageSize.SIZE_4K, used);
        tables.map(LOW + 3 * KIB_4, DATA, PageSize.SIZE_4K, used | GuestPageEntry.NO_EXECUTE);
        tables.map(HIGH, DATA, PageSize.SIZE_4K, used);
        tables.map(HIGH + KIB_4, DATA, PageSize.SIZE_4K, used);
        tables.setEntry(LOW, 2, tables.entry(LOW, 2) & ~GuestPageEntry.WRITABLE);
        tables.setEntry(HIGH, 3, tables.entry(HIGH, 3) & ~GuestPageEntry.USER | GuestPageEntry.NO_EXECUTE);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            linear.getLong(LOW);
            linear.getLong(HIGH);

            assertCodes(linear, LOW + KIB_4, -1, 0x3, -1);
            linear.getLong(LOW);
            assertCodes(linear, LOW + 2 * KIB_4, 0x9);
            linear.getLong(LOW);
            assertCodes(linear, LOW + 3 * KIB_4, -1, 0x3, 0x11);
            assertCodes(linear, HIGH + KIB_4, -1, -1, 0x11);
            linear.getLong(HIGH);
            linear.user(true);
            assertCodes(linear, HIGH + KIB_4, 0x5);
        }
    }

    @Test
    void pageFaultFromAStaleTableIsSpurious() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder());
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW);
        tables.setEntry(LOW, 3, tables.entry(LOW, 3) & ~GuestPageEntry.WRITABLE);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            linear.getLong(LOW);
            int[] faults = new int[1];
            linear.onPageFault(fault -> ++faults[0] < 5);

            tables.setEntry(LOW, 3, tables.entry(LOW, 3) | GuestPageEntry.WRITABLE);
            linear.putLong(LOW, 1);

            assertEquals(1, faults[0], "the fault forgets the tables, so that it does not come back");
        }
    }

    @Test
    void unhelpfulMappingsFaultOnceUntilTheyAreForgotten() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder().hardware(HardwareConfig.DEFAULT.withTlb(TlbMode.UNHELPFUL)));
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW & ~GuestPageEntry.WRITABLE);
        tables.map(HUGE, DATA, PageSize.SIZE_2M, URW & ~GuestPageEntry.WRITABLE);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            linear.getLong(LOW);
            linear.getLong(HUGE);
            for (long gva : new long[] {LOW, HUGE}) {
                int level = gva == LOW ? 1 : 2;
                tables.setEntry(gva, level, tables.entry(gva, level) | GuestPageEntry.WRITABLE);

                assertCodes(linear, gva, -1, 0x3);
                assertCodes(linear, gva, -1, -1);
            }
        }
    }

    @Test
    void errorCodesSayWhatForbadeTheAccess() {
        Vm vm = GuestVms.vm(vms, VmConfig.builder());
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW | GuestPageEntry.key(3) | GuestPageEntry.NO_EXECUTE);
        tables.map(HIGH, DATA, PageSize.SIZE_4K, RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            for (int round = 0; round < 2; round++) {
                // The second time everything that can be cached is.
                linear.user(true);
                assertCodes(linear, HIGH, 0x5, 0x7, 0x15);
                assertCodes(linear, LOW, -1, -1, 0x15);
                linear.paging(linear.paging().withProtectionKeys(true).withPkru(2 << 6));
                assertCodes(linear, LOW, -1, 0x27, 0x15);
                linear.user(false);
                linear.paging(linear.paging().withPkru(1 << 6));
                assertCodes(linear, LOW, 0x21, 0x23, 0x11);
                linear.paging(linear.paging().withPkru(0).withSmap(true));
                assertCodes(linear, LOW, 0x1, 0x3, 0x11);
                linear.ac(true);
                assertCodes(linear, LOW, -1, -1, 0x11);
                linear.implicit(true);
                assertCodes(linear, LOW, 0x1, 0x3, 0x11);
                linear.implicit(false);
                linear.ac(false);
                assertCodes(linear, HIGH, -1, -1, -1);
                linear.paging(linear.paging().withSmap(false).withProtectionKeys(false));
            }
        }
    }

    /** Expects error codes of a load, a store and a fetch; -1 for none. */
    private static void assertCodes(GuestLinear linear, long gva, int... codes) {
        int[] accesses = {Access.READ, Access.WRITE, Access.EXECUTE};
        for (int i = 0; i < codes.length; i++) {
            long code = linear.probe(gva, accesses[i])
                    .map(GuestPageFault::errorCode)
                    .orElse(-1L);
            assertEquals(codes[i], code, "gva=0x" + Long.toHexString(gva) + ", access=" + Access.text(accesses[i]));
        }
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void privilegedFetchesFromUserPagesOfTheHostAreTrapped(TlbMode mode) {
        Vm vm = GuestVms.vm(
                vms,
                VmConfig.builder()
                        .pagingMode(PagingMode.NPT4)
                        .hardware(HardwareConfig.DEFAULT
                                .withGuestModeExecuteTrap(true)
                                .withTlb(mode)));
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            Consumer<Integer> fetchTwice = ignored -> linear.fetch(LOW);

            assertRefused(Reason.EXECUTE_TRAPPED, DATA, () -> fetchTwice.accept(0));
            linear.user(true);
            fetchTwice.accept(1);
            linear.user(false);
            assertRefused(Reason.EXECUTE_TRAPPED, DATA, () -> fetchTwice.accept(2));
            assertEquals(0, linear.getLong(LOW));
        }
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void modeBasedExecuteKnowsUserPagesOfTheGuest(TlbMode mode) {
        Vm vm = GuestVms.vm(
                vms,
                VmConfig.builder()
                        .hardware(HardwareConfig.DEFAULT
                                .withModeBasedExecute(true)
                                .withTlb(mode)));
        GuestTables tables = GuestVms.tables(vm, 4);
        tables.map(LOW, DATA, PageSize.SIZE_4K, URW);
        tables.map(HIGH, DATA, PageSize.SIZE_4K, RW);
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, 4);
            vcpu.putInt(DATA, 77);

            for (int round = 0; round < 2; round++) {
                assertEquals(77, linear.fetch(HIGH));
                linear.user(true);
                assertEquals(77, linear.fetch(LOW));
                linear.user(false);
                linear.invept();
            }
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void unhelpfulCachesSeeEveryChangeThatIsFlushed(VmConfig.Builder config, int levels) {
        Vm vm = GuestVms.vm(vms, config.hardware(HardwareConfig.DEFAULT.withTlb(TlbMode.UNHELPFUL)));
        GuestTables tables = GuestVms.tables(vm, levels);
        for (int page = 0; page < 16; page++) {
            tables.map(LOW + page * KIB_4, DATA + page * KIB_4, PageSize.SIZE_4K, RW);
        }
        DirtyLog log = vm.startDirtyLog(TestVms.slotAt(vm, DATA));
        DirtyLog tablesLog = vm.startDirtyLog(TestVms.slotAt(vm, TABLES));
        try (Vcpu vcpu = vm.createVcpu()) {
            GuestLinear linear = GuestVms.enable(vcpu, tables, levels);
            log.harvest();
            for (int round = 1; round <= 3; round++) {
                for (int page = 0; page < 16; page++) {
                    linear.getLong(LOW + page * KIB_4);
                    linear.putLong(LOW + page * KIB_4, round);
                }
                assertEquals(16, log.harvest().count(), "round " + round);
                tablesLog.harvest();
            }
            vm.discard(DATA, 16 * KIB_4);
            assertEquals(0, linear.getLong(LOW + 3 * KIB_4));
        }
    }
}
