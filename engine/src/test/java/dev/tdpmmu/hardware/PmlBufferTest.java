package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tdpmmu.base.Debug;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class PmlBufferTest {
    private static final int FULL_INDEX = 0xffff;

    private final PmlBuffer log = new PmlBuffer();

    @AfterEach
    void close() {
        log.close();
    }

    private static long page(long number) {
        return 0x7_0000_0000L + (number << 12);
    }

    private void logPages(int from, int to) {
        for (int i = from; i < to; i++) {
            log.log(page(i));
        }
    }

    private static List<Long> pages(int from, int to) {
        List<Long> pages = new ArrayList<>();
        for (int i = from; i < to; i++) {
            pages.add(page(i));
        }
        return pages;
    }

    /** Consumes at most so many, under the lock. */
    private List<Long> collect(int most) {
        List<Long> taken = new ArrayList<>();
        log.lock();
        try {
            while (taken.size() < most) {
                long gpa = log.next();
                if (gpa == PmlBuffer.NONE) {
                    break;
                }
                taken.add(gpa);
            }
        } finally {
            log.unlock();
        }
        return taken;
    }

    private void resetUnderLock() {
        log.lock();
        try {
            log.reset();
        } finally {
            log.unlock();
        }
    }

    private static <T> T onOtherThread(Callable<T> body) throws Exception {
        var task = new FutureTask<>(body);
        Thread.ofPlatform().daemon().start(task);
        return task.get(30, TimeUnit.SECONDS);
    }

    @Test
    void newLogIsEmptyAtIndex511() {
        assertEquals(511, log.index());
        assertEquals(0, log.pending());
        assertFalse(log.isFull());
        assertEquals(List.of(), collect(1));
    }

    @Test
    void indexGoesDownByOneAndWrapsToFull() {
        for (int i = 0; i < PmlBuffer.ENTRIES; i++) {
            assertEquals(511 - i, log.index());
            assertEquals(i, log.pending());
            assertFalse(log.isFull());

            log.log(page(i));
        }

        assertEquals(FULL_INDEX, log.index());
        assertEquals(512, log.pending());
        assertTrue(log.isFull());
    }

    @Test
    void entryIsThePageOfTheAddress() {
        log.log(0x12_3456_7fffL);
        log.log((1L << 51) | 0x1000);
        log.log(0);

        assertEquals(List.of(0x12_3456_7000L, (1L << 51) | 0x1000, 0L), collect(4));
    }

    @Test
    void fullLogRefusesAndKeepsItsEntries() {
        logPages(0, 512);

        assertThrows(IllegalStateException.class, () -> log.log(page(1000)));

        assertEquals(FULL_INDEX, log.index());
        assertEquals(pages(0, 512), collect(513));
    }

    @Test
    void consumedLogStaysFullUntilItIsReset() {
        logPages(0, 512);

        assertEquals(pages(0, 512), collect(513));

        assertEquals(0, log.pending());
        assertTrue(log.isFull());
        resetUnderLock();
        assertFalse(log.isFull());
        assertEquals(511, log.index());
        assertEquals(0, log.pending());
    }

    @Test
    void resetRefusesToLoseAnAddress() {
        logPages(0, 3);
        collect(2);

        assertThrows(IllegalStateException.class, this::resetUnderLock);

        assertEquals(List.of(page(2)), collect(2));
    }

    @Test
    void addressesOfEarlierRoundsDoNotComeBack() {
        logPages(0, 512);
        collect(512);
        resetUnderLock();

        logPages(600, 602);

        assertEquals(pages(600, 602), collect(512));
    }

    @Test
    void otherThreadConsumesInPiecesWithoutMovingTheIndex() throws Exception {
        logPages(0, 100);
        List<Long> first = onOtherThread(() -> collect(30));
        logPages(100, 150);
        List<Long> second = onOtherThread(() -> collect(90));
        List<Long> third = onOtherThread(() -> collect(0));
        int index = log.index();
        List<Long> rest = collect(512);

        assertEquals(pages(0, 30), first);
        assertEquals(pages(30, 120), second);
        assertEquals(List.of(), third);
        assertEquals(511 - 150, index);
        assertEquals(pages(120, 150), rest);
    }

    @Test
    void collectorsThatRunMeanwhileAndTheOwnerTakeEachAddressOnce() throws Exception {
        int rounds = 40 * PmlBuffer.ENTRIES;
        var stop = new Object() {
            volatile boolean now;
        };
        var collector = new FutureTask<>(() -> {
            List<Long> taken = new ArrayList<>();
            while (!stop.now) {
                taken.addAll(collect(7));
            }
            return taken;
        });
        Thread.ofPlatform().daemon().start(collector);
        List<Long> taken = new ArrayList<>();

        for (int i = 0; i < rounds; i++) {
            if (log.isFull()) {
                log.lock();
                for (long gpa = log.next(); gpa != PmlBuffer.NONE; gpa = log.next()) {
                    taken.add(gpa);
                }
                log.reset();
                log.unlock();
            }
            log.log(page(i));
        }
        stop.now = true;
        taken.addAll(collector.get(30, TimeUnit.SECONDS));
        taken.addAll(collect(PmlBuffer.ENTRIES));

        taken.sort(null);
        assertEquals(pages(0, rounds), taken);
    }

    @Test
    void lockIsHeldByOneAtATime() throws Exception {
        assertTrue(log.tryLock());
        assertFalse(onOtherThread(log::tryLock));

        log.unlock();

        assertTrue(onOtherThread(log::tryLock));
    }

    @Test
    void drainingWithoutTheLockIsRefusedAtDebugLevelCheck() {
        assumeTrue(Debug.CHECK);
        log.log(page(0));

        assertThrows(IllegalStateException.class, log::next);
        assertThrows(IllegalStateException.class, log::reset);
        assertThrows(IllegalStateException.class, log::unlock);
    }

    @Test
    void memoryOfAClosedLogServesTheNextOne() {
        var first = new PmlBuffer();
        first.log(page(5));
        assertTrue(first.tryLock());
        first.close();

        var second = new PmlBuffer();
        try {
            assertEquals(511, second.index());
            assertEquals(0, second.pending());
            assertTrue(second.tryLock());
        } finally {
            second.close();
        }
    }
}
