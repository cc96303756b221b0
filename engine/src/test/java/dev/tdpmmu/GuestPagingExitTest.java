package dev.tdpmmu;

import static dev.tdpmmu.GuestVms.DATA;
import static dev.tdpmmu.GuestVms.LOW;
import static dev.tdpmmu.GuestVms.RW;
import static dev.tdpmmu.GuestVms.URW;
import static dev.tdpmmu.TestVms.KIB_4;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPageWalker;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.LinearResult;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.sync.ReaderSlot;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What the second level reports when it refuses an entry of the guest's tables, or the byte behind them. */
class GuestPagingExitTest {
    @RegisterExtension
    final TestVms vms = new TestVms();

    private Vm vm;
    private VcpuMmu part;
    private HardwareWalker walker;
    private GuestPaging paging;
    private final LinearResult result = new LinearResult();

    @AfterEach
    void closePart() {
        vm.mmu().closeVcpu(part);
    }

    private GuestTables makeGuest(PagingMode mode, AccessedDirty bits, boolean advanced) {
        vm = GuestVms.vm(
                vms,
                VmConfig.builder()
                        .pagingMode(mode)
                        .accessedDirty(bits)
                        .hardware(HardwareConfig.DEFAULT.withAdvancedExitInfo(advanced)));
        part = vm.mmu().createVcpu("walking");
        assertTrue(vm.mmu().loadRoot(part));
        walker = HardwareWalker.of(vm.config());
        GuestTables tables = GuestVms.tables(vm, 4);
        paging = GuestPaging.of(tables.cr3(), 4);
        return tables;
    }

    /** The exit of a walk with empty TLBs. */
    private long exitOf(long gva, int access) {
        part.slot().enter(ReaderSlot.WALKING);
        int outcome = new GuestPageWalker(walker, vm.config())
                .walk(
                        new Tlb(),
                        new LinearTlb(),
                        walker.makeRootPointer(part.root().hpa()),
                        paging,
                        gva,
                        access,
                        result);
        part.slot().leave(ReaderSlot.OUTSIDE);
        assertEquals(GuestPageWalker.SECOND_LEVEL, outcome);
        assertEquals(HardwareWalker.VIOLATION, result.secondLevel);
        return result.walk.exit;
    }

    /** Reference 6.2: an absent table is RD, with A/D also WR, and the bit of the linear address only. */
    @ParameterizedTest
    @CsvSource({
        "EPT4, ON,  0x83,        0xab,        0x182,       0x184",
        "EPT5, ON,  0x83,        0xab,        0x182,       0x184",
        "EPT4, OFF, 0x81,        0xaa,        0x182,       0x184",
        "NPT4, ON,  0x200000006, 0x200000007, 0x100000006, 0x100000014",
        "NPT5, ON,  0x200000006, 0x200000007, 0x100000006, 0x100000014",
    })
    void exitTellsTablesFromPages(
            PagingMode mode, AccessedDirty bits, String absent, String readOnly, String store, String fetch) {
        GuestTables tables = makeGuest(mode, bits, false);
        tables.map(LOW, DATA, PageSize.SIZE_4K, RW);

        for (int level = 4; level >= 1; level--) {
            assertEquals(Long.decode(absent), exitOf(LOW, Access.READ), "table of level " + level);
            assertEquals(tables.addressOf(LOW, level), result.secondLevelGpa);
            map(tables.addressOf(LOW, level));
        }
        assertEquals(Long.decode(store), exitOf(LOW + 5, Access.WRITE));
        assertEquals(DATA + 5, result.secondLevelGpa);
        assertEquals(Long.decode(fetch), exitOf(LOW, Access.EXECUTE));

        tables.setEntry(LOW, 1, tables.entry(LOW, 1) & ~(GuestPageEntry.ACCESSED | GuestPageEntry.DIRTY));
        long leafTable = Gfn.of(tables.addressOf(LOW, 1));
        vm.mmu().ranges().writeProtect(leafTable, leafTable + 1);
        assertEquals(Long.decode(readOnly), exitOf(LOW, Access.READ), "read-only table");
        assertEquals(Gfn.toGpa(leafTable), result.secondLevelGpa & -KIB_4);
    }

    /** Maps a page, stored to, as the MMU does for whoever faults. */
    private void map(long gpa) {
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(gpa & -KIB_4, vcpu.getLong(gpa & -KIB_4));
        }
    }

    @ParameterizedTest
    @CsvSource({"0x1, 0x981", "0x3, 0x581", "0x7, 0x781", "0x5, 0xb81"})
    void advancedInformationIsWhatTheGuestsTablesSay(String flags, String expected) {
        GuestTables tables = makeGuest(PagingMode.EPT4, AccessedDirty.ON, true);
        long noExecute = flags.equals("0x1") || flags.equals("0x5") ? GuestPageEntry.NO_EXECUTE : 0;
        tables.map(LOW, DATA, PageSize.SIZE_4K, Long.decode(flags) & URW | noExecute);
        for (int level = 4; level >= 1; level--) {
            map(tables.addressOf(LOW, level));
        }

        assertEquals(Long.decode(expected), exitOf(LOW, Access.READ));
    }
}
