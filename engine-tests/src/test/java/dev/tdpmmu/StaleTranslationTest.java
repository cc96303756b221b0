package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.CoherenceOracle;
import dev.tdpmmu.hardware.StaleTranslationException;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.slot.Backing;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A vCPU keeps what a flush should have removed: the coherence oracle stops the VM at the first use of it, whatever
 * kind of entry it is.
 */
final class StaleTranslationTest {
    private static final long BLOCK = PageSize.SIZE_2M.bytes();
    private static final long GIB = PageSize.SIZE_1G.bytes();

    /** Far up, so that tables of every level are the page's own. */
    private static final long BASE = (1L << 40) + 3 * GIB;

    private Vm vm;

    private Vcpu start(TlbMode mode, SlotFlag... flags) {
        vm = new Vm(VmConfig.builder()
                .pagingMode(PagingMode.EPT5)
                .hardware(HardwareConfig.DEFAULT.withTlb(mode))
                .build());
        vm.addSlot(1, BASE, 2 * BLOCK, Backing.anonymous(PageSize.SIZE_2M), flags);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(BASE, 1);
        return vcpu;
    }

    @AfterEach
    void close() {
        vm.close();
    }

    /** As a flush that no vCPU has applied, and that was not waited for. */
    private void completeFlush(long gpa) {
        CoherenceOracle oracle = vm.shootdown().oracle();
        long sequence = HostWords.readVolatile(vm.shootdown().sequenceAddress());
        oracle.publish(sequence + 1, Gfn.of(gpa), Gfn.of(gpa) + 1);
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void hitOfEachKindIsJudged(TlbMode mode) {
        Vcpu vcpu = start(mode, SlotFlag.SMALL_PAGES);
        vcpu.fetch(BASE);
        vcpu.getLong(BASE);
        completeFlush(BASE);

        assertThrows(StaleTranslationException.class, () -> vcpu.getLong(BASE));
        assertThrows(StaleTranslationException.class, () -> vcpu.putLong(BASE, 2));
        assertThrows(StaleTranslationException.class, () -> vcpu.fetch(BASE));
        assertThrows(StaleTranslationException.class, () -> vcpu.touch(BASE, Access.READ));
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void messageHoldsBothHistories(TlbMode mode) {
        Vcpu vcpu = start(mode, SlotFlag.SMALL_PAGES);
        long filled = HostWords.readVolatile(vm.shootdown().sequenceAddress());
        completeFlush(BASE);

        var stale = assertThrows(StaleTranslationException.class, () -> vcpu.getLong(BASE));

        String text = stale.getMessage();
        String gfn = "0x" + Long.toHexString(Gfn.of(BASE)) + "-0x" + Long.toHexString(Gfn.of(BASE) + 1);
        assertTrue(text.contains("vcpu=" + vcpu.name()), text);
        assertTrue(text.contains("entry=[page gfn=" + gfn + ", level=4K, frame=0x"), text);
        assertTrue(text.contains("permissions=rwx, filled=" + filled + "]"), text);
        assertTrue(text.contains("flushes=[" + (filled + 1) + ":" + gfn + "]"), text);
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void hugePageIsJudgedByItsWholeSpanAndAPieceByItsOwn(TlbMode mode) {
        Vcpu vcpu = start(mode);
        completeFlush(BASE + BLOCK / 2);

        long piece = vcpu.getLong(BASE);
        var stale = assertThrows(StaleTranslationException.class, () -> vcpu.getLong(BASE + 5 * Gfn.PAGE_SIZE));

        assertEquals(1, piece);
        assertTrue(stale.getMessage().contains("level=2M"), stale.getMessage());
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void leafTableIsJudgedByItsWholeSpan(TlbMode mode) {
        Vcpu vcpu = start(mode, SlotFlag.SMALL_PAGES);
        completeFlush(BASE + BLOCK / 2);

        var stale = assertThrows(StaleTranslationException.class, () -> vcpu.getLong(BASE + 5 * Gfn.PAGE_SIZE));

        assertTrue(stale.getMessage().contains("entry=[table"), stale.getMessage());
        assertTrue(stale.getMessage().contains("level=4K"), stale.getMessage());
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void tablesAboveAreJudgedByTheirSpans(TlbMode mode) {
        for (int level = PagingLevel.L2M; level <= PagingLevel.L512G; level++) {
            Vcpu vcpu = start(mode, SlotFlag.SMALL_PAGES);
            // Beside the span of the next lower table, so that it is this level's table that the walk comes to.
            completeFlush(BASE + PagingLevel.bytes(level + 1) / 2);
            long missed = (BASE ^ PagingLevel.bytes(level)) + 7 * Gfn.PAGE_SIZE;

            var stale = assertThrows(StaleTranslationException.class, () -> vcpu.touch(missed, Access.READ));

            String entry = "level=" + PagingLevel.name(level) + ", frame";
            assertTrue(stale.getMessage().contains("entry=[table"), stale.getMessage());
            assertTrue(stale.getMessage().contains(entry), stale.getMessage());
            vm.close();
        }
    }

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void stoppedVmRefusesEveryVcpuAndVerification(TlbMode mode) {
        Vcpu vcpu = start(mode, SlotFlag.SMALL_PAGES);
        Vcpu other = vm.createVcpu();
        other.putLong(BASE + BLOCK, 3);
        completeFlush(BASE);
        assertThrows(StaleTranslationException.class, () -> vcpu.getLong(BASE));

        var hit = assertThrows(StaleTranslationException.class, () -> other.getLong(BASE + BLOCK));
        var miss = assertThrows(StaleTranslationException.class, () -> other.getLong(BASE + BLOCK + Gfn.PAGE_SIZE));

        assertTrue(hit.getMessage().startsWith("VM was stopped: "), hit.getMessage());
        assertTrue(miss.getMessage().contains("vcpu=" + vcpu.name()), miss.getMessage());
        assertThrows(StaleTranslationException.class, vm::verify);
    }
}
