package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class HostExtentsTest {
    private static final long PAGE = HostMemory.PAGE_SIZE;
    private static final long PAGES = 64;

    // A part of its own inside guest frames that nobody else has, since released extents are cleared.
    private final long start = HostMemory.FRAMES.take(PAGES * PAGE, PAGE);
    private final HostExtents extents = new HostExtents("test", start, start + PAGES * PAGE);

    @AfterEach
    void returnThePart() {
        HostMemory.FRAMES.release(start, PAGES * PAGE);
    }

    @Test
    void neighboursJoinInEveryOrder() {
        int[][] orders = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        for (int[] order : orders) {
            long[] taken = {extents.take(PAGE, PAGE), extents.take(2 * PAGE, PAGE), extents.take(PAGE, PAGE)};
            long[] lengths = {PAGE, 2 * PAGE, PAGE};

            for (int i : order) {
                extents.release(taken[i], lengths[i]);
            }

            assertEquals(1, extents.freeExtents());
            assertEquals(0, extents.bytesHandedOut());
            long whole = extents.take(PAGES * PAGE, PAGE);
            assertEquals(start, whole);
            extents.release(whole, PAGES * PAGE);
        }
    }

    @Test
    void gapBetweenExtentsKeepsThemApart() {
        long first = extents.take(PAGE, PAGE);
        extents.take(PAGE, PAGE);
        long third = extents.take(PAGE, PAGE);
        extents.take((PAGES - 3) * PAGE, PAGE);

        extents.release(first, PAGE);
        extents.release(third, PAGE);

        assertEquals(2, extents.freeExtents());
        assertEquals(HostExtents.NONE, extents.take(2 * PAGE, PAGE));
        assertEquals(first, extents.take(PAGE, PAGE));
    }

    @Test
    void exhaustedPartHandsOutNothingAndRecovers() {
        long most = extents.take((PAGES - 1) * PAGE, PAGE);

        long tooMuch = extents.take(2 * PAGE, PAGE);
        long last = extents.take(PAGE, PAGE);
        long none = extents.take(PAGE, PAGE);

        assertEquals(HostExtents.NONE, tooMuch);
        assertNotEquals(HostExtents.NONE, last);
        assertEquals(HostExtents.NONE, none);
        assertEquals(PAGES * PAGE, extents.bytesHandedOut());
        extents.release(most, (PAGES - 1) * PAGE);
        assertEquals(most, extents.take(2 * PAGE, PAGE));
    }

    @Test
    void alignmentIsKeptAndTheSkippedPartStaysUsable() {
        long first = extents.take(PAGE, PAGE);
        long aligned = extents.take(2 * PAGE, 8 * PAGE);

        long second = extents.take(PAGE, PAGE);

        assertEquals(0, aligned % (8 * PAGE));
        assertEquals(first + PAGE, second);
    }

    @Test
    void doubleFreeIsRefusedInWholeAndInPart() {
        long taken = extents.take(4 * PAGE, PAGE);
        extents.take(PAGE, PAGE);
        extents.release(taken, 4 * PAGE);

        for (long[] again : new long[][] {{0, 4}, {0, 1}, {1, 2}, {3, 1}, {3, 2}}) {
            IllegalStateException refusal = assertThrows(
                    IllegalStateException.class, () -> extents.release(taken + again[0] * PAGE, again[1] * PAGE));
            assertTrue(refusal.getMessage().startsWith("extent is free already: part=test, start=0x"));
        }
        assertEquals(PAGE, extents.bytesHandedOut());
    }

    @Test
    void refusedReleaseClearsNothing() {
        long freed = extents.take(PAGE, PAGE);
        long live = extents.take(PAGE, PAGE);
        GuestBytes.putLong(live, 77);
        extents.release(freed, PAGE);

        assertThrows(IllegalStateException.class, () -> extents.release(freed, 2 * PAGE));

        assertEquals(77, GuestBytes.getLong(live));
    }

    @Test
    void releasedExtentReadsAsZero() {
        long taken = extents.take(2 * PAGE, PAGE);
        GuestBytes.putLong(taken, -1);
        GuestBytes.putLong(taken + 2 * PAGE - 8, -1);

        extents.release(taken, 2 * PAGE);

        long again = extents.take(2 * PAGE, PAGE);
        assertEquals(taken, again);
        assertEquals(0, GuestBytes.getLong(again));
        assertEquals(0, GuestBytes.getLong(again + 2 * PAGE - 8));
    }

    @Test
    void randomExtentsNeverOverlapAndAllComeBack() {
        long seed = System.nanoTime();
        System.out.println("HostExtentsTest seed=" + seed);
        Random random = new Random(seed);
        TreeMap<Long, Long> taken = new TreeMap<>();

        for (int i = 0; i < 5_000; i++) {
            long bytes = (1 + random.nextInt(6)) * PAGE;
            long alignment = PAGE << random.nextInt(4);
            if (random.nextBoolean()) {
                long extent = extents.take(bytes, alignment);
                if (extent != HostExtents.NONE) {
                    Map.Entry<Long, Long> below = taken.lowerEntry(extent + bytes);
                    assertTrue(below == null || below.getKey() + below.getValue() <= extent, () -> "seed=" + seed);
                    assertEquals(0, extent % alignment);
                    assertTrue(extent >= start && extent + bytes <= start + PAGES * PAGE, () -> "seed=" + seed);
                    taken.put(extent, bytes);
                }
            } else if (!taken.isEmpty()) {
                Map.Entry<Long, Long> victim = taken.ceilingEntry(start + random.nextLong(PAGES) * PAGE);
                if (victim != null) {
                    extents.release(victim.getKey(), victim.getValue());
                    taken.remove(victim.getKey());
                }
            }
        }
        for (Map.Entry<Long, Long> extent : taken.entrySet()) {
            extents.release(extent.getKey(), extent.getValue());
        }

        assertEquals(1, extents.freeExtents(), () -> "seed=" + seed);
        assertEquals(0, extents.bytesHandedOut(), () -> "seed=" + seed);
    }
}
