package dev.tdpmmu.slot;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.FrameWords;

/**
 * The dirty log of one slot: one off-heap bit for each 4 KiB page, marked by any number of threads, harvested by one.
 *
 * <p>Marking needs no lock. {@link #harvest} and {@link #clearWord} only take bits; whoever calls them arms the pages
 * again afterwards, flushes, and then lets the user copy. Callers of those two exclude each other (slots lock).
 */
public final class DirtyBitmap {
    /** The log of a slot that logs nothing: has no page, ignores marks, holds no memory. */
    public static final DirtyBitmap NONE = new DirtyBitmap();

    private static final int WORD_SHIFT = 6;
    private static final int BYTE_SHIFT = 3;
    private static final long PAGE_MASK = 4095;
    private static final long ALL = -1L;

    private final long pages;
    private final int words;
    private final long hpa;

    /** Absent in {@link #NONE}. Immutable. */
    private final FrameRun run;

    /** Written once by {@link #release}; read at debug level check to catch whoever still marks. */
    private volatile boolean released;

    /*
     * No dirty page is lost, and no page stays writable without a bit:
     *
     *  fault                                   | harvest
     *  1 makes the entry writable (CAS)        | 3 exchanges the word with 0, reports its pages
     *  2 marks the page                        | 4 arms the pages of the word (CAS), flushes
     *  lets the guest store                    | 5 lets the user copy
     *
     * If 2 is before 3, so is 1, and 4 finds the entry writable and arms it: what the guest stored before 4 is copied
     * by 5, and the next store faults again. If 3 is before 2, the bit waits for the next harvest, whatever 4 does.
     * Were 2 before 1, a harvest between them would report a page that it finds armed, and the store would follow
     * unseen; were 4 before 3, a fault between them would lose its bit to 3 and keep a writable entry.
     *
     * The bits beyond the last page, and the words that fill the last block, are 0 at all times.
     */

    private DirtyBitmap() {
        this.pages = 0;
        this.words = 0;
        this.hpa = 0;
        this.run = null;
    }

    /**
     * Takes memory for the log of a slot. No page is dirty.
     *
     * @param frames allocator of the VM, charged with one bit a page, in whole frames
     * @param pages 4 KiB pages of the slot, 1 to {@link DirtyPages#MAX_PAGES}
     * @throws IllegalArgumentException if the count is out of range
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the memory cannot be had; nothing is taken then
     */
    public DirtyBitmap(FrameAllocator frames, long pages) {
        if (pages < 1 || pages > DirtyPages.MAX_PAGES) {
            throw new IllegalArgumentException(
                    "number of pages is out of range: pages=" + pages + ", min=1, max=" + DirtyPages.MAX_PAGES);
        }
        this.pages = pages;
        this.words = DirtyPages.wordsFor(pages);
        this.run = frames.allocate(1, (((long) words << BYTE_SHIFT) + PAGE_MASK) & ~PAGE_MASK);
        this.hpa = run.hpa();
    }

    /**
     * Returns how many pages are logged.
     *
     * @return pages of the slot; 0 for {@link #NONE}
     */
    public long pages() {
        return pages;
    }

    /**
     * Returns how many words hold all pages.
     *
     * @return words of 64 pages, the last one perhaps in part
     */
    public int words() {
        return words;
    }

    /**
     * Marks a page dirty.
     *
     * @param page page number in the slot; {@link #NONE} takes any
     * @throws IndexOutOfBoundsException if the slot has no such page
     * @locking none; the entry that lets the guest store was made writable before
     * @ordering volatile; pairs with the exchange in {@link #harvest}
     * @kvm mark_page_dirty_in_slot
     */
    @HotPath
    public void mark(long page) {
        if (page < 0 || page >= pages) {
            markOutside(page);
            return;
        }
        markWord((int) (page >>> WORD_SHIFT), 1L << page);
    }

    /**
     * Marks neighbouring pages dirty.
     *
     * @param firstPage number of the first page in the slot; {@link #NONE} takes any
     * @param count how many, not negative
     * @throws IndexOutOfBoundsException if the slot does not have all of them; nothing is marked then
     * @ordering as {@link #mark}
     */
    public void markRange(long firstPage, long count) {
        if (firstPage < 0 || count < 0 || count > pages - firstPage) {
            markRangeOutside(firstPage, count);
            return;
        }
        long end = firstPage + count;
        for (long page = firstPage; page < end; ) {
            long wordEnd = Math.min((page | Long.SIZE - 1) + 1, end);
            markWord((int) (page >>> WORD_SHIFT), ALL >>> (Long.SIZE - (wordEnd - page)) << page);
            page = wordEnd;
        }
    }

    @HotPath
    private void markWord(int index, long bits) {
        if (Debug.CHECK) {
            checkLive();
        }
        long address = wordAddress(index);
        // Most marks find their bit set, and the line then stays shared between the vCPUs that read it. Skipping the
        // update loses nothing: a harvest whose exchange follows this read takes the bit for us and arms the page
        // after that. The read is volatile so that it lies in the one order of the entry's change before and the
        // exchange after; an earlier read could see a bit of before a harvest that has armed its pages already.
        if ((FrameWords.readVolatile(address) & bits) != bits) {
            FrameWords.getAndBitwiseOr(address, bits);
        }
    }

