package dev.tdpmmu.slot;

import java.util.Arrays;

/**
 * A set of pages of one slot, by their number relative to the slot's first page: what a harvest found, or what a user
 * asks to clear.
 *
 * <p>Lives on the heap and is made to be reused: {@link #clear} and a harvest that finds nothing cost no more than a
 * look at a summary of one bit for 4096 pages. Belongs to one thread.
 */
public final class DirtyPages {
    /** Most pages that a set can hold: those of the largest slot. */
    public static final long MAX_PAGES = Integer.MAX_VALUE;

    private static final int WORD_SHIFT = 6;
    private static final int CHUNK_SHIFT = 6;
    private static final int CHUNK_WORDS = 1 << CHUNK_SHIFT;

    private final long pages;
    private final long[] words;

    /** One bit a chunk of words; clear where all words of the chunk are 0. */
    private final long[] chunks;

    private long count;

    /**
     * Makes an empty set.
     *
     * @param pages how many pages the slot has, 0 to {@link #MAX_PAGES}
     * @throws IllegalArgumentException if the count is out of range
     */
    public DirtyPages(long pages) {
        if (pages < 0 || pages > MAX_PAGES) {
            throw new IllegalArgumentException(
                    "number of pages is out of range: pages=" + pages + ", min=0, max=" + MAX_PAGES);
        }
        this.pages = pages;
        this.words = new long[wordsFor(pages)];
        this.chunks = new long[(words.length + (CHUNK_WORDS << WORD_SHIFT) - 1) >>> (CHUNK_SHIFT + WORD_SHIFT)];
    }

    /** Words of one bit a page. */
    static int wordsFor(long pages) {
        return (int) ((pages + Long.SIZE - 1) >>> WORD_SHIFT);
    }

    /**
     * Returns how many pages the slot has.
     *
     * @return pages, the first number that cannot be in the set
     */
    public long pages() {
        return pages;
    }

    /**
     * Returns how many pages are in the set.
     *
     * @return pages
     */
    public long count() {
        return count;
    }

    /**
     * Tells whether a page is in the set.
     *
     * @param page page number in the slot
     * @return whether it is
     * @throws IndexOutOfBoundsException if the slot has no such page
     */
    public boolean isDirty(long page) {
        checkPage(page);
        return (words[(int) (page >>> WORD_SHIFT)] & 1L << page) != 0;
    }

    /**
     * Adds a page; does nothing if it is in the set.
     *
     * @param page page number in the slot
     * @throws IndexOutOfBoundsException if the slot has no such page
     */
    public void add(long page) {
        checkPage(page);
        addToWord((int) (page >>> WORD_SHIFT), 1L << page);
    }

    /**
     * Adds all pages of another set.
     *
     * @param other a set of a slot of at most as many pages
     * @throws IllegalArgumentException if the other slot is larger
     */
    public void addAll(DirtyPages other) {
        if (other.pages > pages) {
            throw new IllegalArgumentException("other set is larger: pages=" + other.pages + ", max=" + pages);
        }
        for (int index = other.nextWord(0); index >= 0; index = other.nextWord(index + 1)) {
            addToWord(index, other.words[index]);
        }
    }

    /** Adds the pages of a word; the caller has checked that the slot has them. */
    void addToWord(int index, long bits) {
        if (bits == 0) {
            return;
        }
        long old = words[index];
        words[index] = old | bits;
        count += Long.bitCount(bits & ~old);
        int chunk = index >>> CHUNK_SHIFT;
        chunks[chunk >>> WORD_SHIFT] |= 1L << chunk;
    }

    /**
     * Finds the next page of the set.
     *
     * @param fromPage page number to start at, 0 to {@link #pages}
     * @return the first page of the set that is not below, or -1
     * @throws IndexOutOfBoundsException if the start is out of range
     */
    public long next(long fromPage) {
        if (fromPage == pages) {
            return -1;
        }
        checkPage(fromPage);
        int index = (int) (fromPage >>> WORD_SHIFT);
        long rest = words[index] & -1L << fromPage;
        if (rest == 0) {
            index = nextWord(index + 1);
            if (index < 0) {
                return -1;
            }
            rest = words[index];
        }
        return ((long) index << WORD_SHIFT) + Long.numberOfTrailingZeros(rest);
    }

