package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.ForkedJava;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

final class TablePoolTest {
    private static final long PAGE_CHARGE = 4096 + 64;
    private static final int VM = 12;

    private final MemoryAccount account = new MemoryAccount(1L << 30);

    @Test
    void freshPagesAreDistinctZeroAndInTheTablePart() {
        TablePool pool = new TablePool(VM, account);
        Set<Long> pages = new HashSet<>();

        // More than one extent.
        for (int i = 0; i < 1_100; i++) {
            long page = pool.take();
            assertTrue(HostMemory.isTable(page));
            assertTrue(pages.add(page));
            assertZero(page);
            SpteAccess.setPlain(page, -1);
        }

        assertEquals(1_100, pool.pagesInUse());
        assertEquals(1_100, pool.pagesCharged());
        assertEquals(1_100 * PAGE_CHARGE, account.usedInBytes());
        assertEquals(account.usedInBytes(), TablePool.bytesOf(1_100));
        giveAll(pool, pages);
        pool.close();
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void pageThatWasGivenIsTakenAgain() {
        TablePool pool = new TablePool(VM, account);
        long page = pool.take();
        SpteAccess.fillPlain(page, 5);
        long generation = TableHeaders.generation(page);
        pool.give(page);
        long inUse = pool.pagesInUse();

        long again = pool.take();

        assertEquals(0, inUse);
        assertEquals(page, again);
        assertEquals(generation + 1, TableHeaders.generation(again));
        assertEquals(TableHeaders.CACHED, TableHeaders.state(again));
        assertEquals(VM, TableHeaders.owner(again));
        assertEquals(1, pool.pagesCharged());
        pool.give(again);
        pool.close();
    }

    @Test
    void capIsReachedExactlyAndThePoolRecoversAfterARefund() {
        MemoryAccount small = new MemoryAccount(3 * PAGE_CHARGE + 4095);
        small.tryCharge(4095);
        TablePool pool = new TablePool(VM, small);
        long first = pool.take();
        long second = pool.take();
        long third = pool.take();

        long none = pool.take();

        assertEquals(TablePool.NONE, none);
        assertEquals(small.capInBytes(), small.usedInBytes());
        pool.give(second);
        assertEquals(second, pool.take());
        small.refund(4095);
        assertEquals(TablePool.NONE, pool.take(), "65 bytes are missing");
        pool.give(first);
        pool.give(second);
        pool.give(third);
        pool.close();
        assertEquals(0, small.usedInBytes());
    }

    @Test
    void capGrowsBackWhenAnotherUserRefunds() {
        MemoryAccount shared = new MemoryAccount(2 * PAGE_CHARGE);
        shared.tryCharge(PAGE_CHARGE);
        TablePool pool = new TablePool(VM, shared);
        long first = pool.take();
        long none = pool.take();
        shared.refund(PAGE_CHARGE);

        long second = pool.take();

        assertEquals(TablePool.NONE, none);
        assertNotEquals(TablePool.NONE, second);
        pool.give(first);
        pool.give(second);
        pool.close();
    }

    @Test
    void doubleGiveIsRefused() {
        TablePool pool = new TablePool(VM, account);
        long page = pool.take();
        pool.give(page);

        IllegalStateException refusal = assertThrows(IllegalStateException.class, () -> pool.give(page));

        assertEquals(
                "table page is free already or not ours: hpa=0x" + Long.toHexString(page) + ", owner=12, vm=12",
                refusal.getMessage());
        assertEquals(page, pool.take());
        assertNotEquals(page, pool.take());
        assertThrows(IllegalStateException.class, pool::close);
    }

    @Test
    void pageOfAnotherVmIsRefused() {
        TablePool pool = new TablePool(VM, account);
        TablePool other = new TablePool(13, account);
        long foreign = other.take();

        IllegalStateException refusal = assertThrows(IllegalStateException.class, () -> pool.give(foreign));

        assertTrue(refusal.getMessage().endsWith("owner=13, vm=12"), refusal::getMessage);
        other.give(foreign);
        other.close();
        pool.close();
    }

    @Test
    void leakIsReportedAtCloseAndTheMemoryReturnedAllTheSame() {
        long handedOut = HostMemory.bytesHandedOut();
        TablePool pool = new TablePool(VM, account);
        pool.give(pool.take());
        pool.take();
        pool.take();

        IllegalStateException report = assertThrows(IllegalStateException.class, pool::close);

        assertEquals("table pages leaked: vm=12, pages=2", report.getMessage());
        assertEquals(0, account.usedInBytes());
        assertEquals(handedOut, HostMemory.bytesHandedOut());
        pool.close();
        assertEquals(0, pool.pagesInUse());
        assertEquals(0, pool.pagesCharged());
    }

    @Test
    void prewarmedPagesAreTakenWithoutGrowing() {
        TablePool pool = new TablePool(VM, account);

        int warmed = pool.prewarm(20);

        assertEquals(20, warmed);
        assertEquals(0, pool.pagesInUse());
        assertEquals(20, pool.pagesCharged());
        Set<Long> pages = new HashSet<>();
        for (int i = 0; i < 20; i++) {
            pages.add(pool.take());
        }
        assertEquals(20, pages.size());
        assertEquals(20, pool.pagesCharged());
        giveAll(pool, pages);
        pool.close();
    }

    @Test
    void chainTakesFreePagesFirstAndThenFreshOnes() {
        TablePool pool = new TablePool(VM, account);
        pool.prewarm(3);
        long[] stock = new long[8];
        stock[0] = pool.take();

        int held = pool.take(stock, 1, 5);

        assertEquals(5, held);
        assertEquals(5, pool.pagesInUse());
        assertEquals(5, pool.pagesCharged());
        Set<Long> pages = new HashSet<>();
        for (int i = 0; i < held; i++) {
            assertEquals(TableHeaders.CACHED, TableHeaders.state(stock[i]));
            assertTrue(pages.add(stock[i]));
        }
        assertEquals(0, stock[held]);
        giveAll(pool, pages);
        pool.close();
    }

    @Test
    void chainLeavesThePagesBehindItFree() {
        TablePool pool = new TablePool(VM, account);
        pool.prewarm(5);
        long[] stock = new long[5];

        int held = pool.take(stock, 0, 2);
        int all = pool.take(stock, held, 5);

        assertEquals(2, held);
        assertEquals(5, all);
        assertEquals(5, pool.pagesCharged());
        assertEquals(5, LongStream.of(stock).distinct().count());
        LongStream.of(stock).forEach(pool::give);
        pool.close();
    }

    @Test
    void chainIsCutShortAtTheCap() {
        TablePool pool = new TablePool(VM, new MemoryAccount(3 * PAGE_CHARGE));
        pool.prewarm(2);
        long[] stock = new long[4];

        int held = pool.take(stock, 0, 4);

        assertEquals(3, held);
        assertEquals(0, stock[3]);
        LongStream.of(stock).limit(held).forEach(pool::give);
        pool.close();
    }

    @Test
    void prewarmStopsAtTheCap() {
        TablePool pool = new TablePool(VM, new MemoryAccount(5 * PAGE_CHARGE));

        int warmed = pool.prewarm(6);

        assertEquals(5, warmed);
        assertEquals(0, pool.pagesInUse());
        assertEquals(0, pool.prewarm(0));
        pool.close();
    }

    @Test
    void twoThreadsNeverHoldTheSamePage() throws InterruptedException {
        TablePool pool = new TablePool(VM, account);
        AtomicReference<String> failure = new AtomicReference<>("");
        Thread[] threads = new Thread[3];

        for (int i = 0; i < threads.length; i++) {
            long mark = i + 1;
            threads[i] = Thread.ofPlatform().start(() -> {
                for (int round = 0; round < 20_000; round++) {
                    long first = pool.take();
                    long second = pool.take();
                    SpteAccess.setPlain(first, mark);
                    SpteAccess.setPlain(second, mark);
                    if (SpteAccess.readPlain(first) != mark
                            || SpteAccess.readPlain(second) != mark
                            || first == second) {
                        failure.set("first=" + first + ", second=" + second + ", round=" + round);
                    }
                    pool.give(first);
                    pool.give(second);
                }
            });
        }
        for (Thread thread : threads) {
            thread.join();
        }

        assertEquals("", failure.get());
        assertEquals(0, pool.pagesInUse());
        assertTrue(pool.pagesCharged() <= 6, () -> "pages=" + pool.pagesCharged());
        pool.close();
    }

    /**
     * <pre>
     *  closer                               successor
     *  releases extent E
     *                                       takes E, writes the header of its first page
     *  clears the headers of E: must have
     *  been done before the release, else
     *  the successor's page has no owner
     * </pre>
     */
    @Test
    void closingAPoolLeavesTheHeadersOfItsSuccessorsAlone() throws InterruptedException {
        for (int round = 0; round < 30; round++) {
            TablePool closing = new TablePool(13, account);
            for (int i = 0; i < 16 * 512; i++) {
                closing.take();
            }
            AtomicBoolean done = new AtomicBoolean();
            Thread closer = Thread.ofPlatform().start(() -> {
                // The pages are still out, so that closing is nothing but the return of memory.
                assertThrows(IllegalStateException.class, closing::close);
                done.set(true);
            });

            List<TablePool> successors = new ArrayList<>();
            List<Long> pages = new ArrayList<>();
            while (!done.get() && successors.size() < 20_000) {
                TablePool pool = new TablePool(VM, account);
                successors.add(pool);
                pages.add(pool.take());
            }
            closer.join();

            for (int i = 0; i < pages.size(); i++) {
                long page = pages.get(i);
                if (page != TablePool.NONE) {
                    assertEquals(VM, TableHeaders.owner(page), "round=" + round + ", pool=" + i);
                    assertEquals(TableHeaders.CACHED, TableHeaders.state(page));
                    successors.get(i).give(page);
                }
                successors.get(i).close();
            }
        }
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void poisonDetectsAWriteToAFreedPage() throws Exception {
        ForkedJava.Result result = ForkedJava.run(PoolProbe.PROVE, PoolProbe.class, "poison");

        assertEquals("", result.err());
        assertTrue(result.out().startsWith("free table page was written: hpa=0x"), result::out);
        assertTrue(result.out().endsWith(", index=7, found=0xbad"), result::out);
    }

    @Test
    void delayedTakeFailsWhenThePageWasTakenAndGivenMeanwhile() throws Exception {
        ForkedJava.Result result = ForkedJava.run(PoolProbe.PROVE, PoolProbe.class, "aba");

        assertEquals("", result.err());
        assertEquals("interrupted=true, distinct=true, inUse=3", result.out());
    }

    @Test
    void delayedChainFailsWhenItsPagesWereTakenMeanwhile() throws Exception {
        ForkedJava.Result result = ForkedJava.run(PoolProbe.PROVE, PoolProbe.class, "chain");

        assertEquals("", result.err());
        assertEquals("interrupted=true, distinct=true, inUse=3", result.out());
    }

    private static void assertZero(long page) {
        for (int i = 0; i < 512; i++) {
            assertEquals(0, SpteAccess.readPlain(page + 8L * i));
        }
    }

    private static void giveAll(TablePool pool, Set<Long> pages) {
        for (long page : pages) {
            pool.give(page);
        }
    }
}
