package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReclaimStalledException;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/** A removal whose zap was stopped by a stalled reader keeps its frames until a later change has made up for it. */
final class UnfinishedRemovalTest {
    private static final long BYTES = PageSize.SIZE_2M.bytes();

    @Test
    void laterChangeNeverFreesFramesUnderStalledReader() {
        VmConfig config = VmConfig.builder()
                .backgroundReclaim(false)
                .maxRetiredPages(1)
                .stallTimeout(Duration.ofMillis(5))
                .build();
        try (Vm vm = new Vm(config)) {
            MemSlot removed = vm.addSlot(1, 0, BYTES, Backing.anonymous(PageSize.SIZE_4K));
            Vcpu vcpu = vm.createVcpu();
            vcpu.putLong(0, 1);
            ReaderSlot device = vm.takeReader();
            long used;
            try {
                device.enter(ReaderSlot.WALKING);
                assertThrows(ReclaimStalledException.class, () -> vm.removeSlot(removed));
                used = vm.stats().memoryUsedInBytes();

                // The device still uses the frames that it found before the removal.
                assertThrows(
                        ReclaimStalledException.class,
                        () -> vm.addSlot(2, 4 * BYTES, BYTES, Backing.synthetic(PageSize.SIZE_4K)));
                assertEquals(used, vm.stats().memoryUsedInBytes());
            } finally {
                vm.giveReader(device);
            }

            vm.addSlot(3, 8 * BYTES, BYTES, Backing.synthetic(PageSize.SIZE_4K));
            assertTrue(vm.stats().memoryUsedInBytes() <= used - BYTES, "frames are still held");
        }
    }
}
