package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

final class MemoryAccountTest {
    @Test
    void capIsReachedExactlyAndNotPassed() {
        MemoryAccount account = new MemoryAccount(10_000);

        boolean most = account.tryCharge(9_999);
        boolean tooMuch = account.tryCharge(2);
        boolean last = account.tryCharge(1);
        boolean none = account.tryCharge(1);

        assertTrue(most);
        assertFalse(tooMuch);
        assertTrue(last);
        assertFalse(none);
        assertTrue(account.tryCharge(0));
        assertEquals(10_000, account.usedInBytes());
        assertEquals(10_000, account.capInBytes());
    }

    @Test
    void refundMakesRoom() {
        MemoryAccount account = new MemoryAccount(10_000);
        account.tryCharge(10_000);

        account.refund(4_000);

        assertEquals(6_000, account.usedInBytes());
        assertFalse(account.tryCharge(4_001));
        assertTrue(account.tryCharge(4_000));
    }

    @Test
    void hugeChargeDoesNotOverflow() {
        MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);
        account.tryCharge(4096);

        boolean charged = account.tryCharge(Long.MAX_VALUE);

        assertFalse(charged);
        assertTrue(account.tryCharge(Long.MAX_VALUE - 4096));
        assertEquals(Long.MAX_VALUE, account.usedInBytes());
    }

    @Test
    void refundOfMoreThanChargedIsRefused() {
        MemoryAccount account = new MemoryAccount(100);
        account.tryCharge(10);

        IllegalStateException refusal = assertThrows(IllegalStateException.class, () -> account.refund(11));

        assertEquals("more refunded than charged: bytes=11, left=-1", refusal.getMessage());
    }

    @Test
    void capThatIsNotPositiveIsRefused() {
        for (long cap : new long[] {0, -1, Long.MIN_VALUE}) {
            IllegalArgumentException refusal =
                    assertThrows(IllegalArgumentException.class, () -> new MemoryAccount(cap));
            assertEquals("memory cap is not positive: capInBytes=" + cap, refusal.getMessage());
        }
    }

    @Test
    void chargesOfTwoThreadsNeverPassTheCap() throws InterruptedException {
        int rounds = 500_000;
        CountDownLatch start = new CountDownLatch(2);
        MemoryAccount account = new MemoryAccount(3);
        Thread[] threads = new Thread[2];
        long[] worst = new long[2];

        for (int i = 0; i < threads.length; i++) {
            int index = i;
            threads[i] = Thread.ofPlatform().start(() -> {
                start.countDown();
                while (start.getCount() > 0) {
                    Thread.onSpinWait();
                }
                for (int round = 0; round < rounds; round++) {
                    if (account.tryCharge(2)) {
                        worst[index] = Math.max(worst[index], account.usedInBytes());
                        account.refund(2);
                    }
                }
            });
        }
        for (Thread thread : threads) {
            thread.join();
        }

        assertTrue(worst[0] <= 3 && worst[1] <= 3, () -> "used=" + Math.max(worst[0], worst[1]));
        assertEquals(0, account.usedInBytes());
    }
}
