package dev.tdpmmu.memory;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.GuardedBy;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Small blocks of off-heap words on cache lines of their own: reader slots, epochs, sequences, pool heads.
 *
 * <p>The memory is type-stable: a block goes only to users of blocks of the same size, and its memory never leaves this
 * class. A late reader of a block that was given back can so never read anything but some such block's words. Control
 * path only; safe for use by many threads.
 */
public final class WordBlocks {
    private static final long CHUNK_BYTES = 1L << 16;

    private static final int LARGEST_BYTES = 1 << 13;

    private static final long NONE = 0;

    private static final int COLLECTIONS = 8;
    private static final long COLLECTION_WAIT_NANOS = 2_000_000;

    /** Where the first block of a chunk is. */
    private static final long FIRST_OFFSET = 13 * CacheLines.PAIR_BYTES;

    /** How much later it is for blocks of twice the size. */
    private static final long OFFSET_STEP = 3 * CacheLines.PAIR_BYTES;

    // Design note. The first blocks are the busiest: the epoch, the MMU lock, the flush sequence of a VM. At the
    // start of a page they would compete for one set of the first-level cache with the first entries of every table
    // of a small guest; measured, that made a walk inside a section a third slower. So chunks begin off the page's
    // start, each block size elsewhere.

    private static final ReentrantLock LOCK = new ReentrantLock();

    @GuardedBy("LOCK")
    private static final Map<Integer, ArrayDeque<Long>> FREE = new HashMap<>();

    private WordBlocks() {}

    /**
     * Takes a zero block.
     *
     * @param bytes length, {@link CacheLines#PAIR_BYTES} times a power of two, at most 8192
     * @return host physical address, aligned to {@link CacheLines#PAIR_BYTES}
     * @throws IllegalStateException if none is left even after a collection
     */
    public static long take(int bytes) {
        if (bytes < CacheLines.PAIR_BYTES || bytes > LARGEST_BYTES || Integer.bitCount(bytes) != 1) {
            throw new IllegalArgumentException("no such block size: bytes=" + bytes + ", min=" + CacheLines.PAIR_BYTES
                    + ", max=" + LARGEST_BYTES + ", powerOfTwo=true");
        }
        long block = tryTake(bytes);
        return block != NONE ? block : takeAfterCollection(bytes);
    }

    /**
     * Takes a block when none is left. Those of closed VMs come back when nothing can reach them any more, since a late
     * access may still write them; as for direct buffers, that needs a collection, which nobody else may have a reason
     * for.
     */
    private static long takeAfterCollection(int bytes) {
        for (int i = 0; i < COLLECTIONS; i++) {
            System.gc();
            LockSupport.parkNanos(COLLECTION_WAIT_NANOS << i);
            long block = tryTake(bytes);
            if (block != NONE) {
                return block;
            }
        }
        throw new IllegalStateException(
                "reserved range has no words left: bytes=" + bytes + ", wordBytes=" + HostMemory.TABLES_END / 64);
    }

    private static long tryTake(int bytes) {
        LOCK.lock();
        try {
            ArrayDeque<Long> blocks = FREE.computeIfAbsent(bytes, size -> new ArrayDeque<>());
            if (blocks.isEmpty()) {
                long chunk = HostMemory.WORDS.take(CHUNK_BYTES, HostMemory.PAGE_SIZE);
                if (chunk == HostExtents.NONE) {
                    return NONE;
                }
                for (long offset = firstOffset(bytes); offset + bytes <= CHUNK_BYTES; offset += bytes) {
                    blocks.addLast(chunk + offset);
                }
            }
            return blocks.removeFirst();
        } finally {
            LOCK.unlock();
        }
    }

    private static long firstOffset(int bytes) {
        return FIRST_OFFSET + OFFSET_STEP * Integer.numberOfTrailingZeros(bytes / CacheLines.PAIR_BYTES);
    }

    /**
     * Returns a block and clears it.
     *
     * @param address as taken
     * @param bytes as taken
     */
    public static void give(long address, int bytes) {
        for (long word = address; word < address + bytes; word += Long.BYTES) {
            HostWords.setOpaque(word, 0);
        }
        LOCK.lock();
        try {
            FREE.get(bytes).addLast(address);
        } finally {
            LOCK.unlock();
        }
    }
}
