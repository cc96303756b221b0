package dev.tdpmmu.sync;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.WordBlocks;
import java.lang.ref.Cleaner;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * All reader slots of a VM, and the epoch that they enter.
 *
 * <p>Slots are handed out and taken back under a lock; scans run without it, over an array that only grows.
 */
public final class ReaderSlots {
    private static final Cleaner CLEANER = Cleaner.create();

    /** In proof runs the epoch starts just before its 61 bits wrap. */
    private static final long FIRST_EPOCH = Debug.PROVE ? (1L << 61) - 64 : 1;

    private final long epochAddress = WordBlocks.take(CacheLines.PAIR_BYTES);
    private final Memory memory = new Memory(epochAddress);
    private final ReentrantLock lock = new ReentrantLock();

    @GuardedBy("lock")
    private final ArrayDeque<ReaderSlot> free = new ArrayDeque<>();

    /** Grows under the lock; scans read it after {@link #size}, so every index below the size is there. */
    private volatile ReaderSlot[] slots = new ReaderSlot[8];

    /** Written under the lock. A scan that misses a slot which is added meanwhile was begun before that slot's first section. */
    private volatile int size;

    /** Makes an empty set. */
    public ReaderSlots() {
        HostWords.setRelease(epochAddress, FIRST_EPOCH);
        CLEANER.register(this, memory);
    }

    /** Blocks of this set; they return only when nothing can reach a slot any more, since a late access may still write one. */
    private static final class Memory implements Runnable {
        private final long epochAddress;
        private final List<Long> blocks = new ArrayList<>();

        Memory(long epochAddress) {
            this.epochAddress = epochAddress;
        }

        @Override
        public void run() {
            for (long block : blocks) {
                WordBlocks.give(block, ReaderSlot.BLOCK_BYTES);
            }
            WordBlocks.give(epochAddress, CacheLines.PAIR_BYTES);
        }
    }

    /**
     * Hands out a slot.
     *
     * @param name of its new owner, for reports
     * @return a slot that is outside
     */
    public ReaderSlot take(String name) {
        lock.lock();
        try {
            ReaderSlot slot = free.pollFirst();
            if (slot == null) {
                slot = add();
            }
            slot.rename(name);
            return slot;
        } finally {
            lock.unlock();
        }
    }

    /** Needs the lock. */
    private ReaderSlot add() {
        long block = WordBlocks.take(ReaderSlot.BLOCK_BYTES);
        memory.blocks.add(block);
        int index = size;
        ReaderSlot slot = new ReaderSlot(this, index, block, epochAddress);
        if (index == slots.length) {
            slots = Arrays.copyOf(slots, 2 * index);
        }
        slots[index] = slot;
        size = index + 1;
        return slot;
    }

    /**
     * Takes a slot back.
     *
     * @param slot one of ours, outside
     */
    public void give(ReaderSlot slot) {
        slot.assertNoSection();
        if (!slot.belongsTo(this)) {
            throw new IllegalArgumentException("reader slot of another VM: slot=" + slot.name());
        }
        slot.leave(ReaderSlot.OUTSIDE);
        lock.lock();
        try {
            slot.rename("free slot " + slot.index());
            free.addLast(slot);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Returns how many slots exist, used or free; a scan visits the indexes below it.
     *
     * @return count
     * @ordering volatile; pairs with {@link #take}
     */
    public int size() {
        return size;
    }

    /**
     * Returns a slot for a scan.
     *
     * @param index below {@link #size}
     * @return the slot
     */
    public ReaderSlot at(int index) {
        return slots[index];
    }

    /**
     * Sums a statistic over all slots. Exact when nobody counts meanwhile.
     *
     * @param counter index from {@link Counter}
     * @return sum
     */
    public long sum(int counter) {
        long sum = 0;
        for (int i = 0, n = size; i < n; i++) {
            sum += at(i).counted(counter);
        }
        return sum;
    }

    long epoch() {
        return HostWords.readVolatile(epochAddress);
    }

    /** Begins a new epoch and returns the old one. */
    long advanceEpoch() {
        return HostWords.getAndAdd(epochAddress, 1);
    }

    /**
     * Finds a reader that entered in or before an epoch and has not left.
     *
     * @return it, or null if there is none
     */
    ReaderSlot findReaderUpTo(long epoch) {
        for (int i = 0, n = size; i < n; i++) {
            ReaderSlot slot = at(i);
            long state = slot.state();
            if (ReaderSlot.holdsEpoch(state) && ReaderSlot.compareEpochs(ReaderSlot.epochOf(state), epoch) <= 0) {
                return slot;
            }
        }
        return null;
    }
}
