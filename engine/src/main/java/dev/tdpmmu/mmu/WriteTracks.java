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
     * Watches each frame of a range once more.
     *
     * @locking slots lock
     */
    void add(long startGfn, long endGfn) {
        Interleave.step();
        long[] now = gfns;
        long[] more = new long[now.length + Math.toIntExact(endGfn - startGfn)];
        int place = lowerBound(now, startGfn);
        System.arraycopy(now, 0, more, 0, place);
        int next = place;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            more[place++] = gfn;
            while (next < now.length && now[next] == gfn) {
                more[place++] = now[next++];
            }
        }
        System.arraycopy(now, next, more, place, now.length - next);
        gfns = more;
    }

    /**
     * Watches each frame of a range once less.
     *
     * @locking slots lock
     */
    void remove(long startGfn, long endGfn) {
        Interleave.step();
        long[] now = gfns;
        long[] fewer = new long[now.length];
        int place = lowerBound(now, startGfn);
        System.arraycopy(now, 0, fewer, 0, place);
        int next = place;
        for (long gfn = startGfn; gfn < endGfn; gfn++) {
            if (next == now.length || now[next] != gfn) {
                throw new IllegalStateException("frame is not watched: gfn=0x" + Long.toHexString(gfn));
            }
            next++;
            while (next < now.length && now[next] == gfn) {
                fewer[place++] = now[next++];
            }
        }
        System.arraycopy(now, next, fewer, place, now.length - next);
        gfns = Arrays.copyOf(fewer, place + now.length - next);
    }

    /** The first place whose frame is not below {@code gfn}. */
    private static int lowerBound(long[] ascending, long gfn) {
        int low = 0;
        int high = ascending.length;
        while (low < high) {
            int middle = low + high >>> 1;
            if (ascending[middle] < gfn) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }
}