    /** First word at or behind an index that is not 0, or -1. */
    private int nextWord(int fromIndex) {
        int index = fromIndex;
        while (index < words.length) {
            int chunk = index >>> CHUNK_SHIFT;
            long rest = chunks[chunk >>> WORD_SHIFT] & -1L << chunk;
            if (rest == 0) {
                // No written chunk below the next word of the summary. Its first word may lie behind the end.
                index = ((chunk >>> WORD_SHIFT) + 1) << (CHUNK_SHIFT + WORD_SHIFT);
                continue;
            }
            int written = (chunk & -Long.SIZE) + Long.numberOfTrailingZeros(rest);
            if (written != chunk) {
                index = written << CHUNK_SHIFT;
            }
            int end = Math.min((written + 1) << CHUNK_SHIFT, words.length);
            for (; index < end; index++) {
                if (words[index] != 0) {
                    return index;
                }
            }
        }
        return -1;
    }

    /** Empties the set. Touches only the parts that are not empty. */
    public void clear() {
        if (count == 0) {
            return;
        }
        for (int i = 0; i < chunks.length; i++) {
            for (long rest = chunks[i]; rest != 0; rest &= rest - 1) {
                int chunk = (i << WORD_SHIFT) + Long.numberOfTrailingZeros(rest);
                int start = chunk << CHUNK_SHIFT;
                Arrays.fill(words, start, Math.min(start + CHUNK_WORDS, words.length), 0);
            }
            chunks[i] = 0;
        }
        count = 0;
    }

    /**
     * Returns 64 pages at once.
     *
     * @param index 0 to {@link #words} - 1
     * @return a bit for each of the pages 64 * {@code index} and up; bits beyond the last page are 0
     * @throws IndexOutOfBoundsException if there is no such word
     */
    public long word(int index) {
        if (index < 0 || index >= words.length) {
            throw new IndexOutOfBoundsException("no such word: index=" + index + ", limit=" + words.length);
        }
        return words[index];
    }

    /**
     * Returns how many words hold all pages.
     *
     * @return words of 64 pages, the last one perhaps in part
     */
    public int words() {
        return words.length;
    }

    /**
     * Makes a set with the same pages.
     *
     * @return a set that shares nothing with this one
     */
    public DirtyPages copy() {
        var copy = new DirtyPages(pages);
        copy.addAll(this);
        return copy;
    }

    private void checkPage(long page) {
        if (page < 0 || page >= pages) {
            throw new IndexOutOfBoundsException("slot has no such page: page=" + page + ", limit=" + pages);
        }
    }

    /**
     * Compares by value.
     *
     * @param other anything
     * @return whether it is a set of the same pages for a slot of the same length
     */
    @Override
    public boolean equals(Object other) {
        return other instanceof DirtyPages that
                && pages == that.pages
                && count == that.count
                && Arrays.equals(words, that.words);
    }

    /**
     * Returns a hash of the pages; it changes with the set.
     *
     * @return the hash
     */
    @Override
    public int hashCode() {
        int hash = Long.hashCode(pages);
        for (int index = nextWord(0); index >= 0; index = nextWord(index + 1)) {
            hash = 31 * (31 * hash + index) + Long.hashCode(words[index]);
        }
        return hash;
    }

    /**
     * Returns the figures and the first pages, for messages.
     *
     * @return text
     */
    @Override
    public String toString() {
        int shown = 8;
        var text = new StringBuilder("DirtyPages[count=" + count + ", of=" + pages + ", pages=");
        long page = pages == 0 ? -1 : next(0);
        for (int i = 0; page >= 0 && i < shown; i++) {
            text.append(i == 0 ? "" : " ").append(page);
            page = next(page + 1);
        }
        return text.append(page >= 0 ? " ...]" : "]").toString();
    }
}
