package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.memory.TablePool;
import java.time.Duration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** Retired pages wait for the sections that had begun, and for no others. */
final class RcuDomainTest {
    private static final int MAX_RETIRED = 3;

    private final ReaderSlots slots = new ReaderSlots();
    private final TablePool pool = new TablePool(1, new MemoryAccount(Long.MAX_VALUE));
    private final RcuDomain domain = new RcuDomain(slots, pool, MAX_RETIRED, Duration.ofMillis(1));
    private final ReaderSlot reader = slots.take("slow reader");

    @AfterEach
    void nothingIsLeft() {
        reader.leave(ReaderSlot.OUTSIDE);
        domain.barrier();
        assertEquals(0, domain.pendingPages());
        pool.close();
    }

    private void retire(int pages) {
        RetiredBatch batch = new RetiredBatch();
        for (int i = 0; i < pages; i++) {
            batch.add(pool.take());
        }
        domain.retire(batch);
    }

    @Test
    void pageComesBackAtOnceWithoutReaders() {
        retire(2);
        assertEquals(2, domain.pendingPages());

        assertEquals(2, domain.reclaim());

        assertEquals(0, pool.pagesInUse());
        assertEquals(2, domain.retiredPages());
        assertEquals(2, domain.reclaimedPages());
        assertEquals(0, domain.reclaim());
    }

    @Test
    void pageWaitsForSectionThatHadBegun() {
        reader.enter(ReaderSlot.IN_GUEST);
        retire(1);

        assertEquals(0, domain.reclaim());
        assertEquals(0, domain.reclaim());
        reader.leave(ReaderSlot.HANDLING);

        assertEquals(1, domain.reclaim());
    }

    @Test
    void pageDoesNotWaitForLaterSections() {
        retire(1);
        reader.enter(ReaderSlot.WALKING);
        // This section may have begun in the epoch of the retirement: it is waited for.
        assertEquals(0, domain.reclaim());
        reader.leave(ReaderSlot.OUTSIDE);
        reader.enter(ReaderSlot.WALKING);

        assertEquals(1, domain.reclaim());
    }

    @Test
    void batchesBehindBlockedOneWait() {
        reader.enter(ReaderSlot.WALKING);
        retire(1);
        retire(1);

        assertEquals(0, domain.reclaim());
        reader.leave(ReaderSlot.OUTSIDE);

        assertEquals(2, domain.reclaim());
    }

    @Test
    void emptyBatchIsNotRetired() {
        domain.retire(new RetiredBatch());

        assertEquals(0, domain.retiredPages());
        assertEquals(0, domain.reclaim());
        assertEquals(0, domain.gracePeriods());
    }

    @Test
    void retiredPageSaysSo() {
        reader.enter(ReaderSlot.WALKING);
        long page = pool.take();
        RetiredBatch batch = new RetiredBatch();
        assertTrue(batch.isEmpty());

        batch.add(page);
        domain.retire(batch);

        assertFalse(batch.isEmpty());
        assertEquals(TableHeaders.RETIRED, TableHeaders.state(page));
        reader.leave(ReaderSlot.OUTSIDE);
        domain.reclaim();
        assertEquals(TableHeaders.FREE, TableHeaders.state(page));
    }

    @Test
    void boundIsMetAndWaitEndsWithTheReadersName() {
        reader.enter(ReaderSlot.WALKING);
        retire(MAX_RETIRED - 1);
        assertFalse(domain.isOverBound());
        retire(1);
        assertTrue(domain.isOverBound());

        var thrown = assertThrows(ReclaimStalledException.class, domain::awaitRoom);

        assertTrue(thrown.getMessage().contains("slow reader"), thrown.getMessage());
        assertTrue(thrown.getMessage().contains("max=" + MAX_RETIRED), thrown.getMessage());
        reader.leave(ReaderSlot.OUTSIDE);
        domain.awaitRoom();
        assertFalse(domain.isOverBound());
    }

    @Test
    void stallIsReportedOnlyWhileItLasts() {
        assertFalse(domain.isStalled());
        assertEquals("none", domain.stallReport().readerName());
        reader.enter(ReaderSlot.FAULTING);
        retire(1);
        domain.reclaim();
        long start = System.nanoTime();
        while (!domain.isStalled()) {
            assertTrue(System.nanoTime() - start < 10_000_000_000L, "never stalled");
            Thread.onSpinWait();
        }

        StallReport report = domain.stallReport();

        assertEquals("slow reader", report.readerName());
        assertEquals(ReaderSlot.FAULTING, report.mode());
        assertEquals(1, report.retiredPages());
        assertTrue(report.toString().contains("slow reader"));
        reader.leave(ReaderSlot.OUTSIDE);
        domain.reclaim();
        domain.reclaim();
        assertFalse(domain.isStalled());
    }

    @Test
    void waitsForGracePeriodsAreRefusedUnderTheMmuLock() {
        Assumptions.assumeTrue(Debug.CHECK);
        LockDep.acquire(LockRank.MMU, LockMode.SHARED);

        assertThrows(IllegalStateException.class, domain::synchronize);
        assertThrows(IllegalStateException.class, domain::barrier);
        assertThrows(IllegalStateException.class, domain::awaitRoom);
        assertThrows(IllegalStateException.class, domain::awaitAllOutside);

        LockDep.release(LockRank.MMU, LockMode.SHARED);
    }

    @Test
    void gracePeriodEndsWhileReadersComeAndGo() throws InterruptedException {
        Thread busy = Thread.ofPlatform().start(() -> {
            ReaderSlot slot = slots.take("busy");
            while (!Thread.currentThread().isInterrupted()) {
                slot.enter(ReaderSlot.WALKING);
                slot.leave(ReaderSlot.OUTSIDE);
            }
            slots.give(slot);
        });

        for (int i = 0; i < 50; i++) {
            retire(1);
            domain.synchronize();
            domain.barrier();
        }

        busy.interrupt();
        busy.join();
        assertEquals(50, domain.reclaimedPages());
    }
}
