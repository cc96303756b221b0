package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

final class TableCacheTest {
    private static final long PAGE_CHARGE = TablePool.bytesOf(1);

    @Test
    void stockIsToppedUpOnlyWhenItIsTooSmall() {
        TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
        TableCache cache = new TableCache(pool);

        boolean full = cache.topUp(TableCache.CAPACITY);
        cache.take();
        boolean enough = cache.topUp(TableCache.CAPACITY - 1);

        assertTrue(full);
        assertTrue(enough);
        assertEquals(TableCache.CAPACITY - 1, cache.size());
        assertEquals(TableCache.CAPACITY, pool.pagesInUse());
        assertTrue(cache.topUp(0));
        cache.drain();
        assertEquals(1, pool.pagesInUse());
        assertEquals(0, cache.size());
        assertThrows(IllegalStateException.class, pool::close);
    }

    @Test
    void takenPagesAreDistinctAndCached() {
        TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
        TableCache cache = new TableCache(pool);
        cache.topUp(2);

        long first = cache.take();
        long second = cache.take();

        assertNotEquals(first, second);
        assertEquals(TableHeaders.CACHED, TableHeaders.state(first));
        assertEquals(0, SpteAccess.readPlain(first));
        pool.give(first);
        pool.give(second);
        pool.close();
    }

    @Test
    void pageThatWasPutBackIsTakenNext() {
        TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
        TableCache cache = new TableCache(pool);
        cache.topUp(2);
        long page = cache.take();
        TableHeaders.describe(page, 5, 2, 0);

        cache.putBack(page);

        assertEquals(2, cache.size());
        assertEquals(page, cache.take());
        cache.putBack(page);
        cache.drain();
        pool.close();
    }

    @Test
    void cappedTopUpKeepsWhatItGotAndRecovers() {
        MemoryAccount account = new MemoryAccount(3 * PAGE_CHARGE);
        TablePool pool = new TablePool(1, account);
        long taken = pool.take();
        TableCache cache = new TableCache(pool);

        boolean enough = cache.topUp(3);

        assertFalse(enough);
        assertEquals(2, cache.size());
        pool.give(taken);
        assertTrue(cache.topUp(3));
        cache.drain();
        pool.close();
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void emptyStockGivesNothing() {
        TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
        TableCache cache = new TableCache(pool);

        assertThrows(IndexOutOfBoundsException.class, cache::take);

        pool.close();
    }
}
