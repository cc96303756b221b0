package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.VcpuAccessTest.assertRefused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.slot.SlotException;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The sequence of the kernel's set_memory_region_test. */
class MemoryRegionTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";
    private static final int SLOT = 10;
    private static final long REGION = 0xc000_0000L;
    private static final long MMIO_VALUE = 0xbeef;
    private static final int LOOPS = 10;

    @RegisterExtension
    final TestVms vms = new TestVms();

    /** Answers loads of eight bytes at the region's first word, and nothing else. */
    private static final class Device implements MmioHandler {
        @Override
        public long read(long gpa, int bytes) {
            assertEquals(REGION, gpa);
            assertEquals(Long.BYTES, bytes);
            return MMIO_VALUE;
        }

        @Override
        public void write(long gpa, int bytes, long value) {
            throw new AssertionError("the guest only reads: gpa=0x" + Long.toHexString(gpa));
        }
    }

    /** A guest that reads the region's first word in a loop until it is told to stop. */
    private static final class Spinner {
        private final Set<Long> seen = ConcurrentHashMap.newKeySet();
        private final CompletableFuture<Void> end;
        private volatile long rounds;
        private volatile boolean stop;

        Spinner(Vcpu vcpu) {
            end = CompletableFuture.runAsync(() -> {
                while (!stop) {
                    seen.add(vcpu.getLong(REGION));
                    rounds++;
                }
            });
        }

        /** Returns when the guest has made a whole read since the call. */
        void awaitRead() {
            long before = rounds;
            while (rounds < before + 2 && !end.isDone()) {
                Thread.yield();
            }
        }

        /** Returns what was read since the last call. */
        Set<Long> takeSeen() {
            Set<Long> values = Set.copyOf(seen);
            seen.clear();
            return values;
        }

        void stop() {
            stop = true;
            end.join();
        }
    }

    @Test
    void guestWithoutSlotsGetsATypedRefusal() {
        Vm vm = vms.vm();
        try (Vcpu vcpu = vm.createVcpu()) {
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.getLong(0));
            assertRefused(Reason.NO_SLOT, 0, () -> vcpu.fetch(0));
        }
    }

    @Test
    @Timeout(30)
    void slotsCanBeAddedUpToTheMaximumAndNoFurther() {
        Vm vm = vms.vm();
        Backing backing = Backing.synthetic(PageSize.SIZE_2M);
        for (int id = 0; id < MemSlots.MAX_SLOTS; id++) {
            vm.addSlot(id, id * MIB_2, MIB_2, backing);
        }

        SlotException thrown = assertThrows(
                SlotException.class, () -> vm.addSlot(MemSlots.MAX_SLOTS, MemSlots.MAX_SLOTS * MIB_2, MIB_2, backing));

        assertTrue(
                thrown.reason() == SlotException.Reason.TOO_MANY_SLOTS
                        || thrown.reason() == SlotException.Reason.BAD_ID,
                thrown.getMessage());
        assertEquals(MemSlots.MAX_SLOTS, vm.memorySlots().size());
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    @Timeout(30)
    void movedRegionNeverShowsItsOldPlace(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addMmio(REGION, KIB_4, new Device());
        MemSlot slot = vm.addSlot(SLOT, REGION, MIB_2, SMALL);
        vm.memory().putLong(REGION, 1);
        // Where the guest's address leads while the region lies a page lower.
        vm.memory().putLong(REGION + KIB_4, 1);
        try (Vcpu vcpu = vm.createVcpu()) {
            Spinner guest = new Spinner(vcpu);
            try {
                for (int loop = 0; loop < LOOPS; loop++) {
                    guest.awaitRead();
                    slot = vm.moveSlot(slot, REGION - KIB_4);
                    vm.memory().putLong(REGION - KIB_4, 2);
                    guest.awaitRead();
                    vm.memory().putLong(REGION - KIB_4, 1);
                    slot = vm.moveSlot(slot, REGION);
                    guest.awaitRead();
                }
            } finally {
                guest.stop();
            }

            Set<Long> seen = guest.takeSeen();
            assertTrue(Set.of(1L, MMIO_VALUE).containsAll(seen), "guest saw " + seen);
            assertEquals(1, vcpu.getLong(REGION));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    @Timeout(30)
    void deletedRegionGivesWayToTheDeviceAndComesBackZero(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addMmio(REGION, KIB_4, new Device());
        MemSlot slot = vm.addSlot(SLOT, REGION, MIB_2, HUGE);
        vm.memory().putLong(REGION, 1);
        try (Vcpu vcpu = vm.createVcpu()) {
            Spinner guest = new Spinner(vcpu);
            try {
                guest.awaitRead();
                assertEquals(Set.of(1L), guest.takeSeen());
                for (int loop = 0; loop < LOOPS; loop++) {
                    vm.removeSlot(slot);
                    guest.awaitRead();
                    guest.takeSeen();
                    guest.awaitRead();
                    assertEquals(Set.of(MMIO_VALUE), guest.takeSeen(), "while it is deleted");
                    slot = vm.addSlot(SLOT, REGION, MIB_2, HUGE);
                    guest.awaitRead();
                    guest.takeSeen();
                    guest.awaitRead();
                    assertEquals(Set.of(0L), guest.takeSeen(), "after it came back");
                }
            } finally {
                guest.stop();
            }

            vm.removeMmio(REGION);
            vm.removeSlot(slot);
            assertRefused(Reason.NO_SLOT, REGION, () -> vcpu.getLong(REGION));
        }
    }
}
