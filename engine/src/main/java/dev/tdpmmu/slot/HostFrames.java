package dev.tdpmmu.slot;

import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.FrameWords;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.MemoryCapExceededException;
import java.util.ArrayList;
import java.util.Arrays;
import org.agrona.collections.Long2ObjectHashMap;

/**
 * The frames and words of one {@link HostPages}: which frame a page has, and where frames go that a page leaves. Knows
 * nothing of announcements; their order is told there.
 *
 * <p>Protected by the host lock, except {@link #word}.
 */
final class HostFrames {
    /** Ways to move a page whose content nobody can reach. */
    enum Move {
        /** To a fresh frame that other pages will have, too. */
        SHARE,
        /** To a frame that other pages have, if that has the same content. */
        JOIN,
        /** To a fresh frame that the page has alone. */
        AWAY,
        /** Back to the frame that is always the page's own. */
        HOME
    }

    private static final int PAGE_SIZE = (int) HostMemory.PAGE_SIZE;

    private final FrameAllocator allocator;
    private final MemoryAccount account;

    /** One frame for each page, its home: a page that comes, or stops sharing, can always have it. */
    private final FrameRun home;

    /** One {@link HostPageWord} for each page. Written under the lock by exchanges, read by anybody in acquire mode. */
    private final FrameRun words;

    /** Frames of the pages that are not at home. Each page holds its frame, so a shared one is held once for each. */
    @GuardedBy("host lock")
    private final Long2ObjectHashMap<FrameRun> away = new Long2ObjectHashMap<>();

    /** Frames that no page has, and that a device may still read. Freed after the next wait for readers. */
    @GuardedBy("host lock")
    private final ArrayList<FrameRun> left = new ArrayList<>();

    @GuardedBy("host lock")
    private final byte[] content = new byte[PAGE_SIZE];

    @GuardedBy("host lock")
    private final byte[] otherContent = new byte[PAGE_SIZE];

    /** Written under the lock, read by anybody. */
    private volatile long presentPages;

    /** Written under the lock, read by anybody. */
    private volatile long mergedPages;

    /*
     * Design note.
     *
     * A page is absent, at home (frame = home + page * 4096) or away (frame in the map: a shared frame after a merge,
     * another frame of its own after a migration). Home frames of pages that are not at home are given back to the
     * operating system, so they read as zero: that is what an absent page finds when it comes back, and why a fault
     * allocates nothing and cannot fail for want of memory. Only merge and migrate allocate, before they announce.
     *
     * A frame that a page leaves by a copy on write is only read by whoever still knows it. It is kept in a list until
     * the next wait instead of making the fault wait; so it is with discards that must not block. The list is bounded:
     * frames off home come from merges and migrations, and each of those waits.
     */
    HostFrames(long bytes) {
        this.account = new MemoryAccount(Long.MAX_VALUE);
        this.allocator = new FrameAllocator(account);
        this.home = allocator.allocate(PagingLevel.L4K, bytes);
        try {
            long wordBytes = bytes / PAGE_SIZE * Long.BYTES;
            this.words = allocator.allocate(PagingLevel.L4K, (wordBytes + PAGE_SIZE - 1) & -PAGE_SIZE);
        } catch (MemoryCapExceededException noRoom) {
            home.release();
            throw noRoom;
        }
    }

    @HotPath
    long word(long page) {
        return FrameWords.readAcquire(words.hpa() + page * Long.BYTES);
    }

    /** Publishes a word; an exchange, so that a scan for readers that follows is not done before it. */
    void set(long page, long word) {
        FrameWords.exchange(words.hpa() + page * Long.BYTES, word);
    }

    /** First byte of a page's home. */
    long homeOf(long page) {
        return home.hpa() + page * PAGE_SIZE;
    }

    /** Gives an absent page its home, which is zero. */
    void come(long page) {
        set(page, HostPageWord.own(homeOf(page), word(page)));
        presentPages++;
    }

