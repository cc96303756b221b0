package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TablePool;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/** The background thread returns pages without being asked, and stops. */
final class ReclaimerTest {
    private static final long LIMIT_NANOS = 10_000_000_000L;

    private final ReaderSlots slots = new ReaderSlots();
    private final TablePool pool = new TablePool(1, new MemoryAccount(Long.MAX_VALUE));
    private final RcuDomain domain = new RcuDomain(slots, pool, 100, Duration.ofSeconds(5));

    private void retireOne() {
        RetiredBatch batch = new RetiredBatch();
        batch.add(pool.take());
        domain.retire(batch);
    }

    @Test
    void retiredPageComesBackByItself() {
        try (Reclaimer reclaimer = new Reclaimer(domain, "reclaimer under test")) {
            reclaimer.start();
            retireOne();

            long start = System.nanoTime();
            while (domain.pendingPages() != 0) {
                assertTrue(System.nanoTime() - start < LIMIT_NANOS, "page does not come back");
                Thread.onSpinWait();
            }

            assertEquals("reclaimer under test", reclaimer.roleName());
        }
        pool.close();
    }

    @Test
    void closedReclaimerLeavesPagesToOthers() {
        Reclaimer reclaimer = new Reclaimer(domain, "reclaimer under test");
        reclaimer.start();
        reclaimer.close();

        retireOne();

        assertEquals(1, domain.pendingPages());
        domain.barrier();
        pool.close();
    }

    @Test
    void workIsOnePassOverWhatMayReturn() {
        ReaderSlot reader = slots.take("reader");
        try (Reclaimer reclaimer = new Reclaimer(domain, "reclaimer under test")) {
            reader.enter(ReaderSlot.WALKING);
            retireOne();

            assertEquals(0, reclaimer.doWork());
            reader.leave(ReaderSlot.OUTSIDE);
            assertEquals(1, reclaimer.doWork());
            assertEquals(0, reclaimer.doWork());
        }
        pool.close();
    }
}
