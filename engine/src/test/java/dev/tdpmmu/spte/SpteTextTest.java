package dev.tdpmmu.spte;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import org.junit.jupiter.api.Test;

final class SpteTextTest {
    private static final SpteFormat EPT = SpteFormat.of(VmConfig.builder().build());
    private static final SpteFormat EPT_OFF =
            SpteFormat.of(VmConfig.builder().accessedDirty(AccessedDirty.OFF).build());
    private static final SpteFormat NPT =
            SpteFormat.of(VmConfig.builder().pagingMode(PagingMode.NPT4).build());

    @Test
    void namesTheSpecialValues() {
        assertEquals("non-present", SpteText.describe(EPT, Spte.NON_PRESENT, 1));
        assertEquals("FROZEN", SpteText.describe(NPT, Spte.FROZEN, 3));
        assertEquals(
                "MMIO gfn=0xfee00 rw- generation=77",
                SpteText.describe(NPT, NPT.makeMmio(0xfee00, Access.READ | Access.WRITE, 77), 1));
    }

    @Test
    void describesTablesAndLeaves() {
        long leaf = EPT.makeLeaf(0x20_0000, 2, Access.ALL, true, false) | EPT.accessedBit() | EPT.dirtyBit();
        long tracked = EPT_OFF.trackAccess(EPT_OFF.makeLeaf(0x5000, 1, Access.ALL, true, false));

        assertEquals("table 512G hpa=0x7000 rwx A", SpteText.describe(EPT, EPT.makeTable(0x7000), 4));
        assertEquals("leaf 2M hpa=0x200000 rwx host-writable mmu-writable A D", SpteText.describe(EPT, leaf, 2));
        assertEquals(
                "leaf 4K hpa=0x5000 --- tracked(r-x) host-writable mmu-writable",
                SpteText.describe(EPT_OFF, tracked, 1));
        assertEquals(
                "leaf 4K hpa=0x5000 r--",
                SpteText.describe(NPT, NPT.makeLeaf(0x5000, 1, Access.READ, false, false), 1));
    }

    @Test
    void showsWhatIsWrongInHex() {
        long leaf = EPT.makeLeaf(0x5000, 1, Access.READ, false, false);

        assertEquals("unknown bits=0x5000", SpteText.describe(EPT, 0x5000, 1));
        assertEquals(
                "leaf 4K hpa=0x5000 r-- unknown=0x4000000000000000 ILLEGAL raw=0x4000000000005831",
                SpteText.describe(EPT, leaf | 1L << 62, 1));
        assertEquals(
                "MMIO gfn=0x1 r-- generation=0 ILLEGAL raw=0x1006",
                SpteText.describe(EPT, EPT.makeMmio(1, Access.READ, 0), 2));
    }
}
