package dev.tdpmmu.mmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.ForkedJava;
import dev.tdpmmu.sync.LockMode;
import java.util.List;
import org.junit.jupiter.api.Test;

class InvalidationTrackerTest {
    @Test
    void rangesInProgressAreJoinedAndEndTogether() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            f.locked(LockMode.EXCLUSIVE, () -> {
                tracker.begin(10, 20);
                tracker.begin(40, 50);

                assertFalse(tracker.isInProgress(tracker.snapshot(), 9));
                assertTrue(tracker.isInProgress(tracker.snapshot(), 10));
                assertTrue(tracker.isInProgress(tracker.snapshot(), 30), "the union is one range");
                assertTrue(tracker.isInProgress(tracker.snapshot(), 49));
                assertFalse(tracker.isInProgress(tracker.snapshot(), 50));
                tracker.end();
                assertTrue(tracker.isInProgress(tracker.snapshot(), 10));
                tracker.end();
                assertFalse(tracker.isInProgress(tracker.snapshot(), 10));
                tracker.begin(100, 101);
                assertFalse(tracker.isInProgress(tracker.snapshot(), 10), "a new one begins with its own range");
                tracker.end();
            });
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
            f.locked(LockMode.EXCLUSIVE, tracker::end);

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
            f.locked(LockMode.SHARED, tracker::end);
            tracker.end();
            assertEquals(0, tracker.inProgress());
            assertFalse(tracker.isStale(tracker.snapshot(), 5));
        }
    }

    @Test
    void endWithoutBeginIsRefused() {
        try (MmuFixture f = new MmuFixture()) {
            InvalidationTracker tracker = f.mmu.invalidations();
            long before = tracker.snapshot();

            assertThrows(MmuCorruptionException.class, tracker::end);

            assertEquals(before, tracker.snapshot());
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
                tracker.end();
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
