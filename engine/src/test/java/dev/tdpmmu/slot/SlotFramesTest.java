package dev.tdpmmu.slot;

import static dev.tdpmmu.slot.SlotFixture.KIB_4;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.slot.SlotException.Reason;
import org.junit.jupiter.api.Test;

/** Frames that a VM's entries cannot name are refused when a slot is added. */
class SlotFramesTest {
    @Test
    void framesBeyondTheEntriesAreRefused() {
        int narrowBits = 36;
        VmConfig narrow = VmConfig.builder().physicalAddressBits(narrowBits).build();
        Reason reason = Reason.BACKING_BEYOND_ADDRESS_LIMIT;
        String text = "physicalAddressBits=" + narrowBits;

        try (SlotFixture vm = new SlotFixture(narrow);
                SlotFixture other = new SlotFixture()) {
            // Takes every frame that 36 bits can name, without touching one.
            try (FrameRun below = other.frames.allocate(1, 1L << narrowBits);
                    FrameRun above = other.frames.allocate(1, KIB_4)) {
                assertTrue(above.hpa() >= below.bytes());
                vm.assertRefused(reason, text, () -> vm.add(0, 0, KIB_4));
                vm.assertRefused(reason, text, () -> vm.add(0, 0, KIB_4, Backing.held(above, 0)));
            }
            assertTrue(vm.add(0, 0, KIB_4).exists());
        }
    }

    @Test
    void framesWithoutBytesLieAboveAllHostMemoryOrAreRefused() {
        int hostBits = Long.numberOfTrailingZeros(HostMemory.SIZE);
        VmConfig exact = VmConfig.builder().physicalAddressBits(hostBits).build();
        VmConfig roomy = VmConfig.builder().physicalAddressBits(hostBits + 1).build();
        Backing synthetic = Backing.synthetic(PageSize.SIZE_4K);

        try (SlotFixture vm = new SlotFixture(exact)) {
            vm.assertRefused(Reason.BACKING_BEYOND_ADDRESS_LIMIT, "max=", () -> vm.add(1, KIB_4, KIB_4, synthetic));
        }
        try (SlotFixture vm = new SlotFixture(roomy)) {
            MemSlot slot = vm.add(1, KIB_4, KIB_4, synthetic);
            assertTrue(slot.hpa(1) >= HostMemory.SIZE && slot.hpa(1) < 2 * HostMemory.SIZE);
        }
    }
}
