package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

final class EptCapabilitiesTest {
    private static final long ALL = 0x673_41c1L;

    private static void assertBit(int bit, Predicate<EptCapabilities> capability) {
        EptCapabilities with = EptCapabilities.fromMsr(1L << bit);

        assertTrue(capability.test(with), "bit=" + bit);
        assertFalse(capability.test(EptCapabilities.fromMsr(~(1L << bit))), "bit=" + bit);
        assertEquals(1L << bit, with.toMsr());
    }

    @Test
    void everyCapabilityHasItsBit() {
        assertBit(0, EptCapabilities::executeOnly);
        assertBit(6, EptCapabilities::fourLevel);
        assertBit(7, EptCapabilities::fiveLevel);
        assertBit(8, EptCapabilities::uncacheable);
        assertBit(14, EptCapabilities::writeBack);
        assertBit(16, EptCapabilities::page2M);
        assertBit(17, EptCapabilities::page1G);
        assertBit(20, EptCapabilities::invept);
        assertBit(21, EptCapabilities::accessedDirty);
        assertBit(22, EptCapabilities::advancedExitInfo);
        assertBit(25, EptCapabilities::inveptSingle);
        assertBit(26, EptCapabilities::inveptAll);
    }

    @Test
    void otherBitsArePassedOver() {
        assertEquals(ALL, EptCapabilities.fromMsr(-1L).toMsr());
        assertEquals(0, EptCapabilities.fromMsr(~ALL).toMsr());
    }

    @Test
    void processorOfAVmCanDoWhatItIsConfiguredFor() {
        var most = VmConfig.builder()
                .pagingMode(PagingMode.EPT5)
                .hardware(HardwareConfig.DEFAULT.withAdvancedExitInfo(true))
                .build();
        var least = VmConfig.builder()
                .pagingMode(PagingMode.EPT4)
                .accessedDirty(AccessedDirty.OFF)
                .executeOnly(false)
                .hardware(HardwareConfig.DEFAULT.withLargestPage(PageSize.SIZE_4K))
                .build();
        var middle = VmConfig.builder()
                .pagingMode(PagingMode.EPT4)
                .hardware(HardwareConfig.DEFAULT.withLargestPage(PageSize.SIZE_2M))
                .build();

        assertEquals(
                most.executeOnly() ? ALL : ALL & ~1, EptCapabilities.of(most).toMsr());
        assertEquals(0x610_4140, EptCapabilities.of(least).toMsr());
        assertTrue(EptCapabilities.of(middle).page2M());
        assertFalse(EptCapabilities.of(middle).page1G());
    }
}
