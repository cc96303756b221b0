package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.BitSet;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A set of dirty pages holds what a plain bit set holds. */
class DirtyPagesTest {
    private static final long LARGE = 3 * 64 * 64 * 64 + 1;

    @Test
    void setIsEmptyAtFirst() {
        var set = new DirtyPages(LARGE);

        assertEquals(0, set.count());
        assertEquals(LARGE, set.pages());
        assertEquals(-1, set.next(0));
        assertEquals(-1, set.next(LARGE));
        assertEquals("DirtyPages[count=0, of=786433, pages=]", set.toString());
    }

    @Test
    void setOfNoPagesHoldsNone() {
        var set = new DirtyPages(0);

        assertEquals(0, set.words());
        assertEquals(-1, set.next(0));
        set.clear();
        assertEquals(set, set.copy());
        assertThrows(IndexOutOfBoundsException.class, () -> set.add(0));
    }

    @Test
    void pageIsCountedOnce() {
        var set = new DirtyPages(1);

        set.add(0);
        set.add(0);

        assertEquals(1, set.count());
        assertTrue(set.isDirty(0));
        assertEquals(1, set.word(0));
        assertEquals(1, set.words());
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 262_145, LARGE})
    void firstAndLastPageAreFoundAcrossTheGap(long pages) {
        var set = new DirtyPages(pages);

        set.add(0);
        set.add(pages - 1);

        assertEquals(0, set.next(0));
        assertEquals(pages == 1 ? -1 : pages - 1, set.next(1));
        assertEquals(pages - 1, set.next(pages - 1));
        assertEquals(-1, set.next(pages));
        assertEquals(Math.min(2, pages), set.count());
        assertEquals((pages + 63) / 64, set.words());
    }

    @Test
    void randomSetsAgreeWithBitSet() {
        long seed = System.nanoTime();
        System.out.println("randomSetsAgreeWithBitSet: seed=" + seed);
        var random = new SplittableRandom(seed);
        for (int round = 0; round < 200; round++) {
            int pages = random.nextInt(1, round % 10 == 0 ? 600_000 : 9_000);
            var set = new DirtyPages(pages);
            var model = new BitSet();

            // The second life of a set shows what clear() forgot.
            for (int life = 0; life < 2; life++) {
                set.clear();
                model.clear();
                int adds = random.nextInt(random.nextBoolean() ? 5 : 500);
                for (int i = 0; i < adds; i++) {
                    int page = random.nextInt(pages);
                    set.add(page);
                    model.set(page);
                }

                assertSame(model, set);
                int from = random.nextInt(pages);
                assertEquals(model.nextSetBit(from), set.next(from));
            }
        }
    }

    private static void assertSame(BitSet model, DirtyPages set) {
        assertEquals(model.cardinality(), set.count());
        int expected = model.nextSetBit(0);
        for (long page = set.next(0); page >= 0; page = set.next(page + 1)) {
            assertEquals(expected, page);
            expected = model.nextSetBit(expected + 1);
        }
        assertEquals(-1, expected);
        long[] words = model.toLongArray();
        for (int index = 0; index < set.words(); index++) {
            assertEquals(index < words.length ? words[index] : 0, set.word(index));
        }
    }

    @Test
    void addAllJoinsAndCountsCommonPagesOnce() {
        var small = new DirtyPages(70);
        small.add(3);
        small.add(69);
        var large = new DirtyPages(LARGE);
        large.add(69);
        large.add(LARGE - 1);

        large.addAll(small);

        assertEquals(3, large.count());
        assertEquals(3, large.next(0));
        assertEquals("DirtyPages[count=3, of=786433, pages=3 69 786432]", large.toString());
        assertRefused(IllegalArgumentException.class, "pages=786433, max=70", () -> small.addAll(large));
    }

    @Test
    void copySharesNothing() {
        var set = new DirtyPages(128);
        set.add(64);

        DirtyPages copy = set.copy();
        set.clear();

        assertEquals(1, copy.count());
        assertTrue(copy.isDirty(64));
        assertFalse(set.isDirty(64));
    }

    @Test
    void equalityIsThatOfPagesAndLength() {
        var one = new DirtyPages(5000);
        var two = new DirtyPages(5000);
        one.add(4999);
        two.add(4999);
        two.add(1);
        assertNotEquals(one, two);
        one.add(1);

        assertEquals(one, two);
        assertEquals(one.hashCode(), two.hashCode());
        assertNotEquals(one, new DirtyPages(5001));
        assertNotEquals(new DirtyPages(5000), new DirtyPages(5001));
        assertFalse(one.equals(null));
    }

    @Test
    void textStopsAfterSomePages() {
        var set = new DirtyPages(100);
        for (int page = 0; page < 100; page++) {
            set.add(page);
        }

        assertEquals("DirtyPages[count=100, of=100, pages=0 1 2 3 4 5 6 7 ...]", set.toString());
    }

    @Test
    void whatTheSlotHasNotIsRefused() {
        var set = new DirtyPages(65);

        assertRefused(IndexOutOfBoundsException.class, "page=65, limit=65", () -> set.add(65));
        assertRefused(IndexOutOfBoundsException.class, "page=-1, limit=65", () -> set.isDirty(-1));
        assertRefused(IndexOutOfBoundsException.class, "page=66, limit=65", () -> set.next(66));
        assertRefused(IndexOutOfBoundsException.class, "page=-1, limit=65", () -> set.next(-1));
        assertRefused(IndexOutOfBoundsException.class, "index=2, limit=2", () -> set.word(2));
        assertRefused(IllegalArgumentException.class, "pages=-1", () -> new DirtyPages(-1));
        assertRefused(IllegalArgumentException.class, "pages=2147483648", () -> new DirtyPages(1L << 31));
    }

    private static void assertRefused(Class<? extends Exception> type, String text, Executable call) {
        String message = assertThrows(type, call).getMessage();
        assertTrue(message.contains(text), message);
    }
}
