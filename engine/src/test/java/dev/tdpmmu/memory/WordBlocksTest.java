package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

final class WordBlocksTest {
    @Test
    void blocksAreZeroAlignedAndApart() {
        TreeSet<Long> blocks = new TreeSet<>();

        for (int i = 0; i < 600; i++) {
            long block = WordBlocks.take(256);
            assertEquals(0, block % 128);
            assertTrue(block > 0 && block + 256 <= HostMemory.HEADERS_BASE);
            for (int word = 0; word < 256; word += 8) {
                assertEquals(0, HostWords.readOpaque(block + word));
                HostWords.setOpaque(block + word, -1);
            }
            blocks.add(block);
        }

        assertEquals(600, blocks.size());
        long before = Long.MIN_VALUE;
        for (long block : blocks) {
            assertTrue(block - before >= 256 || before == Long.MIN_VALUE);
            before = block;
            WordBlocks.give(block, 256);
        }
    }

    @Test
    void blockThatWasGivenIsZeroForTheNextUser() {
        long block = WordBlocks.take(1 << 13);
        HostWords.setOpaque(block, 1);
        HostWords.setOpaque(block + (1 << 13) - 8, 1);
        WordBlocks.give(block, 1 << 13);

        List<Long> taken = new ArrayList<>();
        long again;
        do {
            // Blocks come back in the order in which they were given.
            again = WordBlocks.take(1 << 13);
            taken.add(again);
        } while (again != block && taken.size() < 64);

        assertEquals(block, again);
        assertEquals(0, HostWords.readOpaque(again));
        assertEquals(0, HostWords.readOpaque(again + (1 << 13) - 8));
        taken.forEach(each -> WordBlocks.give(each, 1 << 13));
    }

    @Test
    void memoryStaysWithBlocksOfItsSize() {
        long large = WordBlocks.take(1 << 13);
        WordBlocks.give(large, 1 << 13);
        long[] small = new long[2_000];

        for (int i = 0; i < small.length; i++) {
            small[i] = WordBlocks.take(128);
        }

        for (long block : small) {
            assertTrue(block + 128 <= large || block >= large + (1 << 13));
            WordBlocks.give(block, 128);
        }
    }

    @Test
    void sizeThatDoesNotFitTheChunkIsRefused() {
        for (int bytes : new int[] {Integer.MIN_VALUE, -128, 0, 8, 64, 127, 192, 384, 1 << 14, Integer.MAX_VALUE}) {
            IllegalArgumentException refusal =
                    assertThrows(IllegalArgumentException.class, () -> WordBlocks.take(bytes));
            assertTrue(
                    refusal.getMessage().startsWith("no such block size: bytes=" + bytes + ","), refusal::getMessage);
        }
    }
}
