package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Huge leaves that come back in place, while guests read and store through the small ones.
 *
 * <pre>
 *  guest                                  | recovery
 *                                         | zaps the table, to let a fault make the huge leaf
 *  loads                                  |   -- faults, although nothing was ever taken away from it
 * </pre>
 */
final class RecoverRaceTest {
    private static final PointFilter ENTRIES =
            (kind, address) -> kind == Interleave.Kind.STEP || Explore.TABLES.includes(kind, address);

    /** A block of small leaves of a slot that may have huge ones now. */
    private abstract static class Recovered extends VmWorld {
        final VcpuRun run = run("guest");
        final Vcpu guest = vcpu(run);
        final VcpuMmu worker = part("worker");
        final MemSlot slot;
        long recovered;

        Recovered(VmConfig.Builder config) {
            super(config);
            MemSlot small = addSlot(SlotFlag.SMALL_PAGES);
            guest.getLong(page(0));
            guest.getLong(page(1));
            slot = vm.changeSlotFlags(small);
            name(spteAddress(worker, page(0), 2), "entry of level 2");
        }

        final void recover() {
            recovered = vm.mmu().ranges().recover(slot);
            vm.mmu().rcu().reclaim();
        }

        @Override
        void judge() {
            assertEquals(2, level(worker, page(0)));
        }

        @Override
        public String outcome() {
            return "recovered " + recovered;
        }
    }

    /** The guest only reads what it has mapped. */
    private static final class Reader extends Recovered {
        private final VmStats before;

        Reader(VmConfig.Builder config) {
            super(config);
            before = vm.stats();
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("recovery", this::recover), Actor.of("guest", () -> {
                for (int i = 0; i < 3; i++) {
                    run.tlb.flushAll();
                    assertEquals(0, guest.getLong(page(i & 1)) & ~1L);
                    Interleave.step();
                }
            }));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(1, recovered);
            VmStats after = vm.stats();
            assertEquals(before.pfFixed(), after.pfFixed(), "a hole was seen");
            assertEquals(before.pfFast(), after.pfFast());
            // A walk that stood in the old table exits once, to find everything there.
            assertTrue(after.pfSpurious() <= before.pfSpurious() + 1);
        }
    }

    /** The guest stores for the first time: the D that hardware sets in a small leaf must reach the huge one. */
    private static final class Store extends Recovered {
        Store(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("recovery", this::recover), Actor.of("guest", () -> {
                guest.putLong(page(1), 5);
                Interleave.step();
                guest.putLong(page(1), 6);
            }));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(6, GuestBytes.getLong(hpa(page(1))));
            assertTrue(vm.mmu().format().isDirty(spte(worker, page(1))), "D was lost");
            assertTrue(vm.mmu().format().isAccessed(spte(worker, page(1))), "A was lost");
        }
    }

    /** A fault wants a page of the block that is not mapped: it makes the huge leaf itself, or finds it. */
    private static final class Fault extends Recovered {
        private final VcpuMmu faulting = part("faulting");

        Fault(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("recovery", this::recover),
                    Actor.of("fault", () -> fault(faulting, slot, page(3), READ_WRITE)),
                    Actor.of("guest", () -> guest.putLong(page(0), 9)));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(1, vm.stats().promotions());
            assertEquals(9, GuestBytes.getLong(hpa(page(0))));
            assertTrue(vm.mmu().format().isDirty(spte(worker, page(0))));
        }
    }

    /** Without A/D bits: the first leaf is old, and the one behind it is made young by a fast fix meanwhile. */
    private static final class Tracked extends Recovered {
        private long left;

        Tracked(VmConfig.Builder config) {
            super(config);
            vm.mmu().ranges().age(slot.baseGfn(), slot.endGfn());
            vm.mmu().ranges().flush(slot.baseGfn(), slot.endGfn());
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("recovery", this::recover), Actor.of("guest", () -> left = guest.getLong(page(1))));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(0, left & ~1L);
            assertTrue(vm.mmu().format().isAccessed(spte(worker, page(1))), "young was lost");
            assertTrue(vm.mmu().format().allows(spte(worker, page(0)), Access.READ));
        }
    }

    @ParameterizedTest
    @EnumSource(AccessedDirty.class)
    void readerNeverSeesAHole(AccessedDirty bits) {
        Explore.narrow(
                "recovery against reads, A/D " + bits,
                () -> new Reader(VmWorld.parallel().accessedDirty(bits)),
                ENTRIES);
    }

    @Test
    void dirtyBitReachesTheHugeLeaf() {
        Explore.narrow("recovery against the first store", () -> new Store(VmWorld.parallel()), ENTRIES);
    }

    @Test
    void faultAndRecoveryMakeOneHugeLeaf() {
        Explore.all("recovery against fault", () -> new Fault(VmWorld.parallel()), 300, 40);
    }

    @Test
    void youngLeafMakesTheHugeLeafYoung() {
        Explore.narrow(
                "recovery against a fast fix of access",
                () -> new Tracked(VmWorld.parallel().accessedDirty(AccessedDirty.OFF)),
                ENTRIES);
    }
}
