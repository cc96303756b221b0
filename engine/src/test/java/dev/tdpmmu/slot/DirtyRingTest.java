package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.MemoryCapExceededException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** A ring hands over what was pushed, in order, and arms every page once before its entry is used again. */
class DirtyRingTest {
    private static final int ENTRIES = 128;
    private static final int RESERVED = 16;
    private static final int ALL = Integer.MAX_VALUE;

    private final MemoryAccount account = new MemoryAccount(8192);
    private final FrameAllocator frames = new FrameAllocator(account);
    private final DirtyRing ring = new DirtyRing(frames, ENTRIES, RESERVED);

    private final List<String> collected = new ArrayList<>();
    private final List<String> armed = new ArrayList<>();
    private final DirtyRingConsumer consumer = (slotId, page) -> collected.add(slotId + ":" + page);
    private final RingReset target =
            (slotId, firstPage, mask) -> armed.add(slotId + ":" + firstPage + "+" + Long.toHexString(mask));

    @AfterEach
    void memoryGoesBack() {
        ring.release();
        ring.release();
        assertEquals(0, account.usedInBytes());
    }

    private void push(int slotId, long... offsets) {
        for (long offset : offsets) {
            ring.push(slotId, offset);
        }
    }

    /** Asserts which masks arm the pages of one slot that were pushed in an order. */
    private void assertArmed(List<String> masks, long... offsets) {
        push(5, offsets);
        assertEquals(offsets.length, ring.collect(consumer, ALL));
        armed.clear();

        assertEquals(offsets.length, ring.reset(target, ALL));

        assertEquals(masks, armed);
        assertEquals(0, ring.used());
    }

    @Test
    void pagesComeOutInTheOrderOfTheirStores() {
        push(3, 7, 1_000_000_000L);
        push(Integer.MAX_VALUE, 0);

        assertEquals(3, ring.collect(consumer, ALL));
        assertEquals(0, ring.collect(consumer, ALL));

        assertEquals(List.of("3:7", "3:1000000000", Integer.MAX_VALUE + ":0"), collected);
    }

    @Test
    void entryIsUsedUntilItIsReset() {
        push(1, 1, 2);
        assertEquals(2, ring.used());

        assertEquals(0, ring.reset(target, ALL));
        assertEquals(1, ring.collect(consumer, 1));
        assertEquals(2, ring.used());
        assertEquals(1, ring.reset(target, ALL));

        assertEquals(1, ring.used());
        assertEquals(List.of("1:1+1"), armed);
        assertEquals(1, ring.collect(consumer, ALL));
        assertEquals(1, ring.reset(target, ALL));
        assertEquals(0, ring.used());
    }

    @Test
    void neighboursUpwardsBecomeOneMask() {
        assertArmed(List.of("5:100+f"), 100, 101, 102, 103);
        assertArmed(List.of("5:100+8000000000000001"), 100, 163);
        assertArmed(List.of("5:100+1", "5:164+1"), 100, 164);
    }

    @Test
    void neighboursDownwardsBecomeOneMask() {
        assertArmed(List.of("5:100+f"), 103, 102, 101, 100);
        assertArmed(List.of("5:100+8000000000000001"), 163, 100);
        assertArmed(List.of("5:164+1", "5:100+1"), 164, 100);
    }

    @Test
    void windowMovesDownOnlyWhileNothingFallsOut() {
        assertArmed(List.of("5:96+8000000000000011"), 100, 159, 96);
        assertArmed(List.of("5:100+1000000000000001", "5:96+1"), 100, 160, 96);
        assertArmed(List.of("5:96+11", "5:160+1"), 100, 96, 160);
        assertArmed(List.of("5:0+3"), 1, 0);
    }

    @Test
    void samePageTwiceIsArmedOnce() {
        assertArmed(List.of("5:9+1"), 9, 9, 9);
    }

    @Test
    void farOffsetsDoNotOverflow() {
        assertArmed(List.of("5:0+1", "5:9223372036854775807+1", "5:0+1"), 0, Long.MAX_VALUE, 0);
    }

    @Test
    void differentSlotsAreNeverMerged() {
        push(1, 10);
        push(2, 11);
        push(1, 12, 13);
        ring.collect(consumer, ALL);

        assertEquals(4, ring.reset(target, ALL));

        assertEquals(List.of("1:10+1", "2:11+1", "1:12+3"), armed);
    }

