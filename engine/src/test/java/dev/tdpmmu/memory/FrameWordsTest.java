package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Words in frames: every mode reaches the same word, and none leaves the reserved range. */
class FrameWordsTest {
    private final MemoryAccount account = new MemoryAccount(1 << 20);
    private final FrameRun run = new FrameAllocator(account).allocate(1, 4096);
    private final long hpa = run.hpa();

    @AfterEach
    void giveFramesBack() {
        run.close();
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void everyModeReachesTheSameWord() {
        FrameWords.setPlain(hpa, 1);
        assertEquals(1, FrameWords.readPlain(hpa));
        FrameWords.setOpaque(hpa, 2);
        assertEquals(2, FrameWords.readAcquire(hpa));
        FrameWords.setRelease(hpa, -3);
        assertEquals(-3, FrameWords.readVolatile(hpa));

        assertEquals(-3, GuestBytes.getLong(hpa));
        assertEquals(0, FrameWords.readPlain(hpa + Long.BYTES));
    }

    @Test
    void updatesReturnTheWordBefore() {
        assertEquals(0, FrameWords.getAndBitwiseOr(hpa, 0b1100));
        assertEquals(0b1100, FrameWords.getAndBitwiseOr(hpa, 0b0110));
        assertEquals(0b1110, FrameWords.getAndBitwiseAnd(hpa, 0b1010));
        assertEquals(0b1010, FrameWords.exchange(hpa, Long.MIN_VALUE));

        assertEquals(Long.MIN_VALUE, FrameWords.readPlain(hpa));
    }

    @Test
    void blockTellsTheBitsOfEachOfItsWordsAndOfNoOther() {
        long block = hpa + FrameWords.BLOCK_BYTES;
        FrameWords.setPlain(block - Long.BYTES, -1);
        FrameWords.setPlain(block + FrameWords.BLOCK_BYTES, -1);

        for (int word = 0; word < FrameWords.BLOCK_WORDS; word++) {
            FrameWords.setPlain(block + (long) word * Long.BYTES, 1L << word);
        }

        assertEquals((1L << FrameWords.BLOCK_WORDS) - 1, FrameWords.orPlain(block));
    }

    @Test
    void addressBeyondTheRangeFoldsIntoIt() {
        FrameWords.setRelease(hpa + HostMemory.SIZE, 7);

        assertEquals(7, FrameWords.readPlain(hpa));
        assertEquals(7, FrameWords.orPlain(hpa - HostMemory.SIZE));
    }
}
