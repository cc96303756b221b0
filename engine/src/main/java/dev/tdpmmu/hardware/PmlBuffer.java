package dev.tdpmmu.hardware;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.WordBlocks;

/**
 * The page-modification log of one vCPU: 512 guest physical addresses whose leaf went from clean to dirty.
 *
 * <p>The hardware of the vCPU logs without a lock. Its index says where the next address goes: 511 at first, then
 * down to 0, then 0xffff, which is full. The addresses leave by one of two parties, which hold the lock meanwhile:
 *
 * <ul>
 *   <li>any <em>collector</em> consumes what is logged so far, while the vCPU runs. It moves a second index, called
 *       drained, and never that of the hardware; so it makes no room.
 *   <li>the <em>owner</em>, which is the thread that runs the vCPU, between two accesses: it consumes the rest and
 *       calls {@link #reset}, after which both are 511 again.
 * </ul>
 *
 * <p>Each address is logged once for each time that its leaf became dirty, and is consumed once:
 *
 * <pre>
 *  vCPU                                    | collector
 *  sets D of the leaf of page P            | locks
 *  entry[index] := P                       | reads the index: not moved yet, so P stays for the next collection
 *  index := index - 1, by release          | reads the index: moved, so P is there; takes P, drained := drained - 1
 *  runs on                                 | unlocks
 *
 *  if the index moved before the entry was written:
 *  index := index - 1                      |
 *                                          | takes entry[index + 1]: the address of an earlier round
 *  entry[index + 1] := P                   | -- one page marked that is clean, and P is lost
 *
 *  if the owner did not lock:
 *                                          | reads drained = d, takes the last address
 *  finds nothing left                      |
 *  index := drained := 511                 |
 *                                          | drained := d - 1  -- addresses logged from 511 to d are lost
 * </pre>
 *
 * <p>A page that is dirty and not yet logged belongs to an access that has not ended. Who must miss none therefore
 * first makes the vCPU stop, or clears D afterwards, so that a later store logs again. A consumer marks what it took
 * before it unlocks, since the owner and other collectors take an empty log to mean that all is marked.
 *
 * <p>The lock is the innermost: under it nothing is locked and nobody waits.
 */
public final class PmlBuffer {
    /** Addresses that fit. */
    public static final int ENTRIES = 512;

    /** What {@link #next} returns when nothing is left. */
    public static final long NONE = -1;

    private static final long FIRST = ENTRIES - 1;

    private static final int ENTRY_BYTES = ENTRIES * Long.BYTES;

    /** The indices have 16 bits, so that one below 0 is 0xffff and distances are right across it. */
    private static final long INDEX_MASK = 0xffff;

    /** Bits of an index that are set only when the log is full. */
    private static final long FULL_MASK = INDEX_MASK & -ENTRIES;

    private static final int CONTROL_BYTES = CacheLines.PAIR_BYTES;
    private static final int INDEX = 0;
    private static final int DRAINED = CacheLines.BYTES;
    private static final int LOCK = CacheLines.BYTES + Long.BYTES;

    private static final long UNLOCKED = 0;
    private static final long LOCKED = 1;

    /** A holder consumes at most 512 words; one that takes longer has lost its processor. */
    private static final int SPINS = 256;

    /** Written by the owner, entry before index; read by whoever holds the lock, below the index only. */
    private final long entries = WordBlocks.take(ENTRY_BYTES);

    // Design note. The control words:
    //
    //   0 +---------+
    //     | index   |  where the next address goes; written by the owner alone, by release
    //  64 +---------+
    //     | drained |  where the next address is taken; written under the lock
    //  72 | lock    |  0 or 1
    // 128 +---------+
    //
    // The index stands alone on its line, because the hardware writes it on the walk and the others while they drain.
    // A log that wraps (drained as the tail of a ring) would save the reset, but is not what hardware does: it must
    // stop at 0 even if all has been consumed, and tests of the full log rely on it.

    private final long control = WordBlocks.take(CONTROL_BYTES);

    /** Makes an empty log. The owner must be given it in a way that publishes objects safely. */
    public PmlBuffer() {
        HostWords.setRelease(control + DRAINED, FIRST);
        HostWords.setRelease(control + INDEX, FIRST);
    }

    /**
     * Returns where the next address goes.
     *
     * @return 511 to 0, or 0xffff if the log is full
     * @ordering acquire; entries above the index are there, pairs with {@link #log}
     */
    public int index() {
        return (int) HostWords.readAcquire(control + INDEX);
    }

    /**
     * Tells whether an access that would set a flag must exit first. Stays so until the owner resets the log.
     *
     * @return whether the index is not within 0 to 511
     * @locking none; owner only
     * @ordering opaque: nobody else writes the index
     */
    @HotPath
    public boolean isFull() {
        return (HostWords.readOpaque(control + INDEX) & FULL_MASK) != 0;
    }

