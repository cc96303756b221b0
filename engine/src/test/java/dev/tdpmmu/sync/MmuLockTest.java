package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.config.LockPolicy;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What the MMU lock shows in the reader slot, and that threads exclude each other and let each other in. */
final class MmuLockTest {
    private static final int THREADS = 3;
    private static final int ROUNDS = 2_000;
    private static final long SECONDS = 20;

    private final ReaderSlots slots = new ReaderSlots();

    /** Written under the exclusive lock only, by a plain store: a lost update is a broken lock. */
    private long plain;

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void holdersAreInsideAnEpoch(LockPolicy policy) {
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot slot = slots.take("holder");

        for (LockMode mode : LockMode.values()) {
            lock.lock(slot, mode);
            slot.assertInside();
            assertTrue(ReaderSlot.holdsEpoch(slot.state()));
            lock.unlock(slot, mode);
            assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(slot.state()));
        }
        lock.lockForFault(slot);
        assertTrue(ReaderSlot.holdsEpoch(slot.state()));
        lock.unlockForFault(slot);

        assertEquals(ReaderSlot.HANDLING, ReaderSlot.modeOf(slot.state()));
        lock.close();
    }

    /** A vCPU that loads a root is handling an exit all the while: outside would let a VM close under it. */
    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void holderReturnsToWhatItDidBefore(LockPolicy policy) {
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot slot = slots.take("vCPU");

        for (LockMode mode : LockMode.values()) {
            for (int before : new int[] {ReaderSlot.HANDLING, ReaderSlot.OUTSIDE}) {
                slot.leave(before);
                lock.lock(slot, mode);
                lock.yield(slot, mode);
                lock.unlock(slot, mode);
                assertEquals(before, ReaderSlot.modeOf(slot.state()), "mode=" + mode);
            }
        }
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void loneHolderIsNotContended(LockPolicy policy) {
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot slot = slots.take("holder");

        for (LockMode mode : LockMode.values()) {
            lock.lock(slot, mode);
            assertFalse(lock.isContended(mode));
            // With nobody to let in, a yield comes back at once.
            lock.yield(slot, mode);
            lock.unlock(slot, mode);
        }

        assertEquals(2, slots.sum(Counter.YIELDS));
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void sharedHoldersShare(LockPolicy policy) {
        Assumptions.assumeTrue(policy != LockPolicy.EXCLUSIVE);
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot first = slots.take("first");
        ReaderSlot second = slots.take("second");
        lock.lockForFault(first);

        Thread other = Thread.ofPlatform().start(() -> {
            lock.lockForFault(second);
            lock.unlockForFault(second);
        });
        joinOrFail(other);

        lock.unlockForFault(first);
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void lockIsNotReentrant(LockPolicy policy) {
        Assumptions.assumeTrue(Debug.CHECK);
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot slot = slots.take("holder");
        lock.lock(slot, LockMode.EXCLUSIVE);

        assertThrows(IllegalStateException.class, () -> lock.lock(slot, LockMode.SHARED));
        assertThrows(IllegalStateException.class, () -> lock.lockForFault(slot));

        lock.unlock(slot, LockMode.EXCLUSIVE);
        assertThrows(IllegalStateException.class, MmuLock::assertHeld);
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHoldersLoseNoUpdate(LockPolicy policy) {
        MmuLock lock = MmuLock.of(policy, slots);
        Thread[] threads = new Thread[THREADS];

        for (int i = 0; i < THREADS; i++) {
            threads[i] = Thread.ofPlatform().start(() -> {
                ReaderSlot slot = slots.take("worker");
                for (int round = 0; round < ROUNDS; round++) {
                    lock.lock(slot, LockMode.EXCLUSIVE);
                    plain++;
                    lock.unlock(slot, LockMode.EXCLUSIVE);
                    lock.lockForFault(slot);
                    lock.unlockForFault(slot);
                    slot.leave(ReaderSlot.OUTSIDE);
                }
                slots.give(slot);
            });
        }
        for (Thread thread : threads) {
            joinOrFail(thread);
        }

        assertEquals((long) THREADS * ROUNDS, plain);
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void writerComesInAmongLoopingReaders(LockPolicy policy) throws InterruptedException {
        MmuLock lock = MmuLock.of(policy, slots);
        CountDownLatch done = new CountDownLatch(1);
        Thread[] readers = new Thread[THREADS];
        for (int i = 0; i < THREADS; i++) {
            readers[i] = Thread.ofPlatform().start(() -> {
                ReaderSlot slot = slots.take("looping reader");
                while (done.getCount() > 0) {
                    lock.lock(slot, LockMode.SHARED);
                    lock.unlock(slot, LockMode.SHARED);
                }
                slots.give(slot);
            });
        }

        Thread writer = Thread.ofPlatform().start(() -> {
            ReaderSlot slot = slots.take("writer");
            for (int i = 0; i < 50; i++) {
                lock.lock(slot, LockMode.EXCLUSIVE);
                lock.unlock(slot, LockMode.EXCLUSIVE);
            }
            slots.give(slot);
            done.countDown();
        });

        boolean ended = done.await(SECONDS, TimeUnit.SECONDS);
        done.countDown();
        assertTrue(ended, "writer starves");
        joinOrFail(writer);
        for (Thread reader : readers) {
            joinOrFail(reader);
        }
        lock.close();
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHolderSeesAndAdmitsWaiters(LockPolicy policy) {
        MmuLock lock = MmuLock.of(policy, slots);
        ReaderSlot holder = slots.take("holder");
        for (LockMode mode : LockMode.values()) {
            lock.lock(holder, LockMode.EXCLUSIVE);
            boolean[] admitted = new boolean[1];
            Thread waiter = Thread.ofPlatform().start(() -> {
                ReaderSlot slot = slots.take("waiter");
                lock.lock(slot, mode);
                admitted[0] = true;
                lock.unlock(slot, mode);
                slots.give(slot);
            });
            long start = System.nanoTime();
            while (!lock.isContended(LockMode.EXCLUSIVE)) {
                assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(SECONDS), "waiter is not seen");
                Thread.onSpinWait();
            }

            lock.yield(holder, LockMode.EXCLUSIVE);

            lock.unlock(holder, LockMode.EXCLUSIVE);
            joinOrFail(waiter);
            assertTrue(admitted[0]);
        }
        lock.close();
    }

    private static void joinOrFail(Thread thread) {
        try {
            assertTrue(thread.join(java.time.Duration.ofSeconds(SECONDS)), "thread does not end: " + thread.getName());
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }
}
