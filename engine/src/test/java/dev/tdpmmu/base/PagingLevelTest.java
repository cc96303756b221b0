package dev.tdpmmu.base;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

final class PagingLevelTest {
    @Test
    void eachLevelCoversWhatItsNameSays() {
        assertLevel(PagingLevel.L4K, 1L << 12, "4K");
        assertLevel(PagingLevel.L2M, 1L << 21, "2M");
        assertLevel(PagingLevel.L1G, 1L << 30, "1G");
        assertLevel(PagingLevel.L512G, 1L << 39, "512G");
        assertLevel(PagingLevel.L256T, 1L << 48, "256T");
        assertEquals("level6", PagingLevel.name(6));
    }

    private static void assertLevel(int level, long bytes, String name) {
        assertEquals(bytes, PagingLevel.bytes(level));
        assertEquals(bytes / 4096, PagingLevel.pages(level));
        assertEquals(bytes, 4096L << PagingLevel.gfnShift(level));
        assertEquals(name, PagingLevel.name(level));
    }

    @Test
    void indexesOfAllLevelsMakeUpTheFrame() {
        long gfn = 1;
        for (int bit = 0; bit < 45; bit++, gfn = 1L << bit | gfn >>> 3) {
            long rebuilt = 0;

            for (int level = 1; level <= 5; level++) {
                rebuilt |= (long) PagingLevel.index(gfn, level) << PagingLevel.gfnShift(level);
            }

            assertEquals(gfn, rebuilt);
        }
    }

    @Test
    void indexStaysInTheTable() {
        for (int level = 1; level <= 5; level++) {
            assertEquals(0, PagingLevel.index(0, level));
            assertEquals(511, PagingLevel.index(-1, level));
            assertEquals(1, PagingLevel.index(PagingLevel.pages(level), level));
            assertEquals(0, PagingLevel.index(PagingLevel.pages(level) - 1, level));
        }
    }
}