    /**
     * Appends the page of an address whose leaf this vCPU has just made dirty.
     *
     * @param gpa guest physical address in bytes; the offset in its 4 KiB page is dropped
     * @throws IllegalStateException if the log is full: {@link #isFull} comes before D is set
     * @locking none; owner only
     * @ordering the index is published by release behind the entry; pairs with the acquire in {@link #next}
     */
    @HotPath
    public void log(long gpa) {
        long index = HostWords.readOpaque(control + INDEX);
        if ((index & FULL_MASK) != 0) {
            throw overflow(gpa, index);
        }
        // Entry first: a collector that reads an index believes every entry above it.
        HostWords.setRelease(entries + index * Long.BYTES, gpa & -Gfn.PAGE_SIZE);
        HostWords.setRelease(control + INDEX, index - 1 & INDEX_MASK);
    }

    /** Waits until nobody drains the log, and begins to. Not reentrant. */
    public void lock() {
        int spins = 0;
        while (!tryLock()) {
            if (Interleave.blocked()) {
                continue;
            }
            if (spins++ < SPINS) {
                Thread.onSpinWait();
            } else {
                Thread.yield();
            }
        }
    }

    /**
     * Begins to drain the log if nobody does. A collector that gets no lock may leave the log to the holder, but must
     * not say that the log is empty.
     *
     * @return whether the caller now holds the lock
     * @ordering volatile; pairs with {@link #unlock}
     */
    public boolean tryLock() {
        return HostWords.compareAndSet(control + LOCK, UNLOCKED, LOCKED);
    }

    /**
     * Ends draining.
     *
     * @throws IllegalStateException at debug level check, if nobody holds the lock
     * @ordering release; pairs with {@link #tryLock}
     */
    public void unlock() {
        if (Debug.CHECK) {
            requireLocked();
        }
        HostWords.setRelease(control + LOCK, UNLOCKED);
    }

    /**
     * Returns how many addresses are logged and not consumed.
     *
     * @return 0 to 512; fewer than there are in the next moment if the vCPU runs
     * @locking the log's lock, or the owner without it: then more may have been consumed meanwhile
     */
    public int pending() {
        long drained = HostWords.readAcquire(control + DRAINED);
        return (int) (drained - HostWords.readAcquire(control + INDEX) & INDEX_MASK);
    }

    /**
     * Consumes the oldest address.
     *
     * @return guest physical address in bytes, multiple of 4096; {@link #NONE} if nothing is left
     * @throws IllegalStateException at debug level check, if nobody holds the lock
     * @locking the log's lock, by a collector or the owner
     * @ordering the index is read with acquire, before the entry; pairs with {@link #log}
     */
    public long next() {
        if (Debug.CHECK) {
            requireLocked();
        }
        long drained = HostWords.readAcquire(control + DRAINED);
        if (drained == HostWords.readAcquire(control + INDEX)) {
            return NONE;
        }
        long gpa = HostWords.readAcquire(entries + drained * Long.BYTES);
        HostWords.setRelease(control + DRAINED, drained - 1 & INDEX_MASK);
        return gpa;
    }

    /**
     * Makes room for 512 addresses again, after {@link #next} has returned {@link #NONE}.
     *
     * @throws IllegalStateException if an address would be lost, or at debug level check, if nobody holds the lock
     * @locking the log's lock, held by the owner
     */
    public void reset() {
        if (Debug.CHECK) {
            requireLocked();
        }
        long drained = HostWords.readAcquire(control + DRAINED);
        long index = HostWords.readOpaque(control + INDEX);
        if (drained != index) {
            throw new IllegalStateException("reset of a log that still holds addresses: drained=" + drained + ", index="
                    + index + ", pending=" + pending());
        }
        // In any order: whoever reads both holds the lock, or is this thread.
        HostWords.setRelease(control + DRAINED, FIRST);
        HostWords.setRelease(control + INDEX, FIRST);
    }

    /**
     * Gives the memory back. The caller knows that no walk and no collector uses the log any more; what is still in
     * it is dropped.
     */
    public void close() {
        WordBlocks.give(control, CONTROL_BYTES);
        WordBlocks.give(entries, ENTRY_BYTES);
    }

    private void requireLocked() {
        long lock = HostWords.readOpaque(control + LOCK);
        if (lock != LOCKED) {
            throw new IllegalStateException("log is drained without its lock: lock=" + lock + ", expected=" + LOCKED);
        }
    }

    private static IllegalStateException overflow(long gpa, long index) {
        return new IllegalStateException("log is full: gpa=0x" + Long.toHexString(gpa) + ", index=0x"
                + Long.toHexString(index) + ", entries=" + ENTRIES);
    }
}
