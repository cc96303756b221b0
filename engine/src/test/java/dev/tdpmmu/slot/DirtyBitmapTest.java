package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.MemoryCapExceededException;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The bitmap of a slot gives each marked page to one harvest, and nothing beyond the slot's end. */
class DirtyBitmapTest {
    private static final long CAP = 1 << 20;

    private final MemoryAccount account = new MemoryAccount(CAP);
    private final FrameAllocator frames = new FrameAllocator(account);
    private DirtyBitmap bitmap = DirtyBitmap.NONE;

    private DirtyPages bitmapOf(long pages) {
        bitmap.release();
        bitmap = new DirtyBitmap(frames, pages);
        return new DirtyPages(pages);
    }

    @AfterEach
    void memoryGoesBack() {
        bitmap.release();
        bitmap.release();
        assertEquals(0, account.usedInBytes());
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 63, 64, 65, 511, 512, 513, 32_768, 32_769, 100_001})
    void filledBitmapHoldsExactlyThePagesOfTheSlot(long pages) {
        DirtyPages found = bitmapOf(pages);

        bitmap.fill();

        assertEquals(pages, bitmap.count());
        assertEquals(pages, bitmap.copy(found));
        assertEquals(pages, bitmap.harvest(found));
        assertEquals(pages - 1, found.next(pages - 1));
        assertEquals((pages & 63) == 0 ? -1L : (1L << pages) - 1, found.word(found.words() - 1));
        assertEquals(0, bitmap.harvest(found));
        assertEquals((pages + 63) / 64, bitmap.words());
        assertEquals(pages, bitmap.pages());
    }

    @Test
    void harvestTakesAndCopyLeaves() {
        DirtyPages found = bitmapOf(200);
        bitmap.mark(0);
        bitmap.mark(199);
        bitmap.mark(199);

        assertEquals(2, bitmap.copy(found));
        assertEquals(2, bitmap.count());
        assertTrue(bitmap.isDirty(199));
        assertEquals(2, bitmap.harvest(found));

        assertTrue(found.isDirty(0));
        assertTrue(found.isDirty(199));
        assertEquals(0, bitmap.count());
        assertFalse(bitmap.isDirty(199));
        assertEquals(0, bitmap.harvest(found));
        assertEquals(0, found.count());
    }

    @Test
    void randomMarksComeBackOnce() {
        long seed = System.nanoTime();
        System.out.println("randomMarksComeBackOnce: seed=" + seed);
        var random = new SplittableRandom(seed);
        for (int round = 0; round < 100; round++) {
            int pages = random.nextInt(1, 20_000);
            DirtyPages found = bitmapOf(pages);
            var model = new DirtyPages(pages);

            for (int harvest = 0; harvest < 2; harvest++) {
                model.clear();
                for (int i = 0; i < 40; i++) {
                    int first = random.nextInt(pages);
                    int count = random.nextInt(Math.min(pages - first, 300) + 1);
                    bitmap.markRange(first, count);
                    for (int page = first; page < first + count; page++) {
                        model.add(page);
                    }
                    int page = random.nextInt(pages);
                    bitmap.mark(page);
                    model.add(page);
                }

                assertEquals(model.count(), bitmap.count());
                bitmap.copy(found);
                assertEquals(model, found);
                bitmap.harvest(found);
                assertEquals(model, found);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 63, 64, 65, 127, 128, 129})
    void rangeMarksItsPagesAndNoOther(int count) {
        for (int first : new int[] {0, 1, 63, 64}) {
            DirtyPages found = bitmapOf(first + count + 1L);

            bitmap.markRange(first, count);

            assertEquals(count, bitmap.harvest(found));
            assertEquals(count == 0 ? -1 : first, found.next(0));
            assertFalse(found.isDirty(first + count));
        }
    }

    @Test
    void clearWordTakesOnlyWhatIsAskedForAndDirty() {
        bitmapOf(130);
        bitmap.markRange(64, 4);

        assertEquals(0b1010, bitmap.clearWord(1, ~0b0101L));
        assertEquals(0, bitmap.clearWord(1, ~0b0101L));
        assertEquals(0, bitmap.clearWord(0, -1));

        assertEquals(2, bitmap.count());
        assertTrue(bitmap.isDirty(64));
        assertFalse(bitmap.isDirty(65));
    }

    @Test
    void largerSetCanBeReusedForSmallerSlot() {
        bitmapOf(65);
        bitmap.mark(64);
        var found = new DirtyPages(1000);
        found.add(999);

        bitmap.harvest(found);

        assertEquals(1, found.count());
        assertTrue(found.isDirty(64));
    }

    @Test
    void harvestIntoSmallerSetTakesNothing() {
        bitmapOf(65);
        bitmap.mark(1);
        var small = new DirtyPages(64);

        assertRefused(IllegalArgumentException.class, "pages=64, min=65", () -> bitmap.harvest(small));

        assertEquals(1, bitmap.count());
    }

    @Test
    void noneIgnoresEverything() {
        DirtyBitmap none = DirtyBitmap.NONE;
        var found = new DirtyPages(10);
        found.add(1);

        none.mark(5);
        none.markRange(0, 1 << 20);
        none.fill();

        assertEquals(0, none.pages());
        assertEquals(0, none.words());
        assertEquals(0, none.count());
        assertFalse(none.isDirty(5));
        assertEquals(0, none.harvest(found));
        assertEquals(0, found.count());
        assertEquals(0, none.copy(found));
        none.release();
        none.mark(5);
    }

    @Test
    void pagesOutsideTheSlotAreRefused() {
        bitmapOf(100);

        assertRefused(IndexOutOfBoundsException.class, "page=100, limit=100", () -> bitmap.mark(100));
        assertRefused(IndexOutOfBoundsException.class, "page=-1, limit=100", () -> bitmap.mark(-1));
        assertRefused(IndexOutOfBoundsException.class, "page=100, limit=100", () -> bitmap.isDirty(100));
        assertRefused(IndexOutOfBoundsException.class, "count=2, limit=100", () -> bitmap.markRange(99, 2));
        assertRefused(IndexOutOfBoundsException.class, "count=-1", () -> bitmap.markRange(9, -1));
        assertRefused(
                IndexOutOfBoundsException.class, "firstPage=", () -> bitmap.markRange(Long.MAX_VALUE, Long.MAX_VALUE));
        assertRefused(IndexOutOfBoundsException.class, "wordIndex=2, limit=2", () -> bitmap.clearWord(2, 1));
        assertRefused(IndexOutOfBoundsException.class, "wordIndex=-1", () -> bitmap.clearWord(-1, 1));
        assertRefused(IllegalArgumentException.class, "pages=0", () -> new DirtyBitmap(frames, 0));
        assertRefused(IllegalArgumentException.class, "pages=2147483648", () -> new DirtyBitmap(frames, 1L << 31));
        assertEquals(0, bitmap.count());
    }

    @Test
    void memoryIsChargedInFramesAndComesBackZero() {
        DirtyPages found = bitmapOf(4096L * 8 + 1);
        assertEquals(2 * 4096, account.usedInBytes());
        bitmap.fill();

        bitmapOf(4096L * 8);

        assertEquals(4096, account.usedInBytes());
        assertEquals(0, bitmap.count());
        assertEquals(0, bitmap.harvest(found));
    }

    @Test
    void capExceededLeavesNothing() {
        long pages = CAP * Byte.SIZE;

        assertThrows(MemoryCapExceededException.class, () -> new DirtyBitmap(frames, pages + 1));
        assertEquals(0, account.usedInBytes());

        bitmapOf(pages);
        assertEquals(CAP, account.usedInBytes());
    }

    @Test
    void useAfterReleaseIsCaught() {
        Assumptions.assumeTrue(Debug.CHECK);
        DirtyPages found = bitmapOf(100);

        bitmap.release();

        assertRefused(IllegalStateException.class, "released", () -> bitmap.mark(1));
        assertRefused(IllegalStateException.class, "released", () -> bitmap.harvest(found));
        assertRefused(IllegalStateException.class, "released", () -> bitmap.fill());
    }

    private static void assertRefused(Class<? extends Exception> type, String text, Executable call) {
        String message = assertThrows(type, call).getMessage();
        assertTrue(message.contains(text), message);
    }
}
