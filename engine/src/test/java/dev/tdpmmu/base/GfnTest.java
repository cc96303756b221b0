package dev.tdpmmu.base;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Random;
import org.junit.jupiter.api.Test;

final class GfnTest {
    @Test
    void frameHoldsTheAddressesOfOnePage() {
        assertEquals(0, Gfn.of(0));
        assertEquals(0, Gfn.of(4095));
        assertEquals(1, Gfn.of(4096));
        assertEquals((1L << 40) - 1, Gfn.of((1L << 52) - 1));
        assertEquals((1L << 52) - 4096, Gfn.toGpa((1L << 40) - 1));
    }

    @Test
    void addressWithTheHighestBitIsNoNegativeFrame() {
        assertEquals((1L << 52) - 1, Gfn.of(-1));
    }

    @Test
    void alignmentAgreesWithDivision() {
        long seed = System.nanoTime();
        System.out.println("GfnTest seed=" + seed);
        Random random = new Random(seed);

        for (int i = 0; i < 10_000; i++) {
            int level = 1 + random.nextInt(5);
            long pages = (long) Math.pow(512, level - 1);
            long gfn = random.nextLong(1L << 45)
                    / (random.nextBoolean() ? 1 : pages)
                    * (random.nextBoolean() ? 1 : pages)
                    % (1L << 45);
            assertEquals(gfn / pages * pages, Gfn.alignDown(gfn, level), () -> "seed=" + seed);
            assertEquals(gfn % pages == 0, Gfn.isAligned(gfn, level), () -> "seed=" + seed);
        }
    }
}
