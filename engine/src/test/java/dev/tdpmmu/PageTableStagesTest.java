package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The stages of the kernel's kvm_page_table_test: BEFORE (nothing is mapped), CREATE (mapped at the size of the
 * backing), UPDATE (a dirty log: page by page), ADJUST (no log: coalesced). Even vCPUs write, odd ones read.
 */
class PageTableStagesTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final long BLOCKS = 4;
    private static final long PAGES_PER_BLOCK = MIB_2 / KIB_4;
    private static final long HALF = BLOCKS / 2 * MIB_2;
    private static final long GIB_1 = PageSize.SIZE_1G.bytes();

    @RegisterExtension
    final TestVms vms = new TestVms();

    private static void touchAll(Vcpu vcpu, long gpa, long bytes, int access) {
        for (long at = gpa; at < gpa + bytes; at += KIB_4) {
            assertTrue(vcpu.touch(at, access));
        }
    }

    private static void assertPages(String stage, Vm vm, long pages4k, long pages2m, long pages1g, long tables) {
        VmStats stats = vm.stats();
        assertEquals(pages4k, stats.pages4k(), stage + ": pages_4k");
        assertEquals(pages2m, stats.pages2m(), stage + ": pages_2m");
        assertEquals(pages1g, stats.pages1g(), stage + ": pages_1g");
        assertEquals(tables, stats.tablePages(), stage + ": tables");
        vm.verify();
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void blocksAreSplitAheadAndCoalesced(VmConfig.Builder config) {
        Vm vm = vms.vm(config.eagerSplit(true));
        // The root, one table of level 3 or two of levels 4 and 3, and one of level 2.
        long upper = vm.config().pagingMode().levels() - 1;
        MemSlot slot = vm.addSlot(0, 0, BLOCKS * MIB_2, HUGE);
        try (Vcpu writer = vm.createVcpu();
                Vcpu reader = vm.createVcpu()) {
            assertPages("BEFORE", vm, 0, 0, 0, 0);

            touchAll(writer, 0, HALF, Access.WRITE);
            touchAll(reader, HALF, HALF, Access.READ);
            assertPages("CREATE", vm, 0, BLOCKS, 0, upper);

            DirtyLog log = vm.startDirtyLog(slot);
            assertPages("UPDATE begins", vm, BLOCKS * PAGES_PER_BLOCK, 0, 0, upper + BLOCKS);
            touchAll(writer, 0, HALF, Access.WRITE);
            touchAll(reader, HALF, HALF, Access.READ);
            assertPages("UPDATE", vm, BLOCKS * PAGES_PER_BLOCK, 0, 0, upper + BLOCKS);
            assertEquals(BLOCKS / 2 * PAGES_PER_BLOCK, log.harvest().count());

            log.stop();
            assertPages("ADJUST begins", vm, 0, BLOCKS, 0, upper);
            touchAll(writer, 0, HALF, Access.WRITE);
            touchAll(reader, HALF, HALF, Access.READ);
            assertPages("ADJUST", vm, 0, BLOCKS, 0, upper);
        }
    }

    /** every block that may be huge is huge again when the log has ended, also if stores had split it. */
    @ParameterizedTest
    @MethodSource(MATRIX)
    void blocksThatStoresSplitAreCoalesced(VmConfig.Builder config) {
        Vm vm = vms.vm(config.eagerSplit(false));
        long upper = vm.config().pagingMode().levels() - 1;
        MemSlot slot = vm.addSlot(0, 0, BLOCKS * MIB_2, HUGE);
        try (Vcpu writer = vm.createVcpu();
                Vcpu reader = vm.createVcpu()) {
            touchAll(writer, 0, HALF, Access.WRITE);
            touchAll(reader, HALF, HALF, Access.READ);
            assertPages("CREATE", vm, 0, BLOCKS, 0, upper);

            DirtyLog log = vm.startDirtyLog(slot);
            assertPages("UPDATE begins", vm, 0, BLOCKS, 0, upper);
            touchAll(writer, 0, HALF, Access.WRITE);
            touchAll(reader, HALF, HALF, Access.READ);
            assertPages("UPDATE", vm, BLOCKS / 2 * PAGES_PER_BLOCK, BLOCKS / 2, 0, upper + BLOCKS / 2);

            log.stop();
            assertPages("ADJUST", vm, 0, BLOCKS, 0, upper);
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void logThatBeginsFullTouchesNothing(VmConfig.Builder config) {
        Vm vm = vms.vm(config.dirtyTracking(DirtyTracking.INITIALLY_SET).eagerSplit(true));
        long upper = vm.config().pagingMode().levels() - 1;
        MemSlot slot = vm.addSlot(0, 0, BLOCKS * MIB_2, HUGE);
        try (Vcpu writer = vm.createVcpu()) {
            touchAll(writer, 0, BLOCKS * MIB_2, Access.WRITE);

            DirtyLog log = vm.startDirtyLog(slot);
            assertPages("UPDATE begins", vm, 0, BLOCKS, 0, upper);
            assertEquals(BLOCKS * PAGES_PER_BLOCK, log.clear(0, slot.pages()));
            assertPages("UPDATE", vm, BLOCKS * PAGES_PER_BLOCK, 0, 0, upper + BLOCKS);

            log.stop();
            assertPages("ADJUST", vm, 0, BLOCKS, 0, upper);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void gibibyteGoesThroughAllLevels(boolean eager) {
        Vm vm = vms.vm(VmConfig.builder().eagerSplit(eager));
        long upper = vm.config().pagingMode().levels() - 2;
        MemSlot slot = vm.addSlot(0, 0, GIB_1, Backing.synthetic(PageSize.SIZE_1G));
        try (Vcpu writer = vm.createVcpu()) {
            writer.touch(0, Access.WRITE);
            assertPages("CREATE", vm, 0, 0, 1, upper);

            DirtyLog log = vm.startDirtyLog(slot);
            touchAll(writer, 0, GIB_1, Access.WRITE);
            assertPages("UPDATE", vm, GIB_1 / KIB_4, 0, 0, upper + 1 + 512);

            log.stop();
            assertPages("ADJUST", vm, 0, 0, 1, upper);
        }
    }
}
