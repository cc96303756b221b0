package dev.tdpmmu.slot;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.HostMemory;
import java.util.Objects;

/**
 * Frames that the caller holds; several slots and VMs may have them as backing at a time, at equal or different
 * offsets.
 *
 * <p>Leaves can be as large as the frames where guest address and offset leave the same remainder by that size.
 *
 * @param run the frames
 * @param offsetInBytes where in the run the slot starts, not negative, multiple of 4096
 */
public record HeldBacking(FrameRun run, long offsetInBytes) implements Backing {
    /**
     * Checks the values. Whether the run is long enough is checked when a slot is added.
     *
     * @throws SlotException if the offset is negative or no multiple of 4096
     */
    public HeldBacking {
        Objects.requireNonNull(run, "run");
        if (offsetInBytes < 0 || offsetInBytes % HostMemory.PAGE_SIZE != 0) {
            throw new SlotException(
                    SlotException.Reason.BACKING_MISALIGNED,
                    "offset into the backing is negative or misaligned: offsetInBytes=" + offsetInBytes + ", granule="
                            + HostMemory.PAGE_SIZE);
        }
    }

    @Override
    public PageSize pageSize() {
        return switch (run.level()) {
            case 1 -> PageSize.SIZE_4K;
            case 2 -> PageSize.SIZE_2M;
            default -> PageSize.SIZE_1G;
        };
    }

    @Override
    public boolean hasBytes() {
        return true;
    }

    @Override
    public String toString() {
        return "HeldBacking[hpa=0x" + Long.toHexString(run.hpa()) + ", bytes=" + run.bytes() + ", pageSize="
                + pageSize() + ", offsetInBytes=" + offsetInBytes + "]";
    }
}
