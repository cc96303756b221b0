package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.Counter;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every invariant is broken once, and the verifier must name it; the entry is put back and the tree is whole again. */
class TreeVerifierTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";
    private static final long DEVICE = 3 * GIB_1;

    private static MmuFixture mapped(VmConfig.Builder builder) {
        MmuFixture f = new MmuFixture(builder);
        f.add(0, 0, MIB_2, PageSize.SIZE_4K);
        f.add(1, GIB_1, MIB_2, PageSize.SIZE_2M);
        f.add(2, 2 * GIB_1, GIB_1, PageSize.SIZE_1G);
        f.fault(0, Access.WRITE);
        f.fault(KIB_4, Access.WRITE);
        f.fault(GIB_1, Access.WRITE);
        f.fault(2 * GIB_1, Access.WRITE);
        f.fault(DEVICE, Access.READ);
        return f;
    }

    /** Plants a value in the entry of a level on the way to an address, expects a message, and takes the value out again. */
    private static void assertFound(MmuFixture f, String what, long gpa, int level, long planted) {
        long address = f.addressOf(gpa, level);
        long before = SpteAccess.readAcquire(address);
        SpteAccess.setRelease(address, planted);

        assertThrown(f, what);

        SpteAccess.setRelease(address, before);
        f.mmu.verify();
    }

    private static void assertThrown(MmuFixture f, String what) {
        MmuCorruptionException thrown = assertThrows(MmuCorruptionException.class, f.mmu::verify, what);
        assertTrue(thrown.getMessage().startsWith(what), thrown.getMessage());
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void wholeTreeIsCounted(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            TreeCensus census = f.mmu.verify();

            int levels = f.config.pagingMode().levels();
            assertEquals(new TreeCensus(2, 1, 1, levels + 3, 1, 1), census);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void frozenEntryIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            assertFound(f, "frozen entry at rest: hpa=0x", KIB_4, PagingLevel.L4K, Spte.FROZEN);
            assertFound(f, "frozen entry at rest: hpa=0x", GIB_1, PagingLevel.L2M, Spte.FROZEN);
            assertFound(f, "frozen entry at rest: hpa=0x", 0, PagingLevel.L1G, Spte.FROZEN);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void illegalEntryIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long leaf = f.read(0);

            assertFound(f, "entry is illegal: gfn=0x0, level=4K", 0, PagingLevel.L4K, 0x10);
            assertFound(f, "entry is illegal: gfn=0x0, level=4K", 0, PagingLevel.L4K, leaf | Spte.PAGE_SIZE);
            assertFound(f, "entry is illegal: gfn=0x40000, level=2M", GIB_1, PagingLevel.L2M, f.read(GIB_1) | KIB_4);
            assertFound(f, "entry is illegal", 0, PagingLevel.L512G, f.read(2 * GIB_1));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void leafOfAForeignFrameIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            assertFound(f, "leaf maps a foreign frame: gfn=0x0, level=4K", 0, PagingLevel.L4K, f.read(KIB_4));
            assertFound(
                    f,
                    "leaf maps a foreign frame: gfn=0x40000, level=2M",
                    GIB_1,
                    PagingLevel.L2M,
                    f.read(GIB_1) ^ MIB_2);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void leafOutsideItsSlotIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long frame = f.format.address(f.read(GIB_1));
            long next = f.format.makeLeaf(frame + MIB_2, PagingLevel.L2M, Access.ALL, true, false);
            long overEnd = f.format.makeLeaf(frame & -GIB_1, PagingLevel.L1G, Access.ALL, true, false);

            assertFound(f, "leaf outside its slot: gfn=0x40200, level=2M", GIB_1 + MIB_2, PagingLevel.L2M, next);
            assertFound(f, "leaf outside its slot: gfn=0x40000, level=1G", GIB_1, PagingLevel.L1G, overEnd);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void mmioEntryOfAnotherGfnIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long other = f.format.makeMmio(7, Access.READ, 0);

            assertFound(f, "MMIO entry of another gfn: gfn=0xc0000, level=4K", DEVICE, PagingLevel.L4K, other);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void tableOutsideThePartForTablesIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long frame = f.format.makeTable(HostMemory.SIZE / 2);

            assertFound(f, "table lies outside the part for tables: hpa=0x", 0, PagingLevel.L2M, frame);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void tableThatIsLinkedTwiceIsFound(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long table = SpteAccess.readAcquire(f.addressOf(0, PagingLevel.L2M));

            assertFound(f, "table is linked twice: hpa=0x", MIB_2, PagingLevel.L2M, table);
        }
    }

    @Test
    void headerOfAnotherPlaceIsFound() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            long table = f.tableOf(0, PagingLevel.L4K);
            long parent = f.addressOf(0, PagingLevel.L2M);

            assertHeaderFound(f, table, () -> TableHeaders.describe(table, 0x200, 1, parent));
            assertHeaderFound(f, table, () -> TableHeaders.describe(table, 0, 2, parent));
            assertHeaderFound(f, table, () -> TableHeaders.describe(table, 0, 1, parent + 8));
            assertHeaderFound(f, table, () -> TableHeaders.retire(table, 0));
        }
    }

    private static void assertHeaderFound(MmuFixture f, long table, Runnable plant) {
        plant.run();

        assertThrown(f, "header disagrees with the table's place: state=");

        TableHeaders.describe(table, 0, 1, f.addressOf(0, PagingLevel.L2M));
        f.mmu.verify();
    }

    @Test
    void tablePageOfAnotherVmIsFound() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            TablePool foreign = new TablePool(MmuFixture.VM_ID + 1, new MemoryAccount(1L << 30));
            long page = foreign.take();
            long parent = f.addressOf(MIB_2, PagingLevel.L2M);
            TableHeaders.describe(page, 0x200, 1, parent);

            assertFound(
                    f,
                    "header disagrees with the table's place: state=",
                    MIB_2,
                    PagingLevel.L2M,
                    f.format.makeTable(page));

            foreign.give(page);
            foreign.close();
        }
    }

    @Test
    void everyWrongCounterIsFoundByName() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            assertCounterFound(f, Counter.PAGES_4K, "pages_4k, counted=3, found=2");
            assertCounterFound(f, Counter.PAGES_2M, "pages_2m, counted=2, found=1");
            assertCounterFound(f, Counter.PAGES_1G, "pages_1g, counted=2, found=1");
            assertCounterFound(f, Counter.TABLES, "table pages, counted=8, found=7");
        }
    }

    private static void assertCounterFound(MmuFixture f, int counter, String what) {
        f.worker.count(counter, 1);

        assertThrown(f, "counter disagrees with the tree: what=" + what);

        f.worker.count(counter, -1);
        f.mmu.verify();
    }

    @Test
    void storesThroughAReadOnlySlotAreFound() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K, SlotFlag.READ_ONLY);
            f.fault(0, Access.READ);
            long writable = f.format.makeLeaf(f.format.address(f.read(0)), PagingLevel.L4K, Access.ALL, true, false);

            assertFound(f, "leaf allows more than its slot: gfn=0x0, level=4K", 0, PagingLevel.L4K, writable);
        }
    }
}