    /** Makes a page absent. Its frame, if not its home, is freed after the next wait for readers. */
    void leave(long page) {
        long word = word(page);
        if (!HostPageWord.isPresent(word)) {
            return;
        }
        set(page, HostPageWord.absent(word));
        presentPages--;
        if (HostPageWord.isMerged(word)) {
            mergedPages--;
        }
        if (HostPageWord.hpa(word) != homeOf(page)) {
            left.add(away.remove(page));
        }
    }

    /** Makes home frames zero and returns their memory to the operating system. */
    void emptyHomes(long firstPage, long count) {
        home.discard(firstPage * PAGE_SIZE, count * PAGE_SIZE);
    }

    /** Takes a frame for {@link #move}, held by the caller. */
    FrameRun allocate() {
        return allocator.allocate(PagingLevel.L4K, PAGE_SIZE);
    }

    /** Returns the frame of a page that is not at home. */
    FrameRun frameOf(long page) {
        return away.get(page);
    }

    /**
     * Moves a page's content to another frame, and frees the one that it had: nobody knows that any more.
     *
     * @param page absent for the moment
     * @param before its word when it was present
     * @param move where to
     * @param frame the frame to move to, which the page holds from now on; for {@link Move#HOME} the one that it has
     * @return false if the contents differ for {@link Move#JOIN}; nothing is done then
     */
    boolean move(long page, long before, Move move, FrameRun frame) {
        long source = HostPageWord.hpa(before);
        switch (move) {
            case JOIN -> {
                if (!isEqual(source, frame.hpa())) {
                    return false;
                }
                moveTo(page, frame, HostPageWord.shared(frame.hpa(), before));
                mergedPages += HostPageWord.isMerged(before) ? 0 : 1;
            }
            case SHARE -> {
                copy(source, frame.hpa());
                moveTo(page, frame, HostPageWord.shared(frame.hpa(), before));
                mergedPages++;
            }
            case AWAY -> {
                copy(source, frame.hpa());
                moveTo(page, frame, HostPageWord.own(frame.hpa(), before));
            }
            case HOME -> {
                copy(source, homeOf(page));
                set(page, HostPageWord.own(homeOf(page), before));
                away.remove(page).release();
            }
        }
        return true;
    }

    private void moveTo(long page, FrameRun frame, long word) {
        frame.retain();
        FrameRun old = away.put(page, frame);
        set(page, word);
        if (old == null) {
            emptyHomes(page, 1);
        } else {
            old.release();
        }
    }

    /** Gives a page that shares a frame a copy at home. The frame is freed after the next wait for readers. */
    void copyHome(long page) {
        long word = word(page);
        copy(HostPageWord.hpa(word), homeOf(page));
        set(page, HostPageWord.own(homeOf(page), word));
        left.add(away.remove(page));
        mergedPages--;
    }

    /** Frees the frames that pages have left; everybody who might read them has ended. */
    void freeLeft() {
        for (FrameRun frame : left) {
            frame.release();
        }
        left.clear();
    }

    boolean isEqual(long hpaA, long hpaB) {
        GuestBytes.copyOut(hpaA, content, 0, PAGE_SIZE);
        GuestBytes.copyOut(hpaB, otherContent, 0, PAGE_SIZE);
        return Arrays.equals(content, otherContent);
    }

    private void copy(long sourceHpa, long targetHpa) {
        GuestBytes.copyOut(sourceHpa, content, 0, PAGE_SIZE);
        GuestBytes.copyIn(targetHpa, content, 0, PAGE_SIZE);
    }

    /** Frees everything; nobody knows the pages any more. */
    void close() {
        for (FrameRun frame : away.values()) {
            frame.release();
        }
        freeLeft();
        words.release();
        home.release();
    }

    long presentPages() {
        return presentPages;
    }

    long mergedPages() {
        return mergedPages;
    }

    /** What is charged for frames and words. */
    long usedInBytes() {
        return account.usedInBytes();
    }
}
