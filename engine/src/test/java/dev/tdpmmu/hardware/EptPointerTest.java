package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.VmConfig;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Which pointers are refused is data: {@code ept-pointers.txt}. */
final class EptPointerTest {
    private static final EptCapabilities ALL = EptCapabilities.fromMsr(-1L);

    @ParameterizedTest
    @CsvSource({"4, false, 0x1e", "4, true, 0x5e", "5, false, 0x26", "5, true, 0x66"})
    void whatIsMadeComesBackAndIsValid(int levels, boolean accessedDirty, String low) {
        long pointer = EptPointer.make(0x7_5000, levels, accessedDirty);

        EptPointer.check(pointer, ALL, 36);
        assertEquals(0x7_5000 | Long.decode(low), pointer);
        assertEquals(levels, EptPointer.levels(pointer));
        assertEquals(accessedDirty, EptPointer.accessedDirty(pointer));
        assertEquals(0x7_5000, EptPointer.rootHpa(pointer));
    }

    @Test
    void everyReservedBitIsRefusedAtEveryWidth() {
        for (int width = 36; width <= 52; width++) {
            for (int bit = 7; bit < 64; bit++) {
                long pointer = EptPointer.make(0, 4, true) | 1L << bit;
                int bits = width;
                if (bit <= 11 || bit >= width) {
                    assertThrows(IllegalArgumentException.class, () -> EptPointer.check(pointer, ALL, bits));
                } else {
                    EptPointer.check(pointer, ALL, bits);
                }
            }
        }
    }

    @Test
    void refusalNamesTheValue() {
        var refused = assertThrows(IllegalArgumentException.class, () -> EptPointer.check(0x5009, ALL, 46));

        assertTrue(refused.getMessage().contains("pointer=0x5009, type=0x1"), refused.getMessage());
    }

    @Test
    void walkerRefusesAPointerToTablesOfAnotherShape() {
        HardwareWalker walker = HardwareWalker.of(VmConfig.builder().build());
        long own = walker.makeRootPointer(0x5000);
        walker.checkRootPointer(own);

        for (long other : new long[] {own ^ 1L << 6, own ^ 1L << 7, own ^ 1L << 3 ^ 1L << 5, own | 1L << 46}) {
            assertThrows(IllegalArgumentException.class, () -> walker.checkRootPointer(other));
        }
    }
}
