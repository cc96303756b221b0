package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.InvalidationTracker;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * The host takes a range away while guests store to it and fault on it.
 *
 * <p>Between begin and end of an invalidation the range belongs to the host: no leaf of it may be there, and a frame of
 * it that was read when the begin had returned reads the same when the end is near.
 *
 * <pre>
 *  fault                                  | unmap
 *  asks: nothing is being invalidated     |
 *                                         | begins, zaps, flushes; the host takes the frame
 *  installs a leaf                        |   -- the guest stores to a frame that is somebody else's
 * </pre>
 */
final class UnmapRaceTest {
    private static final long LAST = 3;

    /** Loads, stores and exchanges of words that are neither table entries nor frames: lock, tracker, flush, epochs. */
    private static final PointFilter WORDS =
            (kind, address) -> !HostMemory.isTable(address) && address != 0 && !HostMemory.isFrame(address);

    /** Of the world made last. */
    private static long flushSequence;

    private static final long START = Gfn.of(VmWorld.BASE);

    /** Loads and exchanges of the used entries of one level, and exchanges of the flush sequence. */
    private static PointFilter entriesAndFlushes(int level) {
        return (kind, address) -> HostMemory.isTable(address)
                ? kind != Interleave.Kind.WRITE
                        && Explore.TABLES.includes(kind, address)
                        && TableHeaders.level(address & -HostMemory.PAGE_SIZE) == level
                : kind == Interleave.Kind.UPDATE && address == flushSequence;
    }

    /** Somebody uses page 0 while one or two invalidate it. */
    private abstract static class Unmaps extends VmWorld {
        final MemSlot slot;
        final VcpuMmu worker = part("worker");
        final OperationLock how;

        /** First thing that was wrong inside a bracket. */
        private String broken;

        Unmaps(VmConfig.Builder config, OperationLock how, SlotFlag... flags) {
            super(config);
            this.how = how;
            flushSequence = shootdown.sequenceAddress();
            slot = addSlot(flags);
            name(hpa(page(0)), "frame");
        }

        /** Invalidates page 0 and looks between begin and end whether it is the host's. */
        final void unmap() {
            vm.mmu().ranges().invalidateStart(START, START + 1, how, true);
            long seen = GuestBytes.getLong(hpa(page(0)));
            expectNoLeaf();
            // Lets the others go first, at no cost for the search.
            Interleave.blocked();
            expectNoLeaf();
            long later = GuestBytes.getLong(hpa(page(0)));
            if (seen != later) {
                broken = "stored to while it was the host's: " + seen + " -> " + later;
            }
            vm.mmu().ranges().invalidateEnd(START, START + 1);
        }

        private void expectNoLeaf() {
            if (!worker.root().isInvalid() && isLeaf(worker, page(0))) {
                broken = "leaf while the range was the host's";
            }
        }

        @Override
        void judge() {
            assertEquals(null, broken);
            assertEquals(0, vm.mmu().invalidations().inProgress());
        }
    }

    /** A fault on page 0, whose tables are there. */
    private static final class FaultAndUnmap extends Unmaps {
        private final VcpuMmu faulting = part("faulting");
        private final int brackets;
        private FaultResult result;

        FaultAndUnmap(VmConfig.Builder config, OperationLock how, int brackets) {
            super(config, how, SlotFlag.SMALL_PAGES);
            this.brackets = brackets;
            fault(worker, slot, page(1), READ_WRITE);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("fault", () -> result = vm.mmu().faults().map(faulting, slot, START, READ_WRITE)),
                    Actor.of("unmap", () -> {
                        for (int i = 0; i < brackets; i++) {
                            unmap();
                        }
                    }));
        }