    /**
     * Marks every page dirty.
     *
     * @locking slots lock, before the slot is published
     * @kvm KVM_DIRTY_LOG_INITIALLY_SET
     */
    public void fill() {
        checkLive();
        for (int index = 0; index < words; index++) {
            // Not atomic: a mark that falls between would only set a bit that is being set.
            FrameWords.setOpaque(wordAddress(index), validBits(index));
        }
    }

    /**
     * Takes all dirty pages out of the log.
     *
     * @param into receives the pages; emptied before
     * @return how many pages were dirty
     * @throws IllegalArgumentException if the set is too small for the slot; nothing is taken then
     * @locking slots lock; the pages are armed again after the return, under the MMU lock
     * @ordering volatile exchange of each word that is not 0; pairs with {@link #mark}
     * @kvm kvm_get_dirty_log_protect
     */
    public long harvest(DirtyPages into) {
        prepare(into);
        for (int block = 0; block < words; block += FrameWords.BLOCK_WORDS) {
            // A mark that lands behind this plain read stays for the next harvest, as one behind the exchange does.
            if (FrameWords.orPlain(wordAddress(block)) != 0) {
                harvestBlock(block, into);
            }
        }
        return into.count();
    }

    private void harvestBlock(int block, DirtyPages into) {
        int end = Math.min(block + FrameWords.BLOCK_WORDS, words);
        for (int index = block; index < end; index++) {
            long address = wordAddress(index);
            if (FrameWords.readPlain(address) != 0) {
                into.addToWord(index, FrameWords.exchange(address, 0));
            }
        }
    }

    /**
     * Reads all dirty pages and leaves them in the log.
     *
     * @param into receives the pages; emptied before
     * @return how many pages are dirty
     * @throws IllegalArgumentException if the set is too small for the slot
     * @locking slots lock
     * @ordering plain: a page marked meanwhile may be missing, and is found by the next call
     */
    public long copy(DirtyPages into) {
        prepare(into);
        for (int block = 0; block < words; block += FrameWords.BLOCK_WORDS) {
            if (FrameWords.orPlain(wordAddress(block)) != 0) {
                copyBlock(block, into);
            }
        }
        return into.count();
    }

    private void copyBlock(int block, DirtyPages into) {
        int end = Math.min(block + FrameWords.BLOCK_WORDS, words);
        for (int index = block; index < end; index++) {
            into.addToWord(index, FrameWords.readPlain(wordAddress(index)));
        }
    }

    /**
     * Takes some of 64 pages out of the log.
     *
     * @param wordIndex 0 to {@link #words} - 1: the pages 64 * {@code wordIndex} and up
     * @param mask the pages to take
     * @return those of them that were dirty: the pages to arm again
     * @throws IndexOutOfBoundsException if there is no such word
     * @locking slots lock; the pages are armed again after the return, under the MMU lock
     * @ordering volatile; pairs with {@link #mark}
     * @kvm kvm_clear_dirty_log_protect
     */
    public long clearWord(int wordIndex, long mask) {
        checkLive();
        if (wordIndex < 0 || wordIndex >= words) {
            throw new IndexOutOfBoundsException("no such word: wordIndex=" + wordIndex + ", limit=" + words);
        }
        long address = wordAddress(wordIndex);
        if ((FrameWords.readPlain(address) & mask) == 0) {
            return 0;
        }
        return FrameWords.getAndBitwiseAnd(address, ~mask) & mask;
    }

    /**
     * Tells whether a page is dirty now.
     *
     * @param page page number in the slot; {@link #NONE} takes any
     * @return whether its bit is set
     * @throws IndexOutOfBoundsException if the slot has no such page
     * @ordering acquire
     */
    public boolean isDirty(long page) {
        if (page < 0 || page >= pages) {
            markOutside(page);
            return false;
        }
        checkLive();
        return (FrameWords.readAcquire(wordAddress((int) (page >>> WORD_SHIFT))) & 1L << page) != 0;
    }

    /**
     * Counts the dirty pages.
     *
     * @return pages; a snapshot of no one moment while others mark
     */
    public long count() {
        checkLive();
        long count = 0;
        for (int index = 0; index < words; index++) {
            count += Long.bitCount(FrameWords.readPlain(wordAddress(index)));
        }
        return count;
    }

    /**
     * Gives the memory back; a second call does nothing.
     *
     * @locking slots lock; no thread can reach the slot any more, after a grace period
     */
    public void release() {
        if (run != null) {
            released = true;
            run.close();
        }
    }

    private long wordAddress(int index) {
        return hpa + ((long) index << BYTE_SHIFT);
    }

    private long validBits(int index) {
        return index == words - 1 ? ALL >>> (-pages & Long.SIZE - 1) : ALL;
    }

    private void prepare(DirtyPages into) {
        checkLive();
        if (into.pages() < pages) {
            throw new IllegalArgumentException(
                    "set is too small for the slot: pages=" + into.pages() + ", min=" + pages);
        }
        into.clear();
    }

    private void checkLive() {
        if (released) {
            throw new IllegalStateException(
                    "dirty bitmap is released: hpa=0x" + Long.toHexString(hpa) + ", pages=" + pages);
        }
    }

    private void markOutside(long page) {
        if (run != null) {
            throw new IndexOutOfBoundsException("slot has no such page: page=" + page + ", limit=" + pages);
        }
    }

    private void markRangeOutside(long firstPage, long count) {
        if (run != null) {
            throw new IndexOutOfBoundsException("slot has not all of these pages: firstPage=" + firstPage + ", count="
                    + count + ", limit=" + pages);
        }
    }
}
