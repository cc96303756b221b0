package dev.tdpmmu.testkit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/** The probe sees an allocation, and sees none where there is none. */
final class AllocationProbeTest {
    private static volatile Object sink;
    private static volatile long number;

    @Test
    void arithmeticAllocatesNothing() {
        assertEquals(0, AllocationProbe.bytesPerRound(20_000, 1_000, i -> number = i * 31));
        AllocationProbe.requireNone("arithmetic", 20_000, 1_000, i -> number = i * 31);
    }

    @Test
    void everyAllocationIsCounted() {
        long bytes = AllocationProbe.bytesPerRound(20_000, 1_000, i -> sink = new long[4]);

        assertTrue(bytes >= 1_000 * 32, "bytes=" + bytes);
        assertThrows(
                AssertionError.class,
                () -> AllocationProbe.requireNone("array", 20_000, 1_000, i -> sink = new long[4]));
    }

    @Test
    void rareAllocationIsCounted() {
        long bytes = AllocationProbe.bytesPerRound(20_000, 1_000, i -> {
            if (i % 500 == 0) {
                sink = new long[4];
            }
        });

        assertTrue(bytes >= 2 * 32, "bytes=" + bytes);
    }
}
