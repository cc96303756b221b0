package dev.tdpmmu.sync;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.WordBlocks;
import java.util.concurrent.locks.StampedLock;

/**
 * A StampedLock that knows whether anyone waits, and in which those who wait get their turn.
 *
 * <p>StampedLock lets a thread that arrives overtake those that queue: 64 readers in a loop keep a writer out for
 * seconds, and a writer that unlocks and locks again never lets anyone in. It also cannot tell whether anyone waits. So
 * three counters stand beside it, each on lines of its own:
 *
 * <pre>
 *    +0  exclusive: those that wait for or hold the lock exclusively
 *  +128  shared waiters: readers that found somebody exclusive
 *  +256  admissions: slow acquisitions that succeeded, of either kind
 * </pre>
 *
 * <p>Guarantees: (1) while {@code exclusive > 0} a new reader queues behind the exclusive holder instead of overtaking
 * a waiter; (2) a holder that yields goes on only after somebody who waited was admitted, nobody waits any more, or
 * tens of milliseconds have passed.
 */
final class StampedGate {
    private static final int BLOCK_BYTES = 512;

    /** Rounds of {@link Waiting} that a yield lasts at most, some tens of milliseconds. */
    private static final int MAX_YIELD_ROUNDS = 200;

    private static final int SHARED_WAITERS = CacheLines.PAIR_BYTES;
    private static final int ADMISSIONS = 2 * CacheLines.PAIR_BYTES;

    private final StampedLock lock = new StampedLock();
    private final long address = WordBlocks.take(BLOCK_BYTES);

    /** Address of the word that is 0 while nobody holds the lock exclusively or waits to. */
    long exclusiveAddress() {
        return address;
    }

    /**
     * Tells whether somebody holds the lock exclusively or waits to.
     *
     * @ordering volatile; the other half of the pattern in {@link ParallelMmuLock}
     */
    boolean hasExclusive() {
        return HostWords.readVolatile(address) != 0;
    }

    /** Tells whether somebody else than one exclusive holder waits. */
    boolean isContendedForExclusive() {
        return HostWords.readAcquire(address) > 1 || HostWords.readAcquire(address + SHARED_WAITERS) > 0;
    }

    /**
     * Tries to lock shared without looking for waiters: the case that nobody exclusive was seen. Never waits, since a
     * holder would not see such a waiter and not yield to it.
     *
     * @return stamp, or 0 if somebody exclusive came in meanwhile
     */
    long tryLockShared() {
        if (Interleave.ON) {
            Interleave.step();
        }
        return lock.tryReadLock();
    }

    private long lockShared() {
        if (Interleave.isControlled()) {
            return lockSharedControlled();
        }
        return lock.readLock();
    }

    /** Locks shared behind those that wait exclusively. */
    long lockSharedFairly() {
        HostWords.getAndAdd(address + SHARED_WAITERS, 1);
        // An exclusive waiter that does not hold the lock yet is about to: taking the lock now would overtake it.
        // Once it holds the lock, the StampedLock queues us, first come first served. If it gave up its turn
        // meanwhile, go on.
        Waiting waiting = new Waiting();
        while (hasExclusive() && !lock.isWriteLocked()) {
            waiting.once();
        }
        long stamp = lockShared();
        HostWords.getAndAdd(address + SHARED_WAITERS, -1);
        HostWords.getAndAdd(address + ADMISSIONS, 1);
        return stamp;
    }

    void unlockShared(long stamp) {
        lock.unlockRead(stamp);
    }

    /** Locks exclusively. */
    long lockExclusive() {
        long others = HostWords.getAndAdd(address, 1);
        long stamp = Interleave.isControlled() ? lockExclusiveControlled() : lock.writeLock();
        if (others > 0) {
            HostWords.getAndAdd(address + ADMISSIONS, 1);
        }
        return stamp;
    }

    void unlockExclusive(long stamp) {
        // Counter first: a reader that sees 0 may go on although the lock is still held for a moment. That is
        // harmless, as the holder's work is done and this update publishes it.
        HostWords.getAndAdd(address, -1);
        lock.unlockWrite(stamp);
    }

    long admissions() {
        return HostWords.readAcquire(address + ADMISSIONS);
    }

    /**
     * Waits, after an exclusive unlock, until one of those that waited was admitted. Not for ever: exclusive lockers
     * that come one after the other, each when the last has gone, never wait and so are never counted as admitted.
     */
    void letOthersIn(long admissionsBefore) {
        Waiting waiting = new Waiting();
        for (int rounds = 0; rounds < MAX_YIELD_ROUNDS; rounds++) {
            boolean somebodyWaits =
                    HostWords.readAcquire(address) > 0 || HostWords.readAcquire(address + SHARED_WAITERS) > 0;
            if (!somebodyWaits || admissions() != admissionsBefore) {
                return;
            }
            waiting.once();
        }
    }

    private long lockSharedControlled() {
        while (true) {
            Interleave.step();
            long stamp = lock.tryReadLock();
            if (stamp != 0) {
                return stamp;
            }
            Interleave.blocked();
        }
    }

    private long lockExclusiveControlled() {
        while (true) {
            Interleave.step();
            long stamp = lock.tryWriteLock();
            if (stamp != 0) {
                return stamp;
            }
            Interleave.blocked();
        }
    }

    /** Returns the counters' memory. Nobody may use the gate any more. */
    void close() {
        WordBlocks.give(address, BLOCK_BYTES);
    }
}
