package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Stores of a guest, by TLB hit, by walk and by fast fix, against operations that take the translation away.
 *
 * <p>How a stale translation is seen although a new one leads to the same frame: the other side reads the frame when
 * its operation has returned. A value that comes later went through a new translation, and a store through a new leaf
 * has set its D, and W where W was taken away. And what came before went through the old leaf, whose D the operation
 * must have seen.
 */
final class ZapRaceTest {
    private static final long STORES = 3;

    /** A vCPU stores 1, 2, 3 to a page while somebody does something to its leaf. */
    private abstract static class Stores extends VmWorld {
        final VcpuRun run = run("guest");
        final Vcpu guest = vcpu(run);
        final VcpuMmu worker = part("worker");

        /** What the frame held when the operation had returned. */
        long seenAfter = -1;

        /** The entry that the operation took away. */
        long oldSpte;

        final long last;

        Stores(VmConfig.Builder config, boolean stored, long last) {
            super(config);
            this.last = last;
            addSlot(SlotFlag.SMALL_PAGES);
            if (stored) {
                guest.putLong(page(0), 0);
            } else {
                guest.getLong(page(0));
            }
            name(spteAddress(worker, page(0), 1), "leaf");
            name(hpa(page(0)), "frame");
        }

        abstract void operate();

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        for (long value = 1; value <= last; value++) {
                            guest.putLong(page(0), value);
                            // Between two accesses, so that the operation need not wait for this vCPU.
                            Interleave.step();
                        }
                    }),
                    Actor.of("worker", () -> {
                        operate();
                        seenAfter = GuestBytes.getLong(hpa(page(0)));
                    }));
        }

        @Override
        void judge() {
            assertEquals(last, GuestBytes.getLong(hpa(page(0))));
        }

        @Override
        public String outcome() {
            return "seen after " + seenAfter;
        }
    }

    /** The leaf is zapped under the shared lock, or under the exclusive one. */
    private static final class Zap extends Stores {
        private final LockMode mode;

        Zap(VmConfig.Builder config, LockMode mode, boolean stored, boolean writeProtected) {
            super(config, stored, stored ? STORES : 1);
            this.mode = mode;
            if (writeProtected) {
                vm.mmu().ranges().writeProtect(Gfn.of(BASE), Gfn.of(BASE) + 16);
            }
        }

        @Override
        void operate() {
            ReaderSlot slot = worker.slot();
            vm.mmu().lock().lock(slot, mode);
            if (mode == LockMode.SHARED) {
                zapShared(slot);
            } else {
                zapExclusive(slot);
            }
            vm.mmu().lock().unlock(slot, mode);
        }

        private void zapShared(ReaderSlot slot) {
            long address = spteAddress(worker, page(0), 1);
            do {
                oldSpte = SpteAccess.readAcquire(address);
            } while (!vm.mmu().updater().tryZap(slot, address, Gfn.of(page(0)), 1, oldSpte));
        }

        private void zapExclusive(ReaderSlot slot) {
            long address = spteAddress(worker, page(0), 1);
            long seen = SpteAccess.readAcquire(address);
            RetiredBatch batch = new RetiredBatch();
            oldSpte = vm.mmu().updater().set(slot, address, Gfn.of(page(0)), 1, seen, Spte.NON_PRESENT, batch);
            shootdown.flushRange(Gfn.of(page(0)), Gfn.of(page(0)) + 1);
        }

        @Override
        void judge() {
            super.judge();
            if (seenAfter != last) {
                assertTrue(isLeaf(worker, page(0)), "stored without a leaf: seenAfter=" + seenAfter);
                assertTrue(vm.mmu().format().isDirty(spte(worker, page(0))), "stored through a leaf without D");
            }
            long dirty = oldSpte | (isLeaf(worker, page(0)) ? spte(worker, page(0)) : 0);
            assertTrue(vm.mmu().format().isDirty(dirty), "D of the zapped leaf was lost");
        }
    }

    /** The leaf loses W. */
    private static final class WriteProtect extends Stores {
        WriteProtect(VmConfig.Builder config, boolean stored) {
            super(config, stored, STORES);
        }

        @Override
        void operate() {
            vm.mmu().ranges().writeProtect(Gfn.of(BASE), Gfn.of(BASE) + 16);
        }

        @Override
        void judge() {
            super.judge();
            if (seenAfter != last) {
                assertTrue(vm.mmu().format().isWritable(spte(worker, page(0))), "stored without W: " + seenAfter);
                assertTrue(vm.stats().pfFast() > 0, "the leaf was skipped: nothing gave W back");
            }
        }
    }

    /** The table above the leaf is zapped under the shared lock, while another vCPU faults into it. */
    private static final class TableZap extends Stores {
        private final Vcpu other = vcpu("other");

        TableZap(VmConfig.Builder config) {
            super(config, true, STORES);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        for (long value = 1; value <= last; value++) {
                            guest.putLong(page(0), value);
                        }
                    }),
                    Actor.of("other", () -> other.putLong(page(5), 5)),
                    Actor.of("worker", () -> {
                        operate();
                        seenAfter = GuestBytes.getLong(hpa(page(0)));
                        vm.mmu().rcu().reclaim();
                    }));
        }

        @Override
        void operate() {
            ReaderSlot slot = worker.slot();
            vm.mmu().lock().lock(slot, LockMode.SHARED);
            long address = spteAddress(worker, page(0), 2);
            do {
                oldSpte = SpteAccess.readAcquire(address);
            } while (!vm.mmu().updater().tryZap(slot, address, Gfn.of(page(0)), 2, oldSpte));
            vm.mmu().lock().unlock(slot, LockMode.SHARED);
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(5, GuestBytes.getLong(hpa(page(5))));
            if (seenAfter != last) {
                assertTrue(isLeaf(worker, page(0)), "stored without a leaf: seenAfter=" + seenAfter);
            }
        }
    }

    /** A table and one of its leaves are zapped at once; a fault comes later. */
    private static final class TableAndLeafZap extends VmWorld {
        private final VcpuMmu zapsTable = part("zapsTable");
        private final VcpuMmu zapsLeaf = part("zapsLeaf");
        private final VcpuMmu faulting = part("faulting");
        private final MemSlot slot;
        private final long leafAddress;

        TableAndLeafZap(VmConfig.Builder config) {
            super(config);
            slot = addSlot(SlotFlag.SMALL_PAGES);
            fault(faulting, slot, page(0), READ_WRITE);
            leafAddress = spteAddress(faulting, page(0), 1);
            name(leafAddress, "leaf");
        }

        private void zapTable() {
            vm.mmu().lock().lock(zapsTable.slot(), LockMode.SHARED);
            long address = spteAddress(zapsTable, page(0), 2);
            long spte = SpteAccess.readAcquire(address);
            assertTrue(vm.mmu().updater().tryZap(zapsTable.slot(), address, Gfn.of(page(0)), 2, spte));
            vm.mmu().lock().unlock(zapsTable.slot(), LockMode.SHARED);
        }

        private void zapLeaf() {
            vm.mmu().lock().lock(zapsLeaf.slot(), LockMode.SHARED);
            if (level(zapsLeaf, page(0)) == 1 && isLeaf(zapsLeaf, page(0))) {
                long spte = SpteAccess.readAcquire(leafAddress);
                if (vm.mmu().format().isLeaf(spte, 1)) {
                    vm.mmu().updater().tryZap(zapsLeaf.slot(), leafAddress, Gfn.of(page(0)), 1, spte);
                }
            }
            vm.mmu().lock().unlock(zapsLeaf.slot(), LockMode.SHARED);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("zapsTable", this::zapTable),
                    Actor.of("zapsLeaf", this::zapLeaf),
                    Actor.of("faulting", () -> fault(faulting, slot, page(0), READ_WRITE)));
        }

        @Override
        void judge() {
            // The tree and the counters are verified by the caller.
            assertTrue(vm.stats().pages4k() <= 1);
        }
    }

    @Test
    void tableZapWaitsForZapOfItsLeaf() {
        Explore.narrow(
                "zap of a table against zap of its leaf",
                () -> new TableAndLeafZap(VmWorld.parallel()),
                Explore.TABLES);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void fastFixNeverRevivesZappedLeaf(LockPolicy policy) {
        Explore.all(
                "fast fix against zap, " + policy,
                () -> new Zap(VmWorld.of(policy), LockMode.SHARED, true, true),
                policy == LockPolicy.PARALLEL ? 500 : 0,
                100);
    }

    @Test
    void zapIsFinalWhenItReturns() {
        Explore.all("TLB hits against zap", () -> new Zap(VmWorld.parallel(), LockMode.SHARED, true, false), 500, 60);
    }

    @Test
    void zapSeesDirtyBitThatHardwareSets() {
        Explore.all(
                "first store against shared zap",
                () -> new Zap(VmWorld.parallel(), LockMode.SHARED, false, false),
                0,
                60);
        Explore.all(
                "first store against exclusive zap",
                () -> new Zap(VmWorld.parallel(), LockMode.EXCLUSIVE, false, false),
                0,
                60);
    }

    @Test
    void writeProtectionIsFinalWhenItReturns() {
        Explore.all("stores against write protection", () -> new WriteProtect(VmWorld.parallel(), true), 2_500, 60);
        PointFilter betweenStores = (kind, address) -> kind == Interleave.Kind.STEP;
        Explore.narrow(
                "first store against write protection",
                () -> new WriteProtect(VmWorld.parallel(), false),
                Explore.TABLES.or(betweenStores));
    }

    @Test
    void faultsNeverFillZappedTable() {
        Explore.all("stores against zap of the table", () -> new TableZap(VmWorld.parallel()), 500, 60);
    }
}
