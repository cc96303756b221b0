package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotChange;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Roots that come and go under faults, and faults that are overtaken by an invalidation.
 *
 * <pre>
 *  fault                                       | zap of everything
 *  root is valid; takes its snapshot           |
 *                                              | marks the root invalid, zaps it in passes
 *  takes the lock, maps into the dead root     |   -- nobody will ever zap that leaf
 * </pre>
 */
final class RootRaceTest {
    /** Two vCPUs store while everything is zapped. */
    private static final class FaultsAgainstZap extends VmWorld {
        private final Vcpu first = vcpu("first");
        private final VcpuRun run = run("last");
        private final int zaps;

        FaultsAgainstZap(VmConfig.Builder config, int zaps) {
            super(config);
            this.zaps = zaps;
            addSlot(SlotFlag.SMALL_PAGES);
            first.putLong(page(0), 0);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        first.putLong(page(0), 1);
                        first.putLong(page(1), 2);
                    }),
                    Actor.of("zap", () -> {
                        for (int i = 0; i < zaps; i++) {
                            vm.mmu().zapAllFast(Gfn.of(BASE), Gfn.of(BASE + 2 * BLOCK));
                        }
                        vm.mmu().rcu().reclaim();
                    }));
        }

        @Override
        void judge() {
            assertEquals(1, GuestBytes.getLong(hpa(page(0))));
            assertEquals(2, GuestBytes.getLong(hpa(page(1))));
            for (TdpRoot root : vm.mmu().roots().roots()) {
                if (root.isInvalid()) {
                    assertEmpty(root);
                }
            }
            first.putLong(page(2), 3);
            vcpu(run).putLong(page(3), 4);
            assertEquals(1, vm.mmu().roots().roots().size(), "an invalid root is still there");
        }

        private static void assertEmpty(TdpRoot root) {
            for (int i = 0; i < 512; i++) {
                assertEquals(
                        Spte.NON_PRESENT,
                        SpteAccess.readAcquire(root.hpa() + i * 8L),
                        "entry in a dead root: index=" + i);
            }
        }
    }

    /** vCPUs drop and load roots while everything is zapped. */
    private static final class Reloads extends VmWorld {
        private final VcpuMmu first = part("first");
        private final VcpuMmu second = part("second");

        Reloads(VmConfig.Builder config) {
            super(config);
        }

        private void reload(VcpuMmu part) {
            vm.mmu().unloadRoot(part);
            assertTrue(vm.mmu().loadRoot(part));
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("first", () -> reload(first)),
                    Actor.of("second", () -> reload(second)),
                    Actor.of("zap", () -> vm.mmu().zapAllFast(0, 1)));
        }

        @Override
        void judge() {
            if (!first.root().isInvalid() && !second.root().isInvalid()) {
                assertSame(first.root(), second.root());
            }
            long valid = vm.mmu().roots().roots().stream()
                    .filter(root -> !root.isInvalid())
                    .count();
            assertTrue(valid <= 1, "valid roots: " + valid);
        }
    }

    /** One leaf is invalidated, its slot being gone, without touching the root. */
    private static final class Invalidation extends VmWorld {
        private final VcpuRun run = run("guest");
        private final VcpuMmu worker = part("worker");
        private final MemSlot slot;
        private final boolean twice;
        private SlotChange change;

        Invalidation(VmConfig.Builder config, boolean twice) {
            super(config);
            this.twice = twice;
            slot = addSlot(SlotFlag.SMALL_PAGES);
            vcpu(run).getLong(page(1));
        }

        private void invalidate() {
            long gfn = Gfn.of(page(0));
            if (twice) {
                // A range of somebody else that comes to its end does not end ours.
                lockAnd(() -> vm.mmu().invalidations().begin(gfn + 8, gfn + 9));
            }
            change = vm.slots().remove(slot);
            lockAnd(() -> vm.mmu().invalidations().begin(gfn, gfn + 16));
            lockAnd(() -> zap(0));
            lockAnd(() -> zap(1));
            lockAnd(() -> vm.mmu().invalidations().end(gfn, gfn + 16));
            if (twice) {
                lockAnd(() -> vm.mmu().invalidations().end(gfn + 8, gfn + 9));
            }
        }

        private void zap(int index) {
            if (isLeaf(worker, page(index))) {
                long address = spteAddress(worker, page(index), 1);
                long spte = SpteAccess.readAcquire(address);
                vm.mmu()
                        .updater()
                        .set(
                                worker.slot(),
                                address,
                                Gfn.of(page(index)),
                                1,
                                spte,
                                Spte.NON_PRESENT,
                                new RetiredBatch());
                shootdown.flushRange(Gfn.of(page(index)), Gfn.of(page(index)) + 1);
            }
        }

        private void lockAnd(Runnable action) {
            ReaderSlot slotOfWorker = worker.slot();
            vm.mmu().lock().lock(slotOfWorker, LockMode.EXCLUSIVE);
            action.run();
            vm.mmu().lock().unlock(slotOfWorker, LockMode.EXCLUSIVE);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> run.touch(page(0), READ_WRITE & ~1)),
                    Actor.of("invalidation", this::invalidate));
        }

        @Override
        void judge() {
            assertFalse(isLeaf(worker, page(0)), "leaf of a frame that is gone");
            assertEquals(0, vm.mmu().invalidations().inProgress());
            change.complete();
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void noLeafIsMappedIntoDeadRoot(LockPolicy policy) {
        Explore.all(
                "faults against zap of everything, " + policy,
                () -> new FaultsAgainstZap(VmWorld.of(policy), 1),
                0,
                policy == LockPolicy.PARALLEL ? 60 : 20);
    }

    @Test
    void noLeafIsMappedIntoDeadRootsOfTwoZaps() {
        Explore.all("faults against two zaps", () -> new FaultsAgainstZap(VmWorld.parallel(), 2), 0, 50);
    }

    @Test
    void rootIsFreedOnce() {
        Explore.all("reloads against zap of everything", () -> new Reloads(VmWorld.parallel()), 500, 50);
    }

    @Test
    void faultNeverMapsWhatWasInvalidated() {
        Explore.all("fault against invalidation", () -> new Invalidation(VmWorld.parallel(), false), 1_000, 60);
        Explore.all("fault against two invalidations", () -> new Invalidation(VmWorld.parallel(), true), 0, 50);
    }
}
