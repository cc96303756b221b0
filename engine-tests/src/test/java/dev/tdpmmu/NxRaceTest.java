package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * Recovery of huge pages that fetches have split, against faults that want the same block.
 *
 * <pre>
 *  recovery                                  | fault
 *  takes table T from the list               |
 *                                            | puts a huge leaf, or another table, in the place of T
 *  cuts off what the parent has now          |   -- another one's work is lost, and T is counted twice
 * </pre>
 */
final class NxRaceTest {
    private abstract static class Mitigated extends VmWorld {
        final VcpuRun run = run("guest");
        final Vcpu guest = vcpu(run);
        MemSlot slot;

        Mitigated(VmConfig.Builder config) {
            super(config.nxHugePageMitigation(true).nxRecoveryRatio(0));
        }

        @Override
        void judge() {
            assertEquals(vm.stats().nxLpageSplits(), vm.nxHugePages().splits());
        }

        @Override
        public String outcome() {
            VmStats stats = vm.stats();
            return "2m=" + stats.pages2m() + " splits=" + stats.nxLpageSplits() + " promotions=" + stats.promotions();
        }
    }

    /**
     * Recovery of one table, while a guest first reads, which may put a huge leaf in its place, and then fetches, which
     * splits that one again, maybe with the very page that the old table had..
     */
    private static final class Recovery extends Mitigated {
        private long zapped;

        Recovery(VmConfig.Builder config) {
            super(config);
            slot = addSlot();
            // Links an empty table: a huge leaf that is split would fill it, and the read would find its page.
            guest.fetch(page(0));
            guest.putLong(page(1), 1);
            assertEquals(1, vm.nxHugePages().splits());
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("recovery", () -> zapped = vm.mmu().ranges().recoverNx(1)), Actor.of("guest", () -> {
                        guest.getLong(page(2));
                        vm.mmu().rcu().reclaim();
                        guest.fetch(page(2));
                        guest.putLong(page(1), 11);
                    }));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(1, zapped + vm.stats().promotions(), "the table went once: zapped=" + zapped);
            assertEquals(11, GuestBytes.getLong(hpa(page(1))));
            assertEquals(11, guest.getLong(page(1)));
        }

        @Override
        public String outcome() {
            return "zapped " + zapped;
        }
    }

    /** A fetch splits, or links, a table that somebody else cuts off before it is listed. R-30. */
    private static final class TrackAfterDetach extends Mitigated {
        private final VcpuMmu worker = part("worker");
        private final long parentAddress;

        TrackAfterDetach(VmConfig.Builder config, boolean mapped) {
            super(config);
            slot = addSlot();
            // A leaf far behind makes the tables above exist.
            guest.getLong(BASE + BLOCK);
            if (mapped) {
                guest.getLong(page(0));
            }
            parentAddress = spteAddress(worker, page(0), 2);
            name(parentAddress, "entry of level 2");
        }

        private void zapWhatIsThere() {
            vm.mmu().lock().lock(worker.slot(), LockMode.SHARED);
            long spte = SpteAccess.readAcquire(parentAddress);
            if (vm.mmu().format().isTable(spte, 2)) {
                vm.mmu().updater().tryZap(worker.slot(), parentAddress, Gfn.of(page(0)), 2, spte);
            }
            vm.mmu().lock().unlock(worker.slot(), LockMode.SHARED);
            vm.mmu().rcu().reclaim();
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", () -> guest.fetch(page(0))), Actor.of("remover", this::zapWhatIsThere));
        }

        @Override
        void judge() {
            super.judge();
            assertTrue(vm.nxHugePages().splits() <= 1);
            // Follows the header of whatever is listed.
            vm.mmu().ranges().recoverNx(4);
            assertEquals(0, vm.nxHugePages().splits());
            assertEquals(0, vm.stats().pages4k());
        }
    }

    /** Two rounds at once: each table is zapped by one of them. */
    private static final class TwoRounds extends Mitigated {
        private final long[] zapped = new long[2];

        TwoRounds(VmConfig.Builder config) {
            super(config);
            slot = addSlot();
            guest.fetch(page(0));
            guest.fetch(BASE + BLOCK);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("first", () -> zapped[0] = vm.mmu().ranges().recoverNx(2)),
                    Actor.of("second", () -> zapped[1] = vm.mmu().ranges().recoverNx(2)));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(2, zapped[0] + zapped[1]);
            assertEquals(0, vm.stats().pages4k());
        }
    }

    /** A fetch that wants a small leaf against a read that wants a huge one, where no table is. R-28. */
    private static final class Levels extends Mitigated {
        private final VcpuMmu fetching = part("fetching");
        private final VcpuMmu reading = part("reading");

        Levels(VmConfig.Builder config, boolean mapped) {
            super(config);
            slot = addSlot();
            guest.getLong(BASE + BLOCK);
            if (mapped) {
                guest.getLong(page(0));
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("fetch", () -> fault(fetching, slot, page(0), Access.EXECUTE)),
                    Actor.of("read", () -> fault(reading, slot, page(1), Access.READ)));
        }

        @Override
        void judge() {
            super.judge();
            assertTrue(isLeaf(reading, page(1)));
            assertTrue(isLeaf(fetching, page(0)));
            assertTrue(
                    vm.mmu().format().isExecutable(spte(fetching, page(0))), "the fetch got a leaf of a wrong level");
            assertEquals(level(fetching, page(0)) == 1 ? 1 : 0, vm.nxHugePages().splits());
        }
    }

    @Test
    void recoveryZapsOnlyATableThatIsStillInItsPlace() {
        PointFilter tablesAndSteps =
                (kind, address) -> kind == Interleave.Kind.STEP || Explore.TABLES.includes(kind, address);
        Explore.narrow("NX recovery against promotion", () -> new Recovery(VmWorld.parallel()), tablesAndSteps);
    }

    @Test
    void tableThatWasDetachedBeforeItWasListedIsNotListed() {
        Explore.all("track after detach, split", () -> new TrackAfterDetach(VmWorld.parallel(), true), 0, 50);
        Explore.all("track after detach, link", () -> new TrackAfterDetach(VmWorld.parallel(), false), 0, 50);
    }

    @Test
    void twoRoundsShareTheList() {
        Explore.narrow("two NX rounds", () -> new TwoRounds(VmWorld.parallel()), Explore.TABLES);
    }

    @Test
    void leafIsInstalledOnlyAtTheLevelThatWasReached() {
        Explore.all("fetch against read, mapped", () -> new Levels(VmWorld.parallel(), true), 500, 50);
        Explore.all("fetch against read, empty", () -> new Levels(VmWorld.parallel(), false), 500, 50);
    }
}
