package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Stores of a guest against the switching, the harvest and the clearing of the dirty log, and against what else changes
 * its leaves meanwhile.
 *
 * <p>The host copies a page only when the log says so, as a migration does. In the end, after one more harvest, its
 * copy must be what the memory holds: a store that the log has missed is missing in the copy.
 */
final class DirtyLogRaceTest {
    private static final long LAST = 3;

    /** How a store is seen. */
    private enum Means {
        HARDWARE_LOG,
        DIRTY_BIT_AND_WRITE_PROTECTION,
        WRITE_PROTECTION;

        VmConfig.Builder of(VmConfig.Builder config) {
            return config.pml(this == HARDWARE_LOG)
                    .accessedDirty(this == WRITE_PROTECTION ? AccessedDirty.OFF : AccessedDirty.ON);
        }
    }

    /** A vCPU stores 1, 2, 3 to a page whose log the host reads. */
    private abstract static class Logged extends VmWorld {
        final Vcpu guest;
        final VcpuMmu worker = part("worker");
        final boolean manual;
        MemSlot slot;
        DirtyLog log;
        long mirror;

        Logged(VmConfig.Builder config, SlotFlag... flags) {
            super(config);
            manual = vm.config().dirtyLog().tracking() == DirtyTracking.MANUAL_PROTECT;
            slot = addSlot(flags);
            guest = vcpu(attached());
            name(hpa(page(0)), "frame");
        }

        final void store() {
            for (long value = 1; value <= LAST; value++) {
                guest.putLong(page(0), value);
                // Between two accesses, so that the host need not wait for this vCPU.
                Interleave.step();
            }
        }

        final void harvest() {
            DirtyPages dirty = log.harvest();
            if (manual) {
                log.clear(dirty);
            }
            if (dirty.isDirty(0)) {
                mirror = GuestBytes.getLong(hpa(page(0)));
            }
            assertTrue(dirty.count() <= 1, "pages that nobody stored to: " + dirty);
        }

        @Override
        void judge() {
            harvest();
            assertEquals(GuestBytes.getLong(hpa(page(0))), mirror, "store was not logged");
            assertEquals(0, log.harvest().count(), "logged twice");
        }

        @Override
        public String outcome() {
            return "mirror " + mirror;
        }
    }

    /** The page is harvested twice while it is stored to. */
    private static final class Harvest extends Logged {
        Harvest(VmConfig.Builder config, boolean loadedBefore) {
            super(config, SlotFlag.SMALL_PAGES);
            log = vm.startDirtyLog(slot);
            if (loadedBefore) {
                guest.getLong(page(0));
                name(spteAddress(worker, page(0), 1), "leaf");
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("host", () -> {
                harvest();
                harvest();
            }));
        }
    }

    /** The log is switched on while the page is stored to; then the host copies everything. */
    private static final class Enable extends Logged {
        Enable(VmConfig.Builder config, Before before, SlotFlag... flags) {
            super(config, flags);
            switch (before) {
                case STORED -> guest.putLong(page(0), 0);
                case PROTECTED -> {
                    guest.putLong(page(0), 0);
                    vm.mmu().ranges().writeProtect(Gfn.of(BASE), Gfn.of(BASE) + 1);
                }
                case NOTHING -> {}
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("host", () -> {
                log = vm.startDirtyLog(slot);
                mirror = GuestBytes.getLong(hpa(page(0)));
            }));
        }
    }

    private enum Before {
        NOTHING,
        PROTECTED,
        STORED
    }

