package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.testkit.Actor;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Stores against the begin and the end of a watch.
 *
 * <pre>
 *  store                                       | watch
 *  asks whether the page is watched: no        |
 *                                              | protects the leaves, flushes, returns
 *  makes its leaf writable                     |   -- stores from here on go unreported
 * </pre>
 */
final class WatchRaceTest {
    private static final long LAST = 3;

    private abstract static class Watched extends VmWorld {
        final Vcpu guest = vcpu("guest");
        final VcpuMmu worker = part("worker");
        final List<Long> reported = new ArrayList<>();

        /** What the frame held when the watch was there. */
        long seenAfter = -1;

        Watched(VmConfig.Builder config, SlotFlag... flags) {
            super(config);
            addSlot(flags);
            GuestBytes.putLong(hpa(page(0)), 0);
        }

        final void store() {
            for (long value = 1; value <= LAST; value++) {
                guest.putLong(page(0), value);
                Interleave.step();
            }
        }

        final WriteWatch watch() {
            WriteWatch watch = vm.watchWrites(page(0), PAGE, (gpa, bytes, value) -> reported.add(value));
            seenAfter = GuestBytes.getLong(hpa(page(0)));
            return watch;
        }

        final void assertAllReportedSince(long seen) {
            for (long value = seen + 1; value <= LAST; value++) {
                assertTrue(
                        reported.contains(value),
                        "unreported: value=" + value + ", seen=" + seen + ", reported=" + reported);
            }
        }

        @Override
        public String outcome() {
            return "seen after " + seenAfter;
        }
    }

    /** A watch begins while the page is stored to, by a plain leaf or by one that the fast fix makes writable. */
    private static final class Begin extends Watched {
        private final long emulatedBefore;
        private WriteWatch watch;

        Begin(VmConfig.Builder config, boolean mapped, boolean writeProtected, SlotFlag... flags) {
            super(config, flags);
            if (mapped) {
                guest.putLong(page(0), 0);
            } else {
                guest.getLong(page(1));
            }
            if (writeProtected) {
                vm.mmu().ranges().writeProtect(Gfn.of(BASE), Gfn.of(BASE) + 16);
            }
            emulatedBefore = vm.stats().pfEmulate();
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("watch", () -> watch = watch()));
        }

        @Override
        void judge() {
            assertEquals(LAST, GuestBytes.getLong(hpa(page(0))));
            assertAllReportedSince(seenAfter);
            assertEquals(
                    vm.stats().pfEmulate() - emulatedBefore,
                    reported.size(),
                    "stores that left the guest and were not reported");
            guest.putLong(page(0), LAST);
            assertEquals(LAST, reported.getLast());
            watch.close();
            guest.putLong(page(0), LAST + 1);
            assertEquals(LAST, reported.getLast());
        }
    }

    /** A watch ends while stores are in flight: each is made, and an outer watch misses none. */
    private static final class End extends Watched {
        private final List<Long> outer = new ArrayList<>();
        private final WriteWatch inner;

        End(VmConfig.Builder config) {
            super(config, SlotFlag.SMALL_PAGES);
            guest.putLong(page(0), 0);
            vm.watchWrites(page(0), 2 * PAGE, (gpa, bytes, value) -> outer.add(value));
            inner = watch();
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("unwatch", inner::close));
        }

        @Override
        void judge() {
            assertEquals(LAST, GuestBytes.getLong(hpa(page(0))));
            assertEquals(List.of(1L, 2L, 3L), outer);
        }

        @Override
        public String outcome() {
            return "reported " + reported.size();
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void noStoreIsMissedAfterTheWatchBegan(LockPolicy policy) {
        Explore.all(
                "store against watch, " + policy,
                () -> new Begin(VmWorld.of(policy), true, false, SlotFlag.SMALL_PAGES),
                policy == LockPolicy.PARALLEL ? 500 : 0,
                40);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void firstStoreIsNotMissed(LockPolicy policy) {
        Explore.all(
                "first store against watch, " + policy,
                () -> new Begin(VmWorld.of(policy), false, false, SlotFlag.SMALL_PAGES),
                policy == LockPolicy.PARALLEL ? 500 : 0,
                40);
    }

    @Test
    void fastFixNeverGivesBackWhatTheWatchTook() {
        Explore.all(
                "fast fix against watch",
                () -> new Begin(VmWorld.parallel(), true, true, SlotFlag.SMALL_PAGES),
                1_500,
                60);
    }

    @Test
    void storeToAHugeLeafIsNotMissed() {
        Explore.all("store to a huge leaf against watch", () -> new Begin(VmWorld.parallel(), true, false), 500, 40);
    }

    @Test
    void endOfAWatchLosesNoStoreInFlight() {
        Explore.all("store against unwatch", () -> new End(VmWorld.parallel()), 500, 60);
    }
}
