package dev.tdpmmu.slot;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.memory.HostMemory;
import java.util.Objects;

/**
 * Pages as an operating system has them behind guest memory: they come at the first touch, and may go away, move, be
 * shared or lose the right to be written while guests run. Several slots and VMs may have the same pages as backing.
 *
 * <p>Frames need not be contiguous, so leaves are of 4 KiB.
 *
 * @param pages the pages
 * @param offsetInBytes where in the pages the slot starts, not negative, multiple of 4096
 */
public record HostBacking(HostPages pages, long offsetInBytes) implements Backing {
    /**
     * Checks the values. Whether there are enough pages is checked when a slot is added.
     *
     * @throws SlotException if the offset is negative or no multiple of 4096
     */
    public HostBacking {
        Objects.requireNonNull(pages, "pages");
        if (offsetInBytes < 0 || offsetInBytes % HostMemory.PAGE_SIZE != 0) {
            throw new SlotException(
                    SlotException.Reason.BACKING_MISALIGNED,
                    "offset into the backing is negative or misaligned: offsetInBytes=" + offsetInBytes + ", granule="
                            + HostMemory.PAGE_SIZE);
        }
    }

    @Override
    public PageSize pageSize() {
        return PageSize.SIZE_4K;
    }

    @Override
    public boolean hasBytes() {
        return true;
    }
}
