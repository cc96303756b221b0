package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class HostWordsTest {
    private final long word = WordBlocks.take(128);

    @AfterEach
    void giveBlock() {
        WordBlocks.give(word, 128);
    }

    @Test
    void everyModeReadsWhatEveryModeWrote() {
        HostWords.setOpaque(word, 1);
        assertEquals(1, HostWords.readAcquire(word));
        HostWords.setRelease(word, 2);
        assertEquals(2, HostWords.readVolatile(word));
        HostWords.setVolatile(word, 3);
        assertEquals(3, HostWords.readOpaque(word));
        HostWords.addOpaque(word, -5);
        assertEquals(-2, HostWords.readOpaque(word));
        assertEquals(-2, HostWords.getAndAdd(word, 10));
        assertFalse(HostWords.compareAndSet(word, -2, 0));
        assertTrue(HostWords.compareAndSet(word, 8, 0));
        assertEquals(0, HostWords.readOpaque(word + 8));
    }

    @Test
    void addressBeyondTheRangeStaysInIt() {
        HostWords.setVolatile(word + HostMemory.SIZE, 6);

        assertEquals(6, HostWords.readVolatile(word | Long.MIN_VALUE));
        assertEquals(6, HostWords.readVolatile(word));
    }

    @Test
    void additionsOfTwoThreadsLoseNothing() throws InterruptedException {
        int rounds = 50_000;
        Thread other = Thread.ofPlatform().start(() -> {
            for (int i = 0; i < rounds; i++) {
                HostWords.getAndAdd(word, 1);
            }
        });
        for (int i = 0; i < rounds; i++) {
            HostWords.getAndAdd(word, 1);
        }
        other.join();

        assertEquals(2 * rounds, HostWords.readVolatile(word));
    }
}
