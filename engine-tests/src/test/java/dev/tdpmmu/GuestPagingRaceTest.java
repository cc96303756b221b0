package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.TlbView;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Walks of two dimensions against each other, and against who takes guest tables and pages away.
 *
 * <pre>
 *  vCPU                                        | another vCPU, or the guest's kernel
 *  reads the leaf of its guest: no A, no D     |
 *                                              | sets A or D, or a bit of its own
 *  stores the leaf with A and D                |   -- what the other set is gone, if the store is plain
 *
 *  vCPU                                        | host
 *  reads a guest entry through a cached        |
 *  translation that does not count as a store  |
 *                                              | harvests the log: the table is clean
 *  sets A                                      |   -- the copy of the table never gets it
 * </pre>
 */
final class GuestPagingRaceTest {
    /** Guest tables from the top down, in the slot's pages 4 to 7; all entries that count are the first ones. */
    private static final int TOP_TABLE = 4;

    private static final int LEAF_TABLE = 7;
    private static final long GVA = 0;
    private static final long TABLE = GuestPageEntry.PRESENT | GuestPageEntry.WRITABLE | GuestPageEntry.USER;
    private static final long USED = GuestPageEntry.ACCESSED | GuestPageEntry.DIRTY;

    /** A bit that belongs to the guest's software. */
    private static final long SOFTWARE = 1L << 9;

    private static final long LAST = 3;

    /** Who runs the second level. */
    enum Host {
        EPT_WITH_FLAGS,
        EPT_WITHOUT_FLAGS,
        NPT;

        VmConfig.Builder config() {
            return VmWorld.parallel()
                    .pagingMode(this == NPT ? PagingMode.NPT4 : PagingMode.EPT4)
                    .accessedDirty(this == EPT_WITHOUT_FLAGS ? AccessedDirty.OFF : AccessedDirty.ON);
        }
    }

    private abstract static class Paged extends VmWorld {
        final MemSlot slot;
        final VcpuMmu worker = part("worker");
        final long leaf = hpa(page(LEAF_TABLE));

        Paged(VmConfig.Builder config) {
            super(config);
            slot = addSlot(SlotFlag.SMALL_PAGES);
            for (int table = TOP_TABLE; table < LEAF_TABLE; table++) {
                GuestBytes.putLong(hpa(page(table)), page(table + 1) | TABLE);
            }
            GuestBytes.putLong(leaf, page(0) | TABLE);
            GuestBytes.putLong(hpa(page(0)), 0);
            name(leaf, "guest leaf");
            name(hpa(page(0)), "frame");
        }

        final GuestLinear linear(Vcpu vcpu) {
            return vcpu.enablePaging(GuestPaging.of(page(TOP_TABLE), 4));
        }

        final long flags() {
            return GuestBytes.getLong(leaf) & USED;
        }

        final void zap(int index) {
            vm.mmu().lock().lock(worker.slot(), LockMode.SHARED);
            long address = spteAddress(worker, page(index), 1);
            boolean zapped = false;
            while (!zapped) {
                long spte = SpteAccess.readAcquire(address);
                zapped = vm.mmu().updater().tryZap(worker.slot(), address, Gfn.of(page(index)), 1, spte);
            }
            vm.mmu().lock().unlock(worker.slot(), LockMode.SHARED);
        }

        /** At rest: what linear mappings say of the second level is what its tables say. */
        final void checkLinear(Vcpu vcpu) {
            vcpu.getLong(page(1));
            TlbView view = new TlbView();
            for (int i = 0; i < vcpu.run().linear.tlb.capacity(); i++) {
                if (vcpu.run().linear.tlb.mappingAt(i, view)) {
                    long spte = spte(worker, Gfn.toGpa(view.gfn));
                    assertTrue(isLeaf(worker, Gfn.toGpa(view.gfn)), "stale mapping: " + view);
                    assertTrue(vm.mmu().format().allows(spte, view.permissions), "stale permissions: " + view);
                }
            }
        }
    }

    /** Two vCPUs use the same leaf for the first time, and the kernel marks it with a bit of its own. */
    private static final class SameEntry extends Paged {
        private final Vcpu reading = vcpu("reading");
        private final Vcpu writing = vcpu("writing");
        private final Vcpu kernel = vcpu("kernel");

        SameEntry(VmConfig.Builder config) {
            super(config);
            linear(reading);
            linear(writing);
            kernel.putLong(page(LEAF_TABLE) + PAGE / 2, 0);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("reading", () -> reading.linear().getLong(GVA)),
                    Actor.of("writing", () -> writing.linear().putLong(GVA, 5)),
                    Actor.of("kernel", () -> {
                        long entry;
                        do {
                            entry = kernel.getLong(page(LEAF_TABLE));
                        } while (!kernel.compareAndSetLong(page(LEAF_TABLE), entry, entry | SOFTWARE));
                    }));
        }

