package dev.tdpmmu.mmu;

import dev.tdpmmu.sync.LockDep;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.LockRank;

/** Drives an {@link InvalidationTracker} over the wrap of its sequence, in a process at debug level {@code prove}. */
final class TrackerProbe {
    private static final int STEPS = 8;

    private TrackerProbe() {}

    public static void main(String[] arguments) {
        InvalidationTracker tracker = new InvalidationTracker();
        long first = tracker.snapshot();
        int stale = 0;
        int fresh = 0;
        LockDep.acquire(LockRank.MMU, LockMode.EXCLUSIVE);
        for (int i = 0; i < STEPS; i++) {
            long snapshot = tracker.snapshot();
            fresh += tracker.isStale(snapshot, 3) ? 0 : 1;
            tracker.begin(3, 4);
            tracker.end(3, 4);
            stale += tracker.isStale(snapshot, 3) ? 1 : 0;
        }
        LockDep.release(LockRank.MMU, LockMode.EXCLUSIVE);
        boolean wrapped = first < 0 && tracker.snapshot() > 0;
        System.out.print("stale=" + stale + ", fresh=" + fresh + ", wrapped=" + wrapped);
        tracker.close();
    }
}
