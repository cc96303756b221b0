package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.Counter;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Tests {@link FastFaultFixer} and {@link WriteProtector} together. */
class FastFaultFixerTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    private static MmuFixture mapped(VmConfig.Builder builder) {
        MmuFixture f = new MmuFixture(builder);
        f.add(0, 0, MIB_2, PageSize.SIZE_4K);
        f.add(1, MIB_2, MIB_2, PageSize.SIZE_2M);
        f.fault(0, Access.WRITE);
        f.fault(MIB_2, Access.WRITE);
        return f;
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void storeToAWriteProtectedLeafIsFixedWithoutTheLock(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            assertTrue(f.mmu.ranges().writeProtect(0, 0x400));
            assertEquals(List.of("0x0-0x40000"), f.tlb.calls, "whole leaves of any size");
            assertFalse(f.format.isWritable(f.read(0)));
            assertFalse(f.format.isWritable(f.read(MIB_2)));
            long taken = f.counted(Counter.PF_TAKEN);

            assertEquals(FaultResult.FIXED, f.fault(0, Access.WRITE));
            assertEquals(FaultResult.FIXED, f.fault(MIB_2, Access.WRITE));

            assertTrue(f.format.isWritable(f.read(0)));
            assertTrue(f.format.isWritable(f.read(MIB_2)));
            assertEquals(2, f.counted(Counter.PF_FAST));
            assertEquals(taken, f.counted(Counter.PF_TAKEN));
            assertEquals("4k=1 2m=1 1g=0 tables=" + (f.config.pagingMode().levels()) + " mmio=0", f.census());
        }
    }

    @Test
    void storeThatIsAllowedAlreadyIsSpurious() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            long before = f.read(0);

            assertEquals(FaultResult.SPURIOUS, f.fault(0, Access.WRITE));

            assertEquals(before, f.read(0));
            assertEquals(1, f.counted(Counter.PF_SPURIOUS));
        }
    }

    @Test
    void switchedOffItLeavesTheFaultToTheSlowPath() {
        try (MmuFixture f = mapped(VmConfig.builder().fastFix(false))) {
            f.mmu.ranges().writeProtect(0, 1);

            assertEquals(FaultResult.FIXED, f.fault(0, Access.WRITE));

            assertEquals(0, f.counted(Counter.PF_FAST));
            assertEquals(3, f.counted(Counter.PF_FIXED));
            assertTrue(f.format.isWritable(f.read(0)));
        }
    }

    @Test
    void leafOfAReadOnlySlotIsNeverMadeWritable() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K, SlotFlag.READ_ONLY);
            f.fault(0, Access.READ);
            long before = f.read(0);

            assertEquals(FaultResult.EMULATE, f.fault(0, Access.WRITE));

            assertEquals(before, f.read(0));
        }
    }

    @Test
    void accessTrackedLeafGetsItsPermissionsBackWithoutTheLock() {
        try (MmuFixture f = mapped(VmConfig.builder().accessedDirty(AccessedDirty.OFF))) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            SpteAccess.setRelease(address, f.format.trackAccess(leaf));
            long taken = f.counted(Counter.PF_TAKEN);

            assertEquals(FaultResult.FIXED, f.fault(0, Access.READ));
            assertEquals(f.format.clearWritable(leaf), f.read(0), "what a load needs, and no W");
            assertEquals(FaultResult.FIXED, f.fault(0, Access.WRITE));

            assertEquals(leaf, f.read(0));
            assertEquals(2, f.counted(Counter.PF_FAST));
            assertEquals(taken, f.counted(Counter.PF_TAKEN));
        }
    }

    @Test
    void storeToAnAccessTrackedLeafGetsEverythingBackAtOnce() {
        try (MmuFixture f = mapped(VmConfig.builder().accessedDirty(AccessedDirty.OFF))) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            SpteAccess.setRelease(address, f.format.trackAccess(leaf));

            assertEquals(FaultResult.FIXED, f.fault(0, Access.WRITE));

            assertEquals(leaf, f.read(0));
        }
    }

    @Test
    void frozenEntryIsLeftAlone() {
        try (MmuFixture f = mapped(VmConfig.builder().accessedDirty(AccessedDirty.OFF))) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            SpteAccess.setRelease(address, Spte.FROZEN);

            assertEquals(FaultResult.RETRY, f.fault(0, Access.WRITE));

            assertEquals(Spte.FROZEN, SpteAccess.readAcquire(address));
            SpteAccess.setRelease(address, leaf);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void writeProtectionKeepsAccessedAndDirtyAndLeavesOtherPagesAlone(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            f.fault(1 << 12, Access.WRITE);
            long address = f.addressOf(0, PagingLevel.L4K);
            long used = SpteAccess.readAcquire(address) | f.format.accessedBit() | f.format.dirtyBit();
            SpteAccess.setRelease(address, used);
            long neighbour = f.read(1 << 12);

            assertTrue(f.mmu.ranges().writeProtect(0, 1));

            assertEquals(f.format.clearWritable(used), f.read(0));
            assertEquals(neighbour, f.read(1 << 12));
        }
    }

    @Test
    void writeProtectionOfAPartFlushesWholeLeavesBecauseTlbsMayHoldThemInPieces() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            assertTrue(f.mmu.ranges().writeProtect(0x3ff, 0x400));

            assertFalse(f.format.isWritable(f.read(MIB_2)), "one leaf, one W");
            assertEquals(List.of("0x0-0x40000"), f.tlb.calls);
        }
    }

    /**
     * Two protections of one range; the flush of the first has not come yet when the second finds nothing to do.
     *
     * <pre>
     *  first                          | second
     *  clears W, unlocks              |
     *                                 | finds no W, returns without a flush
     *  flushes                        |   -- until here a vCPU stores through its TLB to what the second calls protected
     * </pre>
     */
    @Test
    void writeProtectionFlushesAlsoWhereAnotherOneHasClearedTheEntriesAlready() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            WriteProtector first = new WriteProtector(f.format, f.mmu.lock(), f.mmu.updater());
            assertTrue(first.protect(f.worker, f.vcpu.root(), 0, 1, 1));

            f.mmu.ranges().writeProtect(0, 1);

            assertEquals(List.of("0x0-0x40000"), f.tlb.calls);
        }
    }
}
