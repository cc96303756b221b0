package dev.tdpmmu.sync;

import dev.tdpmmu.memory.Interleave;
import java.util.concurrent.locks.StampedLock;

/**
 * A mutual-exclusion lock that knows its rank, and that the test kit can schedule. Not reentrant, without an owner.
 *
 * <p>A lock that remembers its thread would not do: the test kit runs several actors on one.
 */
public final class RankedLock {
    private final LockRank rank;
    private final StampedLock lock = new StampedLock();

    /** Written and read by the holder. */
    private long stamp;

    /**
     * Makes a lock.
     *
     * @param rank its place in the lock order
     */
    public RankedLock(LockRank rank) {
        this.rank = rank;
    }

    /** Waits until the lock is free and takes it. */
    public void lock() {
        LockDep.acquire(rank, LockMode.EXCLUSIVE);
        stamp = Interleave.isControlled() ? lockControlled() : lock.writeLock();
    }

    private long lockControlled() {
        while (true) {
            Interleave.step();
            long taken = lock.tryWriteLock();
            if (taken != 0) {
                return taken;
            }
            Interleave.blocked();
        }
    }

    /**
     * Takes the lock if it is free.
     *
     * @return whether the caller holds it now
     */
    public boolean tryLock() {
        LockDep.acquire(rank, LockMode.EXCLUSIVE);
        Interleave.step();
        long taken = lock.tryWriteLock();
        if (taken == 0) {
            LockDep.release(rank, LockMode.EXCLUSIVE);
            return false;
        }
        stamp = taken;
        return true;
    }

    /** Gives the lock back. */
    public void unlock() {
        lock.unlockWrite(stamp);
        LockDep.release(rank, LockMode.EXCLUSIVE);
    }
}
