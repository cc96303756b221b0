package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.ReaderSlot;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TdpWalkTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    private static long translate(MmuFixture f, long gpa) {
        f.worker.enter(ReaderSlot.WALKING);
        try {
            return f.mmu.walk().translate(f.vcpu.root(), gpa);
        } finally {
            f.worker.leave(ReaderSlot.OUTSIDE);
        }
    }

    private static long expected(MemSlot slot, long gpa) {
        return slot.hpa(Gfn.of(gpa)) | gpa & Gfn.PAGE_OFFSET_MASK;
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void everyLeafSizeTranslatesWithItsOffset(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot small = f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            MemSlot middle = f.add(1, GIB_1, MIB_2, PageSize.SIZE_2M);
            MemSlot large = f.add(2, 2 * GIB_1, GIB_1, PageSize.SIZE_1G);
            f.fault(0, Access.READ);
            f.fault(GIB_1, Access.READ);
            f.fault(2 * GIB_1, Access.READ);

            assertEquals(expected(small, 0xfff), translate(f, 0xfff));
            assertEquals(expected(middle, GIB_1 + 0x12_3457), translate(f, GIB_1 + 0x12_3457));
            assertEquals(expected(large, 3 * GIB_1 - 1), translate(f, 3 * GIB_1 - 1));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void whatIsNotALeafIsNotMapped(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            f.fault(DEVICE, Access.READ);
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            long far = 1L << f.config.pagingMode().levels() * 9 + 2;

            assertEquals(TdpWalk.NOT_MAPPED, translate(f, KIB_4));
            assertEquals(TdpWalk.NOT_MAPPED, translate(f, MIB_2));
            assertEquals(TdpWalk.NOT_MAPPED, translate(f, GIB_1));
            assertEquals(TdpWalk.NOT_MAPPED, translate(f, far));
            assertEquals(TdpWalk.NOT_MAPPED, translate(f, DEVICE));
            SpteAccess.setRelease(address, Spte.FROZEN);
            assertEquals(TdpWalk.NOT_MAPPED, translate(f, 0));
            SpteAccess.setRelease(address, leaf);
        }
    }

    private static final long DEVICE = 0xfee0_0000L;

    @ParameterizedTest
    @MethodSource(FORMATS)
    void readReturnsTheEntryOfEveryLevelOnTheWay(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(KIB_4, Access.READ);
            long[] sptes = new long[PagingLevel.L256T + 1];

            int level = f.mmu.walk().read(f.vcpu.root(), 1, sptes);

            assertEquals(PagingLevel.L4K, level);
            for (int at = f.config.pagingMode().levels(); at >= PagingLevel.L4K; at--) {
                assertEquals(SpteAccess.readAcquire(f.addressOf(KIB_4, at)), sptes[at], "level " + at);
            }
            assertEquals(PagingLevel.L2M, f.mmu.walk().read(f.vcpu.root(), 0x200, sptes));
            assertEquals(Spte.NON_PRESENT, sptes[PagingLevel.L2M]);
        }
    }
}
