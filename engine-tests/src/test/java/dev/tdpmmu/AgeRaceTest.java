package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Ageing, which holds no lock, against those who do and against hardware.
 *
 * <pre>
 *  ageing                                 | zap
 *  reads a young leaf                     |
 *                                         | exchanges it for FROZEN, flushes
 *  takes A by an atomic AND               |   -- FROZEN with a bit less: nobody's marker, a leaf of nothing
 * </pre>
 */
final class AgeRaceTest {
    private static final long BLOCK_INDEX = VmWorld.BASE / VmWorld.BLOCK;

    /** The entries of the two pages and of the tables above them, and the pause of a guest between two accesses. */
    private static final PointFilter ENTRIES = (kind, address) -> kind == Interleave.Kind.STEP
            || HostMemory.isTable(address)
                    && ((address & Gfn.PAGE_OFFSET_MASK) <= Long.BYTES
                            || (address & Gfn.PAGE_OFFSET_MASK) == BLOCK_INDEX * Long.BYTES);

    private abstract static class Aged extends VmWorld {
        final VcpuRun run = run("guest");
        final Vcpu guest = vcpu(run);
        final VcpuMmu worker = part("worker");
        final MemSlot slot;
        long young;

        Aged(VmConfig.Builder config, boolean stored) {
            super(config);
            slot = addSlot(SlotFlag.SMALL_PAGES);
            if (stored) {
                guest.putLong(page(0), 0);
            } else {
                guest.getLong(page(0));
            }
            name(spteAddress(worker, page(0), 1), "leaf");
        }

        final void age(int pages) {
            young = vm.mmu().ranges().age(Gfn.of(BASE), Gfn.of(BASE) + pages);
        }
    }

    /** The leaf, or its table, is zapped under the shared lock, and the guest faults it in again. */
    private static final class AgainstZap extends Aged {
        private final int level;
        private final VcpuMmu faulting = part("faulting");

        AgainstZap(VmConfig.Builder config, int level) {
            super(config, true);
            this.level = level;
        }

        private void zap() {
            ReaderSlot reader = worker.slot();
            vm.mmu().lock().lock(reader, LockMode.SHARED);
            long address = spteAddress(worker, page(0), level);
            long spte;
            do {
                spte = SpteAccess.readAcquire(address);
            } while (!vm.mmu().updater().tryZap(reader, address, Gfn.of(page(0)), level, spte));
            vm.mmu().lock().unlock(reader, LockMode.SHARED);
            vm.mmu().rcu().reclaim();
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("ageing", () -> age(1)),
                    Actor.of("zap", this::zap),
                    // With a root, but without a translation: it meets whatever is in the entry.
                    Actor.of("fault", () -> fault(faulting, slot, page(0), READ_WRITE)));
        }

        @Override
        void judge() {
            assertTrue(young <= 1);
            assertTrue(vm.stats().pages4k() <= 1);
            guest.putLong(page(0), 7);
            assertEquals(7, GuestBytes.getLong(hpa(page(0))));
        }
    }

    /** The guest stores for the first time while its page is made old: D, and W where there is no D, must come out. */
    private static final class AgainstStore extends Aged {
        private boolean youngAfter;

        AgainstStore(VmConfig.Builder config) {
            super(config, false);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("ageing", () -> age(2)), Actor.of("guest", () -> {
                guest.putLong(page(0), 1);
                Interleave.step();
                guest.putLong(page(0), 2);
                guest.putLong(page(1), 3);
            }));
        }

        @Override
        void judge() {
            long spte = spte(worker, page(0));
            assertEquals(2, GuestBytes.getLong(hpa(page(0))));
            if (vm.config().accessedDirty() == AccessedDirty.ON) {
                assertTrue(vm.mmu().format().isDirty(spte), "D was lost");
            }
            // Behind a flush every use makes its page young.
            vm.mmu().ranges().flush(Gfn.of(BASE), Gfn.of(BASE) + 2);
            guest.getLong(page(1));
            youngAfter = vm.mmu().ranges().testAge(Gfn.of(page(1)), Gfn.of(page(1)) + 1);
            assertTrue(youngAfter);
        }

        @Override
        public String outcome() {
            return "young " + young;
        }
    }

    @ParameterizedTest
    @EnumSource(AccessedDirty.class)
    void ageingNeverTouchesAFrozenEntry(AccessedDirty bits) {
        Explore.narrow(
                "ageing against zap of the leaf, A/D " + bits,
                () -> new AgainstZap(VmWorld.parallel().accessedDirty(bits), 1),
                ENTRIES);
        Explore.narrow(
                "ageing against zap of the table, A/D " + bits,
                () -> new AgainstZap(VmWorld.parallel().accessedDirty(bits), 2),
                ENTRIES);
    }

    @ParameterizedTest
    @EnumSource(AccessedDirty.class)
    void ageingLosesNoStore(AccessedDirty bits) {
        Explore.narrow(
                "ageing against the first store, A/D " + bits,
                () -> new AgainstStore(VmWorld.parallel().accessedDirty(bits)),
                ENTRIES);
    }
}
