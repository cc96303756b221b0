package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Locks are taken in rank order and given back as they were taken. */
final class LockDepTest {
    @BeforeEach
    void checksAreOn() {
        Assumptions.assumeTrue(Debug.CHECK);
    }

    @Test
    void outerLocksMayBeHeld() {
        LockDep.acquire(LockRank.SLOTS, LockMode.EXCLUSIVE);
        LockDep.acquire(LockRank.MMU, LockMode.SHARED);
        LockDep.acquire(LockRank.PAGES, LockMode.EXCLUSIVE);

        LockDep.assertHeld(LockRank.MMU);
        LockDep.assertHeldExclusive(LockRank.PAGES);
        assertThrows(IllegalStateException.class, () -> LockDep.assertHeldExclusive(LockRank.MMU));
        assertThrows(IllegalStateException.class, () -> LockDep.assertNoneHeldFrom(LockRank.MMU));

        LockDep.release(LockRank.PAGES, LockMode.EXCLUSIVE);
        LockDep.release(LockRank.MMU, LockMode.SHARED);
        LockDep.assertNoneHeldFrom(LockRank.MMU);
        LockDep.release(LockRank.SLOTS, LockMode.EXCLUSIVE);
    }

    @Test
    void innerOrSameLockMustNotBeHeld() {
        LockDep.acquire(LockRank.MMU, LockMode.EXCLUSIVE);

        var outer =
                assertThrows(IllegalStateException.class, () -> LockDep.acquire(LockRank.SLOTS, LockMode.EXCLUSIVE));
        assertThrows(IllegalStateException.class, () -> LockDep.acquire(LockRank.MMU, LockMode.SHARED));

        assertTrue(outer.getMessage().contains("wanted=SLOTS, held=MMU"), outer.getMessage());
        LockDep.release(LockRank.MMU, LockMode.EXCLUSIVE);
    }

    @Test
    void releaseMustMatch() {
        LockDep.acquire(LockRank.MMU, LockMode.SHARED);

        assertThrows(IllegalStateException.class, () -> LockDep.release(LockRank.MMU, LockMode.EXCLUSIVE));
        LockDep.release(LockRank.MMU, LockMode.SHARED);
        assertThrows(IllegalStateException.class, () -> LockDep.release(LockRank.MMU, LockMode.SHARED));
        assertThrows(IllegalStateException.class, () -> LockDep.assertHeld(LockRank.MMU));
    }

    @Test
    void recordsBelongToTheirThread() throws InterruptedException {
        LockDep.acquire(LockRank.MMU, LockMode.EXCLUSIVE);
        Throwable[] thrown = new Throwable[1];

        Thread other = Thread.ofPlatform().start(() -> {
            try {
                LockDep.assertNoneHeldFrom(LockRank.SLOTS);
            } catch (IllegalStateException held) {
                thrown[0] = held;
            }
        });
        other.join();

        assertTrue(thrown[0] == null, () -> "held by another thread: " + thrown[0]);
        LockDep.release(LockRank.MMU, LockMode.EXCLUSIVE);
    }
}
