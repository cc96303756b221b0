package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class SpteAccessTest {
    private final TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
    private final long before = pool.take();
    private final long table = pool.take();
    private final long after = pool.take();

    @AfterEach
    void closePool() {
        pool.give(before);
        pool.give(table);
        pool.give(after);
        pool.close();
    }

    @Test
    void entryOfAFrameLiesAtItsIndex() {
        for (int level = 1; level <= 5; level++) {
            long pages = 1L << 9 * (level - 1);

            assertEquals(table, SpteAccess.addressOf(table, 0, level));
            assertEquals(table, SpteAccess.addressOf(table, pages - 1, level));
            assertEquals(table + 8, SpteAccess.addressOf(table, pages, level));
            assertEquals(table + 4088, SpteAccess.addressOf(table, 512 * pages - 1, level));
            assertEquals(table, SpteAccess.addressOf(table, 512 * pages, level));
        }
    }

    @Test
    void fillWritesAnArithmeticRowIntoExactlyOnePage() {
        assertEquals(before + 4096, table, "neighbours in the extent");

        SpteAccess.fillRowPlain(table, 0x1000_0007L, 12);

        for (int i = 0; i < 512; i++) {
            assertEquals(0x1000_0007L + 4096L * i, SpteAccess.readAcquire(table + 8L * i));
        }
        assertEquals(0, SpteAccess.readPlain(table - 8));
        assertEquals(0, SpteAccess.readPlain(table + 4096));
    }

    @Test
    void rowOfAnyStepIsWritten() {
        int[] shifts = {0, 12, 21, 54};

        for (int shift : shifts) {
            SpteAccess.fillRowPlain(table, Long.MIN_VALUE | 7, shift);

            for (int i = 0; i < 512; i++) {
                assertEquals((Long.MIN_VALUE | 7) + ((long) i << shift), SpteAccess.readPlain(table + 8L * i));
            }
        }
    }

    @Test
    void fillRepeatsTheEntryInExactlyOnePage() {
        SpteAccess.fillPlain(table, -2);

        for (int i = 0; i < 512; i++) {
            assertEquals(-2, SpteAccess.readPlain(table + 8L * i));
        }
        assertEquals(0, SpteAccess.readPlain(table - 8));
        assertEquals(0, SpteAccess.readPlain(table + 4096));
    }

    @Test
    void compareAndSetReplacesOnlyTheExpectedEntry() {
        SpteAccess.setRelease(table, 5);

        boolean lost = SpteAccess.compareAndSet(table, 4, 6);
        boolean won = SpteAccess.compareAndSet(table, 5, 7);

        assertFalse(lost);
        assertTrue(won);
        assertEquals(7, SpteAccess.readAcquire(table));
    }

    @Test
    void exchangeAndFetchAndReturnWhatWasThere() {
        SpteAccess.setPlain(table, 0b1110);

        long cleared = SpteAccess.fetchAnd(table, ~0b0110L);
        long exchanged = SpteAccess.exchange(table, -1);

        assertEquals(0b1110, cleared);
        assertEquals(0b1000, exchanged);
        assertEquals(-1, SpteAccess.readPlain(table));
    }

    @Test
    void addressOfACorruptEntryStaysInTheRange() {
        long[] beyond = {
            table + HostMemory.TABLES_END,
            table + HostMemory.SIZE,
            table | Long.MIN_VALUE,
            table + 7 * HostMemory.SIZE,
            table + 3
        };

        for (long address : beyond) {
            SpteAccess.setRelease(address, address);
            assertEquals(address, SpteAccess.readAcquire(table));
            assertTrue(SpteAccess.compareAndSet(address, address, 1));
            assertEquals(1, SpteAccess.exchange(address, 2));
            assertEquals(2, SpteAccess.fetchAnd(address, 0));
            SpteAccess.fillPlain(address & -4096, address);
            assertEquals(address, SpteAccess.readPlain(table + 4088));
        }
        assertEquals(SpteAccess.readPlain(HostMemory.SIZE - 8), SpteAccess.readPlain(-1));
        SpteAccess.readPlain(Long.MAX_VALUE);
        SpteAccess.readPlain(Long.MIN_VALUE);
    }

    @Test
    void pageOfACorruptAddressIsFilledInsideTheRange() {
        SpteAccess.fillPlain(table + HostMemory.SIZE + 24, 9);

        assertEquals(9, SpteAccess.readPlain(table));
        assertEquals(9, SpteAccess.readPlain(table + 4088));
        assertEquals(0, SpteAccess.readPlain(table + 4096));

        SpteAccess.fillRowPlain(table + HostMemory.SIZE + 24, 9, 3);

        assertEquals(9, SpteAccess.readPlain(table));
        assertEquals(9 + 511 * 8, SpteAccess.readPlain(table + 4088));
        assertEquals(0, SpteAccess.readPlain(table + 4096));
    }
}