        @Override
        public String outcome() {
            return String.valueOf(result);
        }
    }

    /** A guest stores to page 0 through its TLB, while one or two unmap it. */
    private static final class StoresAndUnmaps extends Unmaps {
        private final Vcpu guest = vcpu("guest");
        private final int unmappers;
        private final long last;

        StoresAndUnmaps(VmConfig.Builder config, OperationLock how, int unmappers, SlotFlag... flags) {
            super(config, how, flags);
            this.unmappers = unmappers;
            this.last = unmappers == 1 ? LAST : 1;
            guest.putLong(page(0), 0);
        }

        @Override
        public List<Actor> actors() {
            Actor stores = Actor.of("guest", () -> {
                for (long value = 1; value <= last; value++) {
                    guest.putLong(page(0), value);
                    // Between two accesses, so that the unmap need not wait for this vCPU.
                    Interleave.step();
                }
            });
            Actor first = Actor.of("first", this::unmap);
            return unmappers == 1 ? List.of(stores, first) : List.of(stores, first, Actor.of("second", this::unmap));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(last, GuestBytes.getLong(hpa(page(0))), "a store was lost");
        }
    }

    /** A guest stores for the first time to page 0, which it has only read, while it is unmapped. */
    private static final class FirstStoreAndUnmap extends Unmaps {
        private final Vcpu guest = vcpu("guest");

        FirstStoreAndUnmap(VmConfig.Builder config, OperationLock how) {
            super(config, how, SlotFlag.SMALL_PAGES);
            guest.getLong(page(0));
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", () -> guest.putLong(page(0), 1)), Actor.of("unmap", this::unmap));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(1, GuestBytes.getLong(hpa(page(0))), "a store was lost");
        }
    }

    /** A table that exists because of a fetch is cut off, with its flush pending, while page 0 below it is unmapped. */
    private static final class CutOffAndUnmap extends Unmaps {
        private final Vcpu guest = vcpu("guest");

        CutOffAndUnmap(VmConfig.Builder config) {
            // Without the agent of the VM: the explorer controls its own threads only.
            super(config.nxHugePageMitigation(true).nxRecoveryRatio(0), OperationLock.SHARED);
            guest.fetch(page(0));
            guest.putLong(page(0), 0);
            assertEquals(1, vm.nxHugePages().splits());
            assertEquals(1, level(worker, page(0)));
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> guest.putLong(page(0), 1)),
                    Actor.of("recovery", () -> vm.mmu().ranges().recoverNx(8)),
                    Actor.of("unmap", this::unmap));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(1, GuestBytes.getLong(hpa(page(0))), "a store was lost");
            assertEquals(0, vm.nxHugePages().splits());
        }
    }

    /** Somebody asks about a gfn while invalidations come and go; another range follows that of the gfn. */
    private static final class Question extends VmWorld {
        private final InvalidationTracker tracker = vm.mmu().invalidations();
        private final long before = tracker.snapshot();
        private boolean begun;
        private boolean askedAfterBegin;
        private boolean stale;

        Question(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("asks", () -> {
                        askedAfterBegin = begun;
                        stale = tracker.isStale(before, 5);
                    }),
                    Actor.of("invalidates", () -> {
                        tracker.begin(5, 6);
                        begun = true;
                        tracker.end(5, 6);
                        tracker.begin(100, 101);
                        Interleave.step();
                        tracker.end(100, 101);
                    }));
        }

        @Override
        void judge() {
            assertTrue(stale || !askedAfterBegin, "an invalidation of the gfn was overlooked");
        }

        @Override
        public String outcome() {
            return stale ? "stale" : "fresh";
        }
    }

    /** Invalidations of other frames overlap without a gap until a fault on the frame of the first is done. */
    private static final class FaultAndEndlessInvalidations extends VmWorld {
        private final MemSlot slot = addSlot(SlotFlag.SMALL_PAGES);
        private final VcpuMmu faulting = part("faulting");
        private final InvalidationTracker tracker = vm.mmu().invalidations();
        private int rounds;
        private boolean isMapped;

        FaultAndEndlessInvalidations(VmConfig.Builder config) {
            super(config);
            fault(faulting, slot, page(1), READ_WRITE);
            tracker.begin(START, START + 1);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("fault", () -> {
                        fault(faulting, slot, page(0), READ_WRITE);
                        isMapped = true;
                    }),
                    Actor.of("host", () -> {
                        long last = START;
                        while (!isMapped) {
                            rounds++;
                            tracker.begin(START + rounds, START + rounds + 1);
                            tracker.end(last, last + 1);
                            last = START + rounds;
                            // A fault must get to its end between two begins.
                            Interleave.blocked();
                        }
                        tracker.end(last, last + 1);
                    }));
        }

        @Override
        void judge() {
            assertTrue(isLeaf(faulting, page(0)));
            assertEquals(0, tracker.inProgress());
        }

        @Override
        public String outcome() {
            return "rounds " + Math.min(rounds, 4);
        }
    }

    /** A range is zapped with yields while a fault brings page 0 back. */
    private static final class FaultAndYieldingZap extends VmWorld {
        private static final int PAGES = 2;

        private final MemSlot slot = addSlot(SlotFlag.SMALL_PAGES);
        private final VcpuMmu faulting = part("faulting");
        private final VcpuMmu contender = part("contender");
        private final OperationLock how;
        private final long before;
        private boolean insideZap;

        FaultAndYieldingZap(VmConfig.Builder config, OperationLock how) {
            super(config);
            this.how = how;
            for (long block = 0; block < PAGES; block++) {
                fault(faulting, slot, BASE + block * BLOCK, READ_WRITE);
            }
            before = vm.mmu().invalidations().snapshot();
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("fault", () -> {
                        FaultResult result = vm.mmu().faults().map(faulting, slot, START, READ_WRITE);
                        // Also counts when the fault came before the zap: then the zap takes the leaf away.
                        long ended = vm.mmu().invalidations().snapshot() >>> 12;
                        insideZap = result != FaultResult.RETRY && ended == before >>> 12;
                    }),
                    Actor.of("zap", () -> vm.mmu().ranges().unmap(START, START + Gfn.of(2 * BLOCK), how, true)),
                    Actor.of("contender", () -> {
                        vm.mmu().lock().lock(contender.slot(), LockMode.EXCLUSIVE);
                        vm.mmu().lock().unlock(contender.slot(), LockMode.EXCLUSIVE);
                    }));
        }

        @Override
        void judge() {
            assertFalse(insideZap && isLeaf(faulting, page(0)), "mapped between two yields");
            assertFalse(isLeaf(faulting, BASE + BLOCK), "skipped");
        }

        @Override
        public String outcome() {
            return "yields " + vm.stats().yields() + (insideZap ? ", before the zap" : "");
        }
    }

    /** A guest stores through TLBs to two blocks whose zap yields between them. */
    private static final class StoresAndYieldingZap extends VmWorld {
        private final Vcpu guest = vcpu("guest");
        private final VcpuMmu contender = part("contender");
        private final OperationLock how;
        private long seen = -1;
        private long later = -1;

        StoresAndYieldingZap(VmConfig.Builder config, OperationLock how) {
            super(config);
            this.how = how;
            addSlot(SlotFlag.SMALL_PAGES);
            guest.putLong(BASE + BLOCK, 0);
            guest.putLong(page(0), 0);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        for (long value = 1; value <= LAST; value++) {
                            guest.putLong(page(0), value);
                            Interleave.step();
                        }
                    }),
                    Actor.of("zap", () -> vm.mmu().ranges().unmap(START, START + Gfn.of(2 * BLOCK), how, true)),
                    Actor.of("contender", () -> {
                        vm.mmu().lock().lock(contender.slot(), LockMode.EXCLUSIVE);
                        // With the lock alone: where no leaf is, nobody stores.
                        if (!isLeaf(contender, page(0))) {
                            seen = GuestBytes.getLong(hpa(page(0)));
                            Interleave.blocked();
                            later = GuestBytes.getLong(hpa(page(0)));
                        }
                        vm.mmu().lock().unlock(contender.slot(), LockMode.EXCLUSIVE);
                    }));
        }

        @Override
        void judge() {
            assertEquals(seen, later, "stored without a leaf, through a translation whose flush was pending");
            assertEquals(LAST, GuestBytes.getLong(hpa(page(0))));
        }

        @Override
        public String outcome() {
            return seen < 0 ? "leaf was there" : "leaf was gone";
        }
    }

    @Test
    void faultEndsAlthoughInvalidationsOverlapWithoutAGap() {
        Explore.narrow(
                "fault against endless invalidations",
                () -> new FaultAndEndlessInvalidations(VmWorld.parallel()),
                (kind, address) -> WORDS.includes(kind, address) && kind != Interleave.Kind.UPDATE);
    }

    @Test
    void questionReadsTheWordAgainAfterTheRange() {
        Explore.narrow("question against two invalidations", () -> new Question(VmWorld.parallel()), WORDS);
    }

    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void faultNeverMapsARangeThatTheHostHas(OperationLock how) {
        Explore.all("fault against unmap, " + how, () -> new FaultAndUnmap(VmWorld.parallel(), how, 1), 300, 40);
    }

    @Test
    void faultNeverMapsWhatTheSecondOfTwoUnmapsHas() {
        Explore.all(
                "fault against two unmaps, one after the other",
                () -> new FaultAndUnmap(VmWorld.parallel(), OperationLock.SHARED, 2),
                0,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void noStoreUsesTheOldTranslationAfterASharedUnmap(LockPolicy policy) {
        Explore.all(
                "stores against shared unmap, " + policy,
                () -> new StoresAndUnmaps(VmWorld.of(policy), OperationLock.SHARED, 1, SlotFlag.SMALL_PAGES),
                policy == LockPolicy.PARALLEL ? 300 : 0,
                40);
    }

    /** hardware sets D between the look at a leaf and its exchange; the leaf is taken all the same. */
    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void unmapTakesALeafThatHardwareChanges(OperationLock how) {
        Explore.all("first store against unmap, " + how, () -> new FirstStoreAndUnmap(VmWorld.parallel(), how), 0, 40);
    }

    @Test
    void noStoreUsesTheOldTranslationAfterAnExclusiveUnmap() {
        Explore.all(
                "stores against exclusive unmap",
                () -> new StoresAndUnmaps(VmWorld.parallel(), OperationLock.EXCLUSIVE, 1, SlotFlag.SMALL_PAGES),
                0,
                40);
    }

    @Test
    void noStoreUsesTheOldTranslationAfterAnUnmapOfAHugeLeaf() {
        Explore.all(
                "stores against shared unmap of a huge leaf",
                () -> new StoresAndUnmaps(VmWorld.parallel(), OperationLock.SHARED, 1),
                0,
                40);
    }

    @Test
    @Tag("slow")
    void eachOfTwoUnmapsOwnsTheRangeUntilItsOwnEnd() {
        // Both must have waited for their grace periods already when one of them freezes the leaf.
        Explore.narrow(
                "stores against two unmaps",
                () -> new StoresAndUnmaps(VmWorld.parallel(), OperationLock.SHARED, 2, SlotFlag.SMALL_PAGES),
                (kind, address) ->
                        kind == Interleave.Kind.STEP || kind == Interleave.Kind.UPDATE && address == flushSequence);
    }

    @Test
    void unmapFlushesWhatACutOffHasNotFlushedYet() {
        // The cut-off has to begin when the unmap has waited for its grace period already.
        Explore.narrow("unmap against NX cut-off", () -> new CutOffAndUnmap(VmWorld.parallel()), entriesAndFlushes(2));
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void faultNeverBringsBackWhatAYieldingZapTook(LockPolicy policy) {
        for (OperationLock how : OperationLock.values()) {
            Explore.all(
                    "fault against yielding zap, " + policy + ", " + how,
                    () -> new FaultAndYieldingZap(VmWorld.of(policy), how),
                    0,
                    60);
        }
    }

    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void pendingFlushIsNotLostWhenTheZapYields(OperationLock how) {
        Explore.all(
                "stores against yielding zap, " + how,
                () -> new StoresAndYieldingZap(VmWorld.parallel(), how),
                300,
                60);
    }
}
