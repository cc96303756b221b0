package dev.tdpmmu.mmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.ForkedJava;
import dev.tdpmmu.sync.LockMode;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class InvalidationTrackerTest {
    private static boolean isInProgress(InvalidationTracker tracker, long gfn) {
        return tracker.isInProgress(tracker.snapshot(), gfn);
    }

    @Test
    void eachRangeInProgressEndsAlone() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            f.locked(LockMode.EXCLUSIVE, () -> {
                tracker.begin(10, 20);
                tracker.begin(40, 50);

                assertFalse(isInProgress(tracker, 9));
                assertTrue(isInProgress(tracker, 10));
                assertFalse(isInProgress(tracker, 30), "between two ranges is in none");
                assertTrue(isInProgress(tracker, 49));
                assertFalse(isInProgress(tracker, 50));
                tracker.end(10, 20);
                assertFalse(isInProgress(tracker, 10));
                assertTrue(isInProgress(tracker, 40));
                tracker.end(40, 50);
                assertFalse(isInProgress(tracker, 40));
            });
        }
    }

    @Test
    void equalRangesEndOneByOne() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            tracker.begin(10, 20);
            tracker.begin(10, 20);

            tracker.end(10, 20);
            assertTrue(isInProgress(tracker, 10));

            tracker.end(10, 20);
            assertFalse(isInProgress(tracker, 10));
        }
    }

    /** Begin A, begin B, end A, begin C, end B, and so on: nothing of what has ended may hold a fault up. */
    @Test
    void rangesThatOverlapInTimeWithoutAGapHoldUpOnlyThemselves() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            tracker.begin(0, 1);

            for (long gfn = 1; gfn < 1000; gfn++) {
                tracker.begin(gfn, gfn + 1);
                tracker.end(gfn - 1, gfn);

                assertTrue(tracker.isStale(tracker.snapshot(), gfn));
                assertFalse(tracker.isStale(tracker.snapshot(), gfn - 1), "ended: gfn=" + (gfn - 1));
                assertFalse(tracker.isStale(tracker.snapshot(), 0), "ended: gfn=0");
            }
            tracker.end(999, 1000);
        }
    }

    /** More at a time than there are places: each is covered while it runs, and nothing is when all have ended. */
    @Test
    void rangesShareAPlaceWhenThereAreManyAndLeaveItWhenTheyEnd() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            SplittableRandom random = new SplittableRandom(27);
            List<long[]> running = new ArrayList<>();
            for (int step = 0; step < 4_000; step++) {
                if (running.size() < 100 && (running.isEmpty() || random.nextInt(5) < 3)) {
                    long start = random.nextInt(4000);
                    running.add(new long[] {start, start + 1 + random.nextInt(20)});
                    tracker.begin(running.getLast()[0], running.getLast()[1]);
                } else {
                    long[] ended = running.remove(random.nextInt(running.size()));
                    tracker.end(ended[0], ended[1]);
                }

                assertEquals(running.size(), tracker.inProgress());
                for (long[] range : running) {
                    assertTrue(isInProgress(tracker, range[0]) && isInProgress(tracker, range[1] - 1));
                }
                if (running.size() == 1) {
                    assertFalse(isInProgress(tracker, running.getFirst()[0] - 1), "more is held up than runs");
                    assertFalse(isInProgress(tracker, running.getFirst()[1]), "more is held up than runs");
                }
            }
            while (!running.isEmpty()) {
                long[] ended = running.removeLast();
                tracker.end(ended[0], ended[1]);
            }
            for (long gfn = 0; gfn < 4020; gfn++) {
                assertFalse(isInProgress(tracker, gfn));
            }
        }
    }

    /** A place of several is no wider than what still runs in it. */
    @Test
    void placeOfSeveralShrinksWhenOneOfThemEnds() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            int places = 31;
            for (long i = 0; i < places; i++) {
                tracker.begin(1000 * i, 1000 * i + 10);
            }

            tracker.begin(5020, 5030);
            assertTrue(isInProgress(tracker, 5015), "joined what is nearest");
            assertFalse(isInProgress(tracker, 4015));
            tracker.end(5000, 5010);

            assertFalse(isInProgress(tracker, 5015));
            assertFalse(isInProgress(tracker, 5009));
            assertTrue(isInProgress(tracker, 5020));
            tracker.end(5020, 5030);
            assertFalse(isInProgress(tracker, 5020));
            for (long i = 0; i < places; i++) {
                if (i != 5) {
                    tracker.end(1000 * i, 1000 * i + 10);
                }
            }
            assertEquals(0, tracker.inProgress());
        }
    }

    @Test
    void endMakesEveryEarlierSnapshotStale() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            long before = tracker.snapshot();
            assertFalse(tracker.isStale(before, 5));

            f.locked(LockMode.EXCLUSIVE, () -> tracker.begin(5, 6));
            assertTrue(tracker.isStale(before, 5));
            assertFalse(tracker.isStale(before, 6));
            f.locked(LockMode.EXCLUSIVE, () -> tracker.end(5, 6));

            assertTrue(tracker.isStale(before, 5));
            assertTrue(tracker.isStale(before, 6), "ranges of the past are not kept");
            assertFalse(tracker.isStale(tracker.snapshot(), 5));
        }
    }

    @Test
    void beginAndEndNeedNoLock() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            long before = tracker.snapshot();

            tracker.begin(5, 6);
            f.locked(LockMode.SHARED, () -> tracker.begin(7, 8));

            assertTrue(tracker.isStale(before, 5));
            assertTrue(tracker.isStale(before, 7));
            f.locked(LockMode.SHARED, () -> tracker.end(5, 6));
            tracker.end(7, 8);
            assertEquals(0, tracker.inProgress());
            assertFalse(tracker.isStale(tracker.snapshot(), 5));
        }
    }

    @Test
    void endWithoutBeginIsRefused() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            long before = tracker.snapshot();

            assertThrows(MmuCorruptionException.class, () -> tracker.end(1, 2));

            assertEquals(before, tracker.snapshot());
            tracker.begin(1, 3);
            assertThrows(MmuCorruptionException.class, () -> tracker.end(1, 2));
            assertEquals(1, tracker.inProgress());
            tracker.end(1, 3);
        }
    }

    @Test
    void thereMayBeOnlySoManyInvalidationsAtATime() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            for (int i = 0; i < 4095; i++) {
                tracker.begin(i, i + 1);
            }

            assertThrows(MmuCorruptionException.class, () -> tracker.begin(0, 1));

            assertEquals(4095, tracker.inProgress());
            for (int i = 0; i < 4095; i++) {
                tracker.end(i, i + 1);
            }
            assertEquals(0, tracker.inProgress());
        }
    }

    @Test
    void sequencePassesItsWrap() throws Exception {
        ForkedJava.Result result = ForkedJava.run(
                List.of("-Dtdpmmu.debug=prove", "--enable-native-access=ALL-UNNAMED"), TrackerProbe.class);

        assertEquals("stale=8, fresh=8, wrapped=true", result.out(), result.err());
    }
}
