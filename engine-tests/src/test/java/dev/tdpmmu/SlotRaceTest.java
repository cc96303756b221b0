package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Slots that go while vCPUs and devices use them, and slots that come where MMIO entries were installed.
 *
 * <pre>
 *  fault                                    | slot change
 *  finds no slot in snapshot g              |
 *                                           | publishes a slot there, snapshot g + 1
 *  reads the generation: g + 1              |
 *  installs an MMIO entry of g + 1          |   -- it looks current: the slot is never seen
 * </pre>
 */
final class SlotRaceTest {
    private static final long LAST = 4;
    private static final long FROM_DEVICE = 0xd;

    /** A slot is removed under a vCPU's, or a device's, stores. */
    private static final class Removal extends VmWorld {
        private final Vcpu guest = vcpu("guest");
        private final MemSlot slot;
        private final boolean byDevice;
        private long seenAfter = -1;
        private long stored;

        Removal(VmConfig.Builder config, boolean byDevice, SlotFlag... flags) {
            super(config);
            this.byDevice = byDevice;
            slot = addSlot(flags);
            guest.putLong(page(0), 0);
        }

        private void store() {
            try {
                for (long value = 1; value <= LAST; value++) {
                    if (byDevice) {
                        vm.memory().putLong(page(0), value);
                    } else {
                        guest.putLong(page(0), value);
                    }
                    stored = value;
                }
            } catch (GuestAccessException gone) {
                assertEquals(GuestAccessException.Reason.NO_SLOT, gone.reason());
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of(byDevice ? "device" : "guest", this::store), Actor.of("removal", () -> {
                vm.removeSlot(slot);
                seenAfter = GuestBytes.getLong(hpa(page(0)));
            }));
        }

        @Override
        void judge() {
            assertEquals(seenAfter, GuestBytes.getLong(hpa(page(0))), "stored into a frame that is gone");
            assertEquals(stored, seenAfter);
            assertEquals(0, vm.stats().pages4k() + vm.stats().pages2m());
        }

        @Override
        public String outcome() {
            return "stored " + stored;
        }
    }

    /** A slot goes and comes back, again and again, and a vCPU stores there all the time. */
    private static final class RemovalLoop extends VmWorld {
        private static final int ROUNDS = 2;

        private final Vcpu guest = vcpu("guest");
        private final VcpuMmu part = part("part");
        private MemSlot slot = addSlot(SlotFlag.SMALL_PAGES);
        private int made;

        RemovalLoop(VmConfig.Builder config) {
            super(config);
            guest.putLong(page(0), 0);
        }

        /** Each touch ends: the page is mapped, or there is no slot. */
        private void store() {
            for (int i = 0; i < 2 * ROUNDS; i++) {
                made += guest.touch(page(i & 1), Access.WRITE) ? 1 : 0;
            }
        }

        private void remove() {
            for (int i = 0; i < ROUNDS; i++) {
                vm.removeSlot(slot);
                slot = addSlot(SlotFlag.SMALL_PAGES);
            }
            vm.removeSlot(slot);
            if (!part.root().isInvalid()) {
                assertFalse(isLeaf(part, page(0)) || isLeaf(part, page(1)), "leaf of a slot that is gone");
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::store), Actor.of("removal", this::remove));
        }

        @Override
        void judge() {
            assertEquals(0, vm.stats().pages4k() + vm.stats().pages2m(), "leaf is left");
            assertFalse(guest.touch(page(0), Access.READ));
            assertEquals(0, vm.mmu().invalidations().inProgress());
        }

        @Override
        public String outcome() {
            return "made " + made;
        }
    }

    /** A slot is added where a vCPU reads from a device. */
    private static final class Addition extends VmWorld {
        private final Vcpu guest;

        Addition(VmConfig.Builder config, boolean entryExists) {
            super(config.mmioCaching(true));
            GuestBytes.putLong(hpa(page(0)), 1);
            vm.addMmio(BASE, PAGE, new MmioHandler() {
                @Override
                public long read(long gpa, int bytes) {
                    return FROM_DEVICE;
                }

                @Override
                public void write(long gpa, int bytes, long value) {}
            });
            guest = vcpuOf();
            if (entryExists) {
                assertEquals(FROM_DEVICE, guest.getLong(page(0)));
            }
        }

        private Vcpu vcpuOf() {
            return vcpu("guest");
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", () -> {
                        guest.getLong(page(0));
                        guest.getLong(page(0));
                    }),
                    Actor.of("addition", () -> {
                        addSlot(SlotFlag.SMALL_PAGES);
                        assertEquals(1, vm.memory().getLong(page(0)));
                    }));
        }

        @Override
        void judge() {
            assertEquals(1, guest.getLong(page(0)), "the device still answers");
            assertFalse(vm.memorySlots().isEmpty());
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void removedFramesAreNeverStoredTo(LockPolicy policy) {
        Explore.all(
                "stores against removal, " + policy,
                () -> new Removal(VmWorld.of(policy), false, SlotFlag.SMALL_PAGES),
                0,
                policy == LockPolicy.PARALLEL ? 60 : 20);
    }

    @Test
    void removedHugeFrameIsNeverStoredTo() {
        Explore.all("stores against removal, huge", () -> new Removal(VmWorld.parallel(), false), 700, 50);
    }

    /** the fault and the removal never wait for each other, however often the slot goes. */
    @ParameterizedTest
    @EnumSource(SlotZap.class)
    void faultsEndWhileTheirSlotIsRemovedInALoop(SlotZap zap) {
        Explore.all(
                "stores against removals, " + zap,
                () -> new RemovalLoop(VmWorld.parallel().slotZap(zap)),
                0,
                60);
    }

    @Test
    void deviceNeverStoresToRemovedFrames() {
        Explore.all("device against removal", () -> new Removal(VmWorld.parallel(), true), 500, 50);
    }

    @Test
    void addedSlotIsSeenBehindMmioEntry() {
        Explore.all("reads against addition", () -> new Addition(VmWorld.parallel(), false), 700, 50);
        Explore.all("reads against addition, entry exists", () -> new Addition(VmWorld.parallel(), true), 700, 50);
    }
}