    @Test
    void boundHoldsInTheMiddleOfMask() {
        push(1, 1, 2, 3, 4, 5);
        assertEquals(4, ring.collect(consumer, 4));

        assertEquals(3, ring.reset(target, 3));
        assertEquals(2, ring.used());
        assertEquals(1, ring.reset(target, 3));

        assertEquals(List.of("1:1+7", "1:4+1"), armed);
        assertEquals(1, ring.collect(consumer, 4));
    }

    @Test
    void softLimitLeavesTheReservedEntries() {
        for (int i = 0; i < ENTRIES - RESERVED; i++) {
            assertFalse(ring.isSoftFull());
            ring.push(1, i);
        }
        assertTrue(ring.isSoftFull());
        ring.collect(consumer, ALL);
        assertTrue(ring.isSoftFull());

        ring.reset(target, 1);

        assertFalse(ring.isSoftFull());
    }

    @Test
    void hardFullRingRefusesAndLosesNothing() {
        for (int i = 0; i < ENTRIES; i++) {
            ring.push(1, i);
        }

        assertRefused(
                IllegalStateException.class, "used=128, entries=128, softLimit=112, slotId=2", () -> ring.push(2, 9));

        assertEquals(ENTRIES, ring.used());
        assertEquals(ENTRIES, ring.collect(consumer, ALL));
        assertEquals(0, ring.collect(consumer, ALL));
        assertEquals("1:127", collected.getLast());
        assertEquals(ENTRIES, ring.reset(target, ALL));
        assertEquals(List.of("1:0+ffffffffffffffff", "1:64+ffffffffffffffff"), armed);
    }

    @Test
    void randomUseOverManyLapsLosesNoPage() {
        long seed = System.nanoTime();
        System.out.println("randomUseOverManyLapsLosesNoPage: seed=" + seed);
        var random = new SplittableRandom(seed);
        var pushed = new ArrayDeque<String>();
        var unarmed = new TreeSet<String>();
        RingReset arming = (slotId, firstPage, mask) -> {
            assertEquals(1, mask & 1, "mask does not start at its first page");
            for (long rest = mask; rest != 0; rest &= rest - 1) {
                unarmed.remove(slotId + ":" + (firstPage + Long.numberOfTrailingZeros(rest)));
            }
        };
        int waiting = 0;
        for (int step = 0; step < 20_000; step++) {
            switch (random.nextInt(8)) {
                case 0 -> {
                    int max = random.nextInt(1, 40);
                    int count = ring.collect((slotId, page) -> assertEquals(pushed.poll(), slotId + ":" + page), max);
                    assertTrue(count <= max);
                    waiting += count;
                }
                case 1 -> {
                    int max = random.nextInt(1, 60);
                    int count = ring.reset(arming, max);
                    assertEquals(Math.min(max, waiting), count);
                    waiting -= count;
                    assertTrue(waiting > 0 || unarmed.size() <= pushed.size());
                }
                default -> {
                    if (!ring.isSoftFull()) {
                        int slotId = random.nextInt(2);
                        int page = random.nextInt(200);
                        ring.push(slotId, page);
                        pushed.add(slotId + ":" + page);
                        unarmed.add(slotId + ":" + page);
                    }
                }
            }
            assertEquals(waiting + pushed.size(), ring.used());
        }
        ring.collect((slotId, page) -> assertEquals(pushed.poll(), slotId + ":" + page), ALL);
        ring.reset(arming, ALL);
        assertTrue(unarmed.isEmpty(), unarmed.toString());
        assertTrue(pushed.isEmpty());
        assertEquals(0, ring.used());
    }

    @Test
    void failedArmingKeepsItsEntries() {
        push(1, 1, 2);
        push(2, 3);
        ring.collect(consumer, ALL);
        RingReset failing = (slotId, firstPage, mask) -> {
            if (slotId == 2) {
                throw new IllegalStateException("planted");
            }
            target.rearm(slotId, firstPage, mask);
        };

        assertThrows(IllegalStateException.class, () -> ring.reset(failing, ALL));
        assertEquals(1, ring.used());
        assertEquals(1, ring.reset(target, ALL));

        assertEquals(List.of("1:1+3", "2:3+1"), armed);
    }