        @Override
        void judge() {
            assertEquals(page(0) | TABLE | USED | SOFTWARE, GuestBytes.getLong(leaf));
            assertEquals(5, GuestBytes.getLong(hpa(page(0))));
            checkLinear(reading);
            checkLinear(writing);
        }
    }

    /** The page, or the table that leads to it, is zapped while the vCPU stores through the linear TLB. */
    private static final class AgainstZap extends Paged {
        private final Vcpu guest = vcpu("guest");
        private final int zapped;
        private long seenAfter = -1;

        AgainstZap(VmConfig.Builder config, int zapped) {
            super(config);
            this.zapped = zapped;
            linear(guest).putLong(GVA, 0);
            name(spteAddress(worker, page(zapped), 1), "leaf of the host");
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        for (long value = 1; value <= LAST; value++) {
                            guest.linear().putLong(GVA, value);
                            Interleave.step();
                        }
                    }),
                    Actor.of("zap", () -> {
                        zap(zapped);
                        seenAfter = GuestBytes.getLong(hpa(page(0)));
                    }));
        }

        @Override
        void judge() {
            assertEquals(LAST, GuestBytes.getLong(hpa(page(0))));
            if (zapped == 0 && seenAfter != LAST) {
                assertTrue(isLeaf(worker, page(0)), "stored without a leaf: seenAfter=" + seenAfter);
            }
            checkLinear(guest);
        }
    }

    /**
     * The host copies the guest's leaf table whenever the log says so; its copy must get the flags that walks set.
     */
    private static final class AgainstHarvest extends Paged {
        private final Vcpu guest = vcpu(attached());
        private final DirtyLog log;
        private long copy;
        private long dataCopy;

        AgainstHarvest(VmConfig.Builder config) {
            super(config);
            log = vm.startDirtyLog(slot);
            // The tables are mapped and clean; the flags of the leaf are gone, as after the guest's own scan.
            linear(guest).getLong(GVA);
            GuestBytes.putLong(leaf, page(0) | TABLE);
            guest.linear().invlpg(GVA);
            harvest();
        }

        private void harvest() {
            DirtyPages dirty = log.harvest();
            if (dirty.isDirty(LEAF_TABLE)) {
                copy = GuestBytes.getLong(leaf);
            }
            if (dirty.isDirty(0)) {
                dataCopy = GuestBytes.getLong(hpa(page(0)));
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        // As the guest's kernel does: leaves a translation of the table that allows no stores.
                        guest.getLong(page(LEAF_TABLE));
                        Interleave.step();
                        guest.linear().getLong(GVA);
                        for (long value = 1; value <= LAST; value++) {
                            Interleave.step();
                            guest.linear().putLong(GVA, value);
                        }
                    }),
                    Actor.of("host", () -> {
                        harvest();
                        harvest();
                    }));
        }

        @Override
        void judge() {
            harvest();
            assertEquals(USED, flags());
            assertEquals(GuestBytes.getLong(leaf), copy, "a flag was not logged");
            assertEquals(LAST, dataCopy, "a store was not logged");
        }
    }

    /** A watch on the guest's leaf table begins while a walk sets flags there: it sees all that come after it. */
    private static final class AgainstWatch extends Paged {
        private final Vcpu guest = vcpu("guest");
        private long flagsBefore = -1;
        private long reported;

        AgainstWatch(VmConfig.Builder config) {
            super(config);
            guest.getLong(page(0));
            linear(guest);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        guest.linear().getLong(GVA);
                        Interleave.step();
                        guest.linear().putLong(GVA, 1);
                    }),
                    Actor.of("watch", () -> {
                        vm.watchWrites(page(LEAF_TABLE), PAGE, (gpa, bytes, value) -> reported |= value & USED);
                        flagsBefore = flags();
                    }));
        }

        @Override
        void judge() {
            assertEquals(USED, flags());
            assertEquals(USED, flagsBefore | reported, "a flag was not reported: before=" + flagsBefore);
            assertEquals(1, GuestBytes.getLong(hpa(page(0))));
        }
    }

    @ParameterizedTest
    @EnumSource(Host.class)
    void noFlagAndNoBitOfTheGuestIsLost(Host host) {
        Explore.all("flags of one guest entry, " + host, () -> new SameEntry(host.config()), 400, 60);
    }

    @ParameterizedTest
    @EnumSource(Host.class)
    void noStoreGoesThroughAMappingWhosePageWasZapped(Host host) {
        Explore.all("linear store against zap of its page, " + host, () -> new AgainstZap(host.config(), 0), 400, 60);
    }

    @ParameterizedTest
    @EnumSource(Host.class)
    void walksSurviveTheZapOfAGuestTable(Host host) {
        Explore.all(
                "linear store against zap of its table, " + host,
                () -> new AgainstZap(host.config(), LEAF_TABLE),
                200,
                60);
    }

    @ParameterizedTest
    @EnumSource(Host.class)
    void flagsThatWalksSetAreLogged(Host host) {
        Explore.all("flags against harvest, " + host, () -> new AgainstHarvest(host.config()), 300, 60);
    }

    @ParameterizedTest
    @EnumSource(Host.class)
    void flagsThatWalksSetAreReportedToWatchers(Host host) {
        Explore.all("flags against watch, " + host, () -> new AgainstWatch(host.config()), 300, 60);
    }
}
