package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.Interleave;
import java.util.Arrays;

/**
 * The frames whose stores somebody watches. Faults never map them writable, and never by a huge leaf.
 *
 * <p>Changes come first, the protection of what is mapped already second, under the exclusive lock: a fault that asked
 * before the change has installed its leaf before the lock is granted, one that asks later sees the change.
 *
 * @kvm kvm_gfn_is_write_tracked
 */
final class WriteTracks {
    private static final long[] NOTHING = {};

    /** Ascending, a frame as often as it is watched. Replaced under the slots lock; read under the MMU lock or as a hint. */
    private volatile long[] gfns = NOTHING;

    WriteTracks() {}

    /** Tells whether nothing at all is watched. */
    @HotPath
    boolean isEmpty() {
        return gfns.length == 0;
    }

    /** Tells whether a frame is watched. */
    boolean contains(long gfn) {
        return anyIn(gfn, gfn + 1);
    }

    /** Returns the largest level up to {@code level} whose leaf for a frame would map no watched frame, or 1. */
    int maxLevel(long gfn, int level) {
        int allowed = level;
        while (allowed > PagingLevel.L4K
                && anyIn(Gfn.alignDown(gfn, allowed), Gfn.alignDown(gfn, allowed) + PagingLevel.pages(allowed))) {
            allowed--;
        }
        return allowed;
    }

    private boolean anyIn(long startGfn, long endGfn) {
        long[] now = gfns;
        int place = Arrays.binarySearch(now, startGfn);
        if (place >= 0) {
            return true;
        }
        int next = -place - 1;
        return next < now.length && now[next] < endGfn;
    }

    /**
     * Watches a frame once more.
     *
     * @locking slots lock
     */
    void add(long gfn) {
        Interleave.step();
        long[] more = Arrays.copyOf(gfns, gfns.length + 1);
        more[more.length - 1] = gfn;
        Arrays.sort(more);
        gfns = more;
    }

    /**
     * Watches a frame once less.
     *
     * @locking slots lock
     */
    void remove(long gfn) {
        Interleave.step();
        long[] now = gfns;
        int place = Arrays.binarySearch(now, gfn);
        if (place < 0) {
            throw new IllegalStateException("frame is not watched: gfn=0x" + Long.toHexString(gfn));
        }
        long[] fewer = new long[now.length - 1];
        System.arraycopy(now, 0, fewer, 0, place);
        System.arraycopy(now, place + 1, fewer, place, fewer.length - place);
        gfns = fewer;
    }
}