    @Test
    void entriesAreUsedWhileTheirPagesAreArmed() {
        push(1, 1, 2);
        ring.collect(consumer, ALL);

        int count = ring.reset((slotId, firstPage, mask) -> assertEquals(2, ring.used()), ALL);

        assertEquals(2, count);
        assertEquals(0, ring.used());
    }

    @Test
    void failedConsumerGetsItsPageAgain() {
        push(1, 1, 2);
        DirtyRingConsumer failing = (slotId, page) -> {
            if (page == 2) {
                throw new IllegalStateException("planted");
            }
        };

        assertThrows(IllegalStateException.class, () -> ring.collect(failing, ALL));
        assertEquals(1, ring.collect(consumer, ALL));

        assertEquals(List.of("1:2"), collected);
        assertEquals(2, ring.reset(target, ALL));
    }

    @Test
    void smallestRingWorks() {
        var small = new DirtyRing(new FrameAllocator(new MemoryAccount(4096)), 1, 0);
        try {
            for (int lap = 0; lap < 3; lap++) {
                assertFalse(small.isSoftFull());
                small.push(1, lap);
                assertTrue(small.isSoftFull());
                assertEquals(1, small.collect(consumer, 5));
                assertEquals(1, small.reset(target, 5));
            }
        } finally {
            small.release();
        }
        assertEquals(List.of("1:0", "1:1", "1:2"), collected);
    }

    @Test
    void noneIgnoresPushesAndIsNeverFull() {
        DirtyRing none = DirtyRing.NONE;

        none.push(1, 2);

        assertFalse(none.isSoftFull());
        assertEquals(0, none.used());
        assertEquals(0, none.entries());
        assertEquals(0, none.collect(consumer, ALL));
        assertEquals(0, none.reset(target, ALL));
        none.release();
        none.push(1, 2);
    }

    @Test
    void badFiguresAreRefused() {
        assertRefused(IllegalArgumentException.class, "entries=3", () -> new DirtyRing(frames, 3, 0));
        assertRefused(IllegalArgumentException.class, "entries=0", () -> new DirtyRing(frames, 0, 0));
        assertRefused(IllegalArgumentException.class, "reserved=4, min=0", () -> new DirtyRing(frames, 4, 4));
        assertRefused(IllegalArgumentException.class, "reserved=-1", () -> new DirtyRing(frames, 4, -1));
        assertRefused(IllegalArgumentException.class, "max=0, min=1", () -> ring.collect(consumer, 0));
        assertRefused(IllegalArgumentException.class, "max=-1, min=1", () -> ring.reset(target, -1));
        assertEquals(4096, account.usedInBytes());
    }

    @Test
    void wrongPushIsCaughtAndLogsNothing() {
        Assumptions.assumeTrue(Debug.CHECK);

        assertRefused(IllegalStateException.class, "slotId=-1, offset=0", () -> ring.push(-1, 0));
        assertRefused(IllegalStateException.class, "slotId=0, offset=-1", () -> ring.push(0, -1));

        assertEquals(0, ring.used());
        assertEquals(0, ring.collect(consumer, ALL));
    }

    @Test
    void capExceededLeavesNothing() {
        assertThrows(MemoryCapExceededException.class, () -> new DirtyRing(frames, 512, 0));
        assertEquals(4096, account.usedInBytes());

        var other = new DirtyRing(frames, 256, 0);
        assertEquals(8192, account.usedInBytes());
        other.release();
    }

    @Test
    void memoryComesBackZero() {
        for (int i = 0; i < ENTRIES; i++) {
            ring.push(1, i);
        }
        ring.release();

        var next = new DirtyRing(frames, ENTRIES, RESERVED);

        assertEquals(0, next.collect(consumer, ALL));
        next.release();
    }

    @Test
    void useAfterReleaseIsCaught() {
        Assumptions.assumeTrue(Debug.CHECK);

        ring.release();

        assertRefused(IllegalStateException.class, "released", () -> ring.push(1, 1));
        assertRefused(IllegalStateException.class, "released", () -> ring.collect(consumer, ALL));
        assertRefused(IllegalStateException.class, "released", () -> ring.reset(target, ALL));
    }

    private static void assertRefused(Class<? extends Exception> type, String text, Executable call) {
        String message = assertThrows(type, call).getMessage();
        assertTrue(message.contains(text), message);
    }
}
