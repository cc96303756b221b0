package dev.tdpmmu.slot;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Pages behind guest memory as the process of an operating system has them: absent until touched, and later taken away,
 * moved, shared or write-protected by the host while guests run.
 *
 * <p>Every change of a page that may be mapped is announced, in this order:
 *
 * <ol>
 *   <li>{@link HostPagesListener#invalidateStart} on every listener: it unmaps the pages and lets no fault map them;
 *   <li>the words of the pages change; a page whose content moves is absent meanwhile;
 *   <li>{@link HostPagesListener#awaitReaders} on every listener, where content moves or goes, or stores become
 *       forbidden: devices that took a frame from an old word have ended;
 *   <li>content is compared, copied or dropped: no guest and no device can write it now;
 *   <li>the words say what is true from now on;
 *   <li>{@link HostPagesListener#invalidateEnd} on every listener: faults map again.
 * </ol>
 *
 * <p>A page that comes is not announced: nothing was mapped. Operations on the same pages go one after the other, and
 * at most one announcement is open at a time.
 *
 * <p>Safe for use by many threads. Operations and {@link #faultIn} are called with no lock of a VM and outside every
 * section. The pages live until they are closed and no slot has them.
 *
 * @kvm the mm of the process that owns the VM, with mmu_notifier
 */
public final class HostPages implements AutoCloseable {
    private final long pages;
    private final HostFrames frames;
    private final RankedLock lock = new RankedLock(LockRank.HOST);

    @GuardedBy("lock")
    private final HostListeners listeners = new HostListeners(this);

    /** The caller until it closes, each slot, each operation and fault under way. At 0 everything is free. */
    private final AtomicInteger holders = new AtomicInteger(1);

    private final AtomicInteger closed = new AtomicInteger();

    /*
     * Design note.
     *
     * Why the words change after start and not before: a verifier of the page tables that stops the faults must find
     * either no leaf, or a leaf of the frame that the word names.
     *
     * Why a page is absent while its content moves: a device has no mapping that start could remove. With the old word
     * still there, this could happen after the wait:
     *
     *   device                                | migration
     *                                         | start, waits for devices
     *   reads the word: the old frame         |
     *                                         | copies, writes the new word, frees the old frame
     *   stores into a frame of somebody else  |
     *
     * With the page absent before the wait, a device reads either the old word, and is waited for, or no frame, and
     * comes to faultIn, which waits for the lock.
     *
     * A discard that must not block gives home frames back without the wait. A device's store that comes later is a
     * store that came after the discard: it hits the frame that the page has next. Other frames wait in a list.
     */
    private HostPages(long bytes) {
        this.pages = bytes / HostMemory.PAGE_SIZE;
        this.frames = new HostFrames(bytes);
    }

    /**
     * Allocates pages, all absent: they cost addresses, and one word each, until they are touched.
     *
     * @param bytes length, a positive multiple of 4096
     * @return the pages, held by the caller, who closes them
     * @throws IllegalArgumentException if the length is no such number
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the reserved range has too little left
     */
    public static HostPages allocate(long bytes) {
        if (bytes <= 0 || bytes % HostMemory.PAGE_SIZE != 0) {
            throw new IllegalArgumentException("length is no positive multiple of the page size: bytes=" + bytes
                    + ", pageBytes=" + HostMemory.PAGE_SIZE);
        }
        return new HostPages(bytes);
    }

    /**
     * Returns what the host says of a page.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @return word as told by {@link HostPageWord}; its frame may be used inside the epoch in which the slot was found
     *     and the word was read
     * @locking none, inside an epoch; a fault takes its invalidation snapshot before
     * @ordering acquire; pairs with the exchanges that write words
     */
    @HotPath
    @RequiresEpoch
    public long word(long page) {
        if (Debug.CHECK && (page < 0 || page >= pages)) {
            throw outside(page, 1);
        }
        return frames.word(page);
    }

    /**
     * Makes a page ready for an access: brings an absent page, zero at first, and gives a page that shares its frame a
     * copy of its own before a store, which is announced.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @param write whether the access stores
     * @return what to do next; after {@link HostFaultResult#READY} the word may have changed again, so the caller looks
     * @throws IllegalArgumentException if there is no such page
     * @locking no lock of a VM, outside every section
     * @kvm hva_to_pfn, handle_mm_fault
     */
    public HostFaultResult faultIn(long page, boolean write) {
        checkRange(page, 1);
        lock.lock();
        // The slot that led here is not held: the fault is outside every section, and a removal may have freed it.
        if (!tryRetain()) {
            lock.unlock();
            return HostFaultResult.GONE;
        }
        try {
            return faultInLocked(page, write);
        } finally {
            end();
        }
    }

    private HostFaultResult faultInLocked(long page, boolean write) {
        long word = word(page);
        if (write && HostPageWord.isProtected(word)) {
            return HostFaultResult.PROTECTED;
        }
        if (!HostPageWord.isPresent(word)) {
            frames.come(page);
        } else if (write && HostPageWord.isMerged(word)) {
            unmerge(page);
        }
        return HostFaultResult.READY;
    }

    /** Gives a page that shares its frame a copy of its own. The shared frame is only read: nobody is waited for. */
    private void unmerge(long page) {
        listeners.start(page, page + 1, true);
        try {
            frames.copyHome(page);
        } finally {
            listeners.end(page, page + 1);
        }
    }

    /**
     * Takes pages away: their content is gone, their memory goes back to the operating system, and the next touch finds
     * zeros. What a balloon does. Protected pages stay protected.
     *
     * @param firstPage first page
     * @param count how many, at least 1
     * @throws IllegalArgumentException if there are no such pages
     * @throws IllegalStateException if the pages are closed
     * @kvm madvise MADV_DONTNEED
     */
    public void discard(long firstPage, long count) {
        checkRange(firstPage, count);
        begin();
        try {
            discardLocked(firstPage, count, true);
        } finally {
            end();
        }
    }

    /**
     * Takes pages away as {@link #discard} does, for a caller that cannot wait: listeners are told so, and nothing is
     * done if another operation is under way. Shared and migrated frames are freed by a later operation.
     *
     * @param firstPage first page
     * @param count how many, at least 1
     * @return whether the pages were taken away
     * @throws IllegalArgumentException if there are no such pages
     * @throws IllegalStateException if the pages are closed
     * @kvm the out-of-memory reaper, whose notifiers may not block
     */
    public boolean discardWithoutBlocking(long firstPage, long count) {
        checkRange(firstPage, count);
        if (!lock.tryLock()) {
            return false;
        }
        hold();
        try {
            discardLocked(firstPage, count, false);
            return true;
        } finally {
            end();
        }
    }

    private void discardLocked(long firstPage, long count, boolean mayBlock) {
        listeners.start(firstPage, firstPage + count, mayBlock);
        try {
            for (long page = firstPage; page < firstPage + count; page++) {
                frames.leave(page);
            }
            if (mayBlock) {
                awaitReaders();
            }
        } finally {
            // Also where the wait fails: the pages are absent by now, and must come back as zeros.
            frames.emptyHomes(firstPage, count);
            listeners.end(firstPage, firstPage + count);
        }
    }

    /**
     * Forbids stores to pages for good: a guest's store becomes a memory fault. When the call returns no guest and no
     * device stores there.
     *
     * @param firstPage first page
     * @param count how many, at least 1
     * @throws IllegalArgumentException if there are no such pages
     * @throws IllegalStateException if the pages are closed
     * @kvm mprotect PROT_READ
     */
    public void protect(long firstPage, long count) {
        checkRange(firstPage, count);
        begin();
        try {
            listeners.start(firstPage, firstPage + count, true);
            try {
                for (long page = firstPage; page < firstPage + count; page++) {
                    frames.set(page, HostPageWord.withProtection(word(page)));
                }
                // A device that saw the page writable could otherwise store after the caller was told that nobody
                // does.
                awaitReaders();
            } finally {
                listeners.end(firstPage, firstPage + count);
            }
        } finally {
            end();
        }
    }

    /**
     * Allows stores to pages again. Pages that share a frame go on sharing it until a store.
     *
     * @param firstPage first page
     * @param count how many, at least 1
     * @throws IllegalArgumentException if there are no such pages
     * @throws IllegalStateException if the pages are closed
     * @kvm mprotect PROT_READ | PROT_WRITE
     */
    public void unprotect(long firstPage, long count) {
        checkRange(firstPage, count);
        begin();
        try {
            listeners.start(firstPage, firstPage + count, true);
            try {
                for (long page = firstPage; page < firstPage + count; page++) {
                    frames.set(page, HostPageWord.withoutProtection(word(page)));
                }
            } finally {
                listeners.end(firstPage, firstPage + count);
            }
        } finally {
            end();
        }
    }

    /**
     * Lets two pages of equal content share one frame, from which both can only read. A store gives the storing page a
     * copy of its own. The frames that they had go back to the operating system.
     *
     * @param pageA a page
     * @param pageB another page
     * @return whether they share a frame now; false if their contents differ or one of them is absent, and then they
     *     are what they were
     * @throws IllegalArgumentException if there are no such pages, or they are the same
     * @throws IllegalStateException if the pages are closed
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if there is no frame to share; nothing is changed then
     * @kvm ksm: try_to_merge_two_pages
     */
    public boolean merge(long pageA, long pageB) {
        checkRange(pageA, 1);
        checkRange(pageB, 1);
        if (pageA == pageB) {
            throw new IllegalArgumentException("page cannot be merged with itself: page=" + pageA);
        }
        begin();
        try {
            return mergeLocked(pageA, pageB);
        } finally {
            end();
        }
    }

    private boolean mergeLocked(long pageA, long pageB) {
        long wordA = word(pageA);
        long wordB = word(pageB);
        if (!HostPageWord.isPresent(wordA) || !HostPageWord.isPresent(wordB)) {
            return false;
        }
        if (HostPageWord.hpa(wordA) == HostPageWord.hpa(wordB)) {
            return true;
        }
        // Guests may store meanwhile, so what is equal here is compared again when they cannot. Where contents differ
        // here already, nobody is told.
        if (!frames.isEqual(HostPageWord.hpa(wordA), HostPageWord.hpa(wordB))) {
            return false;
        }
        if (HostPageWord.isMerged(wordA)) {
            return move(pageB, HostFrames.Move.JOIN, frames.frameOf(pageA));
        }
        if (HostPageWord.isMerged(wordB)) {
            return move(pageA, HostFrames.Move.JOIN, frames.frameOf(pageB));
        }
        FrameRun frame = frames.allocate();
        try {
            return mergeInto(frame, pageA, pageB);
        } finally {
            // Each page that has the frame holds it by itself.
            frame.release();
        }
    }

    private boolean mergeInto(FrameRun frame, long pageA, long pageB) {
        move(pageA, HostFrames.Move.SHARE, frame);
        boolean joined = false;
        try {
            joined = move(pageB, HostFrames.Move.JOIN, frame);
        } finally {
            if (!joined) {
                unmerge(pageA);
            }
        }
        return joined;
    }

    /** Moves a page's content to another frame while nobody can reach it. */
    private boolean move(long page, HostFrames.Move move, FrameRun frame) {
        long word = word(page);
        boolean moved = false;
        listeners.start(page, page + 1, true);
        try {
            frames.set(page, HostPageWord.absent(word));
            awaitReaders();
            moved = frames.move(page, word, move, frame);
        } finally {
            if (!moved) {
                frames.set(page, word);
            }
            listeners.end(page, page + 1);
        }
        return moved;
    }

    /**
     * Moves a page's content to another frame, as a host does that compacts its memory or moves it between nodes.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @return whether it was moved; an absent page has no frame, and that of a merged page is not its alone
     * @throws IllegalArgumentException if there is no such page
     * @throws IllegalStateException if the pages are closed
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if there is no other frame; nothing is changed then
     * @kvm migrate_pages
     */
    public boolean migrate(long page) {
        checkRange(page, 1);
        begin();
        try {
            long word = word(page);
            if (!HostPageWord.isPresent(word) || HostPageWord.isMerged(word)) {
                return false;
            }
            if (HostPageWord.hpa(word) != frames.homeOf(page)) {
                return move(page, HostFrames.Move.HOME, frames.frameOf(page));
            }
            FrameRun target = frames.allocate();
            try {
                return move(page, HostFrames.Move.AWAY, target);
            } finally {
                // The page holds it by itself.
                target.release();
            }
        } finally {
            end();
        }
    }

    /** Waits for the devices of all VMs, and frees the frames that pages have left before. */
    private void awaitReaders() {
        listeners.awaitReaders();
        frames.freeLeft();
    }

    /**
     * Makes somebody hear of every change that begins after the call. Adding again only counts.
     *
     * @param listener told with the host lock held; compared by identity
     * @throws IllegalStateException if the pages are free
     * @locking no lock of a VM: the host lock, which it takes, is outside them
     */
    public void addListener(HostPagesListener listener) {
        Objects.requireNonNull(listener, "listener");
        lock.lock();
        try {
            if (holders.get() == 0) {
                throw gone();
            }
            listeners.add(listener);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Takes back one addition of a listener. When the last is taken back, no announcement to it runs or will run.
     *
     * @param listener as added
     * @throws IllegalArgumentException if it was not added, or was removed as often as it was added
     * @locking no lock of a VM: the host lock, which it takes, is outside them
     */
    public void removeListener(HostPagesListener listener) {
        Objects.requireNonNull(listener, "listener");
        lock.lock();
        try {
            listeners.remove(listener);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Returns how many pages there are.
     *
     * @return pages of 4096 bytes, present or not
     */
    public long pages() {
        return pages;
    }

    /**
     * Returns the length.
     *
     * @return bytes, a multiple of 4096
     */
    public long bytes() {
        return pages * HostMemory.PAGE_SIZE;
    }

    /**
     * Returns how many pages have a frame.
     *
     * @return count of now
     */
    public long presentPages() {
        return frames.presentPages();
    }

    /**
     * Returns how many pages have a frame that they may share.
     *
     * @return count of now
     */
    public long mergedPages() {
        return frames.mergedPages();
    }

    /**
     * Tells whether a page has a frame.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @return whether it was touched since it was last discarded
     * @throws IllegalStateException if the pages are closed
     */
    public boolean isPresent(long page) {
        return HostPageWord.isPresent(wordAtRest(page));
    }

    /**
     * Tells whether a page has a frame that it may share.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @return whether it was merged and not stored to since
     * @throws IllegalStateException if the pages are closed
     */
    public boolean isMerged(long page) {
        return HostPageWord.isMerged(wordAtRest(page));
    }

    /**
     * Tells whether stores to a page are forbidden.
     *
     * @param page number, 0 to {@link #pages} - 1
     * @return whether it is protected
     * @throws IllegalStateException if the pages are closed
     */
    public boolean isProtected(long page) {
        return HostPageWord.isProtected(wordAtRest(page));
    }

    /** Reads a word between operations, for a caller that is in no epoch, so that only a hold keeps the words alive. */
    private long wordAtRest(long page) {
        checkRange(page, 1);
        begin();
        try {
            return word(page);
        } finally {
            end();
        }
    }

    /**
     * Ends the caller's hold: no operation is possible any more. The pages, their content and their memory stay until
     * no slot has them. A second call does nothing.
     */
    @Override
    public void close() {
        if (closed.compareAndSet(0, 1)) {
            release();
        }
    }

    /** Adds a holder unless everything is free. */
    boolean tryRetain() {
        int count = holders.get();
        while (count > 0) {
            if (holders.compareAndSet(count, count + 1)) {
                return true;
            }
            count = holders.get();
        }
        return false;
    }

    /** Drops a holder; the last one frees everything. Needs no lock: whoever would change anything is a holder. */
    void release() {
        int remaining = holders.decrementAndGet();
        if (remaining < 0) {
            throw new IllegalStateException("pages released too often: " + this);
        }
        if (remaining == 0) {
            frames.close();
        }
    }

    /** The frames, for slots and tests. */
    HostFrames frames() {
        return frames;
    }

    private void begin() {
        lock.lock();
        hold();
    }

    /** Makes the holder of the lock a holder of the pages, or lets go of the lock. */
    private void hold() {
        if (closed.get() != 0 || !tryRetain()) {
            lock.unlock();
            throw gone();
        }
    }

    private void end() {
        lock.unlock();
        release();
    }

    private void checkRange(long firstPage, long count) {
        if (firstPage < 0 || count < 1 || count > pages - firstPage) {
            throw outside(firstPage, count);
        }
    }

    private IllegalArgumentException outside(long firstPage, long count) {
        return new IllegalArgumentException(
                "pages do not exist: firstPage=" + firstPage + ", count=" + count + ", limit=" + pages);
    }

    private IllegalStateException gone() {
        return new IllegalStateException("pages are closed: " + this);
    }

    @Override
    public String toString() {
        return "HostPages[pages=" + pages + ", present=" + presentPages() + ", merged=" + mergedPages() + "]";
    }
}