    /** The log is switched off and on again while the page is stored to. */
    private static final class Restart extends Logged {
        Restart(VmConfig.Builder config) {
            super(config, SlotFlag.SMALL_PAGES);
            log = vm.startDirtyLog(slot);
            guest.putLong(page(0), 0);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("host", () -> {
                log.stop();
                log = vm.startDirtyLog(vm.memorySlots().getFirst());
                mirror = GuestBytes.getLong(hpa(page(0)));
            }));
        }
    }

    /** The logged slot moves while its old place is stored to. */
    private static final class Move extends Logged {
        private static final long ELSEWHERE = BASE + 16 * BLOCK;

        Move(VmConfig.Builder config) {
            super(config, SlotFlag.SMALL_PAGES);
            log = vm.startDirtyLog(slot);
            guest.getLong(page(0));
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        try {
                            store();
                        } catch (GuestAccessException gone) {
                            assertEquals(GuestAccessException.Reason.NO_SLOT, gone.reason());
                        }
                    }),
                    Actor.of("host", () -> vm.moveSlot(vm.memorySlots().getFirst(), ELSEWHERE)));
        }
    }

    /** The leaf is zapped while it is armed. */
    private static final class ArmAgainstZap extends Logged {
        /** One actor stores and one arms: nobody changes the leaf as often. */
        private static final int MAX_TRIES = 16;

        ArmAgainstZap(VmConfig.Builder config) {
            super(config, SlotFlag.SMALL_PAGES);
            log = vm.startDirtyLog(slot);
            guest.putLong(page(0), 0);
            name(spteAddress(worker, page(0), 1), "leaf");
        }

        private void zap() {
            vm.mmu().lock().lock(worker.slot(), LockMode.SHARED);
            long address = spteAddress(worker, page(0), 1);
            int tries = 0;
            long spte;
            do {
                assertTrue(++tries <= MAX_TRIES, "leaf changes on and on");
                spte = SpteAccess.readAcquire(address);
            } while (!vm.mmu().updater().tryZap(worker.slot(), address, Gfn.of(page(0)), 1, spte));
            vm.mmu().lock().unlock(worker.slot(), LockMode.SHARED);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> guest.putLong(page(0), 1)),
                    Actor.of("zap", this::zap),
                    Actor.of("host", this::harvest));
        }
    }

    /** A huge leaf is split by a store while the log that is switched on protects it. */
    private static final class ProtectAgainstSplit extends Logged {
        ProtectAgainstSplit(VmConfig.Builder config) {
            super(config.eagerSplit(false));
            guest.putLong(page(0), 0);
            assertEquals(PagingLevel.L2M, level(worker, page(0)));
            name(spteAddress(worker, page(0), PagingLevel.L2M), "huge");
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", this::store),
                    Actor.of("split", () -> vm.mmu().ranges().split(Gfn.of(BASE), Gfn.of(BASE) + 1, PagingLevel.L4K)),
                    Actor.of("host", () -> {
                        log = vm.startDirtyLog(slot);
                        mirror = GuestBytes.getLong(hpa(page(0)));
                    }));
        }

        @Override
        void judge() {
            super.judge();
            assertTrue(guest.touch(page(1), Access.WRITE), "what was split can be stored to");
        }
    }

    @ParameterizedTest
    @EnumSource(Means.class)
    void pageIsMarkedAfterItsEntryIsWritable(Means means) {
        Explore.all("harvest, " + means, () -> new Harvest(means.of(VmWorld.parallel()), true), 300, 40);
        Explore.all("harvest, nothing mapped, " + means, () -> new Harvest(means.of(VmWorld.parallel()), false), 0, 40);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void manualClearLosesNoStore(LockPolicy policy) {
        Explore.all(
                "clear, " + policy,
                () -> new Harvest(VmWorld.of(policy).dirtyTracking(DirtyTracking.MANUAL_PROTECT), true),
                0,
                30);
    }

    @ParameterizedTest
    @EnumSource(Means.class)
    void logThatIsSwitchedOnMissesNoStore(Means means) {
        for (Before before : Before.values()) {
            Explore.all(
                    "enable, " + means + ", " + before,
                    () -> new Enable(means.of(VmWorld.parallel()), before, SlotFlag.SMALL_PAGES),
                    0,
                    40);
        }
        Explore.all("enable, huge, " + means, () -> new Enable(means.of(VmWorld.parallel()), Before.STORED), 0, 40);
        Explore.all(
                "enable, huge, protected, " + means,
                () -> new Enable(means.of(VmWorld.parallel()).eagerSplit(false), Before.PROTECTED),
                0,
                40);
    }

    /** A store may fill the TLB again between the protection of huge leaves and the clearing of D behind it. */
    @Test
    void logThatIsSwitchedOnForgetsWhatWasCachedBeforeTheClearing() {
        Explore.narrow(
                "enable, stores around the clearing",
                () -> new Enable(Means.HARDWARE_LOG.of(VmWorld.parallel()), Before.STORED, SlotFlag.SMALL_PAGES),
                Explore.TABLES_AND_STEPS);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void logThatIsSwitchedOnMissesNoStoreUnderAnyLock(LockPolicy policy) {
        Explore.all(
                "enable, " + policy,
                () -> new Enable(VmWorld.of(policy).pml(false), Before.PROTECTED, SlotFlag.SMALL_PAGES),
                0,
                20);
    }

    @ParameterizedTest
    @EnumSource(
            value = Means.class,
            names = {"HARDWARE_LOG", "WRITE_PROTECTION"})
    void logThatIsSwitchedOffAndOnMissesNoStore(Means means) {
        Explore.all("restart, " + means, () -> new Restart(means.of(VmWorld.parallel())), 0, 40);
    }

    @ParameterizedTest
    @EnumSource(
            value = Means.class,
            names = {"HARDWARE_LOG", "WRITE_PROTECTION"})
    void movedSlotLosesNoMark(Means means) {
        Explore.all("move, " + means, () -> new Move(means.of(VmWorld.parallel())), 0, 40);
    }

    /** after a lost exchange the entry may be no leaf any more. */
    @ParameterizedTest
    @EnumSource(
            value = Means.class,
            names = {"HARDWARE_LOG", "WRITE_PROTECTION"})
    void armingAsksEverythingAgainAfterALostExchange(Means means) {
        Explore.narrow(
                "arm against zap of the leaf, " + means,
                () -> new ArmAgainstZap(means.of(VmWorld.parallel())),
                Explore.TABLES);
    }

    /** R-43 for the protection of huge leaves. */
    @ParameterizedTest
    @EnumSource(
            value = Means.class,
            names = {"HARDWARE_LOG", "WRITE_PROTECTION"})
    void protectionAsksEverythingAgainAfterALostExchange(Means means) {
        Explore.narrow(
                "protect against split, " + means,
                () -> new ProtectAgainstSplit(means.of(VmWorld.parallel())),
                Explore.TABLES);
    }
}
