package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/** Taking a ranked lock without waiting for it. */
final class RankedLockTest {
    private final RankedLock lock = new RankedLock(LockRank.HOST);

    private boolean tryInAnotherThread() throws InterruptedException {
        boolean[] taken = new boolean[2];
        Thread thread = new Thread(() -> {
            taken[0] = lock.tryLock();
            if (taken[0]) {
                lock.unlock();
            }
            LockDep.assertNoneHeldFrom(LockRank.HOST);
            taken[1] = true;
        });
        thread.start();
        thread.join();
        assertTrue(taken[1], "holds nothing any more");
        return taken[0];
    }

    @Test
    void freeLockIsTakenAtOnceAndHeldUntilUnlocked() throws InterruptedException {
        boolean taken = lock.tryLock();

        assertTrue(taken);
        LockDep.assertHeldExclusive(LockRank.HOST);
        assertFalse(tryInAnotherThread());
        lock.unlock();
        LockDep.assertNoneHeldFrom(LockRank.HOST);
        assertTrue(tryInAnotherThread());
    }

    @Test
    void outerLockIsNotEvenTriedUnderAnInnerOne() {
        RankedLock inner = new RankedLock(LockRank.SLOTS);
        inner.lock();

        assertThrows(IllegalStateException.class, lock::tryLock);
        inner.unlock();

        assertTrue(lock.tryLock());
        lock.unlock();
    }
}
