package dev.tdpmmu.memory;

import dev.tdpmmu.base.PagingLevel;

/**
 * Allocates runs of guest frames of 4 KiB, 2 MiB or 1 GiB and charges them to an account.
 *
 * <p>Frames are reserved when a run is allocated and committed by the operating system when they are first touched, so
 * a fault allocates nothing here: it only computes the frame's number. Safe for use by many threads.
 */
public final class FrameAllocator {
    private final MemoryAccount account;

    /**
     * Makes an allocator.
     *
     * @param account what is charged
     */
    public FrameAllocator(MemoryAccount account) {
        this.account = account;
    }

    /**
     * Allocates contiguous, zero frames.
     *
     * @param level 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB frames
     * @param bytes length, a positive multiple of the frame size
     * @return the run, held once
     * @throws MemoryCapExceededException if the account's cap or the reserved range has too little left
     */
    public FrameRun allocate(int level, long bytes) {
        if (level < PagingLevel.L4K || level > PagingLevel.MAX_HUGE) {
            throw new IllegalArgumentException("no such frame size: level=" + level + ", min=1, max=3");
        }
        long frameBytes = PagingLevel.bytes(level);
        if (bytes <= 0 || (bytes & (frameBytes - 1)) != 0) {
            throw new IllegalArgumentException(
                    "length is no positive multiple of the frame size: bytes=" + bytes + ", frameBytes=" + frameBytes);
        }
        if (!account.tryCharge(bytes)) {
            throw new MemoryCapExceededException("guest frames", bytes, account);
        }
        long hpa = HostMemory.FRAMES.take(bytes, frameBytes);
        if (hpa == HostExtents.NONE) {
            account.refund(bytes);
            throw new MemoryCapExceededException("guest frames (reserved range)", bytes, account);
        }
        return new FrameRun(this, hpa, level, bytes);
    }

    void free(FrameRun run) {
        HostMemory.FRAMES.release(run.hpa(), run.bytes());
        account.refund(run.bytes());
    }
}
