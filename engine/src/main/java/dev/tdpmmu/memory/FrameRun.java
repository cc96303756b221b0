package dev.tdpmmu.memory;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * Contiguous guest frames that somebody holds: a slot, or a caller who puts them behind several slots or VMs.
 *
 * <p>The frames are zero at first and live until the last holder lets go. Counting is atomic; the bytes are reached
 * through slots, never through this object.
 */
public final class FrameRun implements AutoCloseable {
    private final FrameAllocator allocator;
    private final long hpa;
    private final int level;
    private final long bytes;
    private final AtomicInteger holders = new AtomicInteger(1);
    private final AtomicInteger closed = new AtomicInteger();

    FrameRun(FrameAllocator allocator, long hpa, int level, long bytes) {
        this.allocator = allocator;
        this.hpa = hpa;
        this.level = level;
        this.bytes = bytes;
    }

    /**
     * Returns where the frames start.
     *
     * @return host physical address, aligned to the frame size
     */
    public long hpa() {
        return hpa;
    }

    /**
     * Returns the level whose page size the frames have.
     *
     * @return 1, 2 or 3
     */
    public int level() {
        return level;
    }

    /**
     * Returns the length.
     *
     * @return bytes, a multiple of the frame size
     */
    public long bytes() {
        return bytes;
    }

    /**
     * Adds a holder.
     *
     * @throws IllegalStateException if the frames are gone already
     */
    public void retain() {
        int count = holders.get();
        while (count > 0) {
            if (holders.compareAndSet(count, count + 1)) {
                return;
            }
            count = holders.get();
        }
        throw new IllegalStateException("frames are released: hpa=0x" + Long.toHexString(hpa));
    }

    /** Drops a holder; the last one returns the frames to their allocator. */
    public void release() {
        int left = holders.decrementAndGet();
        if (left < 0) {
            throw new IllegalStateException("frames released too often: hpa=0x" + Long.toHexString(hpa));
        }
        if (left == 0) {
            allocator.free(this);
        }
    }

    /**
     * Makes pages of the run read as zero and, where possible, returns their memory to the operating system. The run
     * keeps its length and its charge. Whoever reads or writes the pages meanwhile sees or loses anything.
     *
     * @param offsetInBytes first byte, multiple of 4096
     * @param discardedBytes length, multiple of 4096
     * @throws IllegalArgumentException if the pages are misaligned or not in the run
     */
    public void discard(long offsetInBytes, long discardedBytes) {
        if (((offsetInBytes | discardedBytes) & (HostMemory.PAGE_SIZE - 1)) != 0
                || offsetInBytes < 0
                || discardedBytes < 0
                || discardedBytes > bytes - offsetInBytes) {
            throw new IllegalArgumentException("pages are not in the run: offsetInBytes=" + offsetInBytes
                    + ", discardedBytes=" + discardedBytes + ", bytes=" + bytes);
        }
        HostMemory.giveBack(hpa + offsetInBytes, discardedBytes);
    }

    /** Drops the hold of whoever allocated the frames. A second call does nothing. */
    @Override
    public void close() {
        if (closed.compareAndSet(0, 1)) {
            release();
        }
    }
}
