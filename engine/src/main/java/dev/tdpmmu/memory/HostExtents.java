package dev.tdpmmu.memory;

import dev.tdpmmu.base.GuardedBy;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Hands out extents of one part of {@link HostMemory}, first fit, and joins what comes back with its neighbours.
 *
 * <p>Extents are handed out zeroed. Control path only: slots, pools that grow, teardown. Safe for use by many threads.
 */
final class HostExtents {
    /** No extent is free. */
    static final long NONE = 0;

    private final String name;
    private final ReentrantLock lock = new ReentrantLock();

    /** Free extents: first byte to length. */
    @GuardedBy("lock")
    private final TreeMap<Long, Long> free = new TreeMap<>();

    @GuardedBy("lock")
    private long handedOut;

    HostExtents(String name, long start, long end) {
        this.name = name;
        free.put(start, end - start);
    }

    /**
     * Takes an extent.
     *
     * @param bytes length, a multiple of 4096
     * @param alignment power of two, at least 4096
     * @return its first byte, or {@link #NONE} if no free extent is large enough
     */
    long take(long bytes, long alignment) {
        lock.lock();
        try {
            for (Map.Entry<Long, Long> extent : free.entrySet()) {
                long start = extent.getKey();
                long end = start + extent.getValue();
                long aligned = (start + alignment - 1) & -alignment;
                if (aligned >= start && end - aligned >= bytes) {
                    free.remove(start);
                    putFree(start, aligned - start);
                    putFree(aligned + bytes, end - aligned - bytes);
                    handedOut += bytes;
                    return aligned;
                }
            }
            return NONE;
        } finally {
            lock.unlock();
        }
    }

    private void putFree(long start, long bytes) {
        if (bytes > 0) {
            free.put(start, bytes);
        }
    }

    /**
     * Returns an extent; its memory goes back to the operating system where that is possible, and reads as zero after.
     *
     * @param start first byte, as taken
     * @param bytes length, as taken
     * @throws IllegalStateException if part of it is free already
     */
    void release(long start, long bytes) {
        // Checked before the memory is cleared, which would otherwise destroy what a mistaken caller no longer owns;
        // and cleared before it is free, since whoever takes it next relies on zeros. Clearing can be long: not under
        // the lock.
        lock.lock();
        try {
            checkHandedOut(start, bytes);
        } finally {
            lock.unlock();
        }
        HostMemory.giveBack(start, bytes);
        lock.lock();
        try {
            checkHandedOut(start, bytes);
            long first = start;
            long end = start + bytes;
            Map.Entry<Long, Long> before = free.lowerEntry(start);
            if (before != null && before.getKey() + before.getValue() == start) {
                first = before.getKey();
            }
            Long after = free.remove(end);
            if (after != null) {
                end += after;
            }
            free.put(first, end - first);
            handedOut -= bytes;
        } finally {
            lock.unlock();
        }
    }

    private void checkHandedOut(long start, long bytes) {
        Map.Entry<Long, Long> before = free.lowerEntry(start + bytes);
        if (before != null && before.getKey() + before.getValue() > start) {
            throw new IllegalStateException("extent is free already: part=" + name + ", start=0x"
                    + Long.toHexString(start) + ", bytes=" + bytes);
        }
    }

    long bytesHandedOut() {
        lock.lock();
        try {
            return handedOut;
        } finally {
            lock.unlock();
        }
    }

    /** Extents that are free, for tests of joining. */
    int freeExtents() {
        lock.lock();
        try {
            return free.size();
        } finally {
            lock.unlock();
        }
    }
}
