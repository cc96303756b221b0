package dev.tdpmmu.sim;

import dev.tdpmmu.base.Gfn;

/**
 * The part of guest memory that belongs to one vCPU of a fleet, and what its bytes must be.
 *
 * <p>Each page of the share carries one 8-byte value, at a place of its own in the page. The value is made of the guest
 * page number (which only one vCPU owns) and of how often the page was written, such that no two pages and no two
 * writes of a page have the same one: an access that reaches the wrong frame, or an old one, is found out. The upper
 * half alone, which a fetch reads, is a hash of both numbers: it is wrong in the wrong frame but for one time in four
 * thousand million.
 *
 * @param firstGfn first guest page
 * @param pages how many, above 0
 */
record GuestShare(long firstGfn, int pages) {
    private static final int COUNT_BITS = 24;
    private static final int COUNT_MASK = (1 << COUNT_BITS) - 1;

    /** Odd, so that the multiplication loses nothing and mixes all of its input into the upper half. */
    private static final long MIX = 0x9e37_79b9_7f4a_7c15L;

    /** Values lie in different cache lines of their pages: at one offset, all pages would fall into a few cache sets. */
    private static final long OFFSET_STEP = 0x1b8;

    private static final long OFFSET_MASK = Gfn.PAGE_SIZE - Long.BYTES;

    /**
     * Returns the share of a vCPU: all shares together are the whole memory, and none is a page larger than another.
     *
     * @param memoryBytes guest memory, which starts at address 0
     * @param index of the vCPU
     * @param vcpus how many there are
     * @return its share
     */
    static GuestShare of(long memoryBytes, int index, int vcpus) {
        long pages = Gfn.of(memoryBytes);
        long each = pages / vcpus;
        long larger = pages % vcpus;
        long first = index * each + Math.min(index, larger);
        return new GuestShare(first, (int) (index < larger ? each + 1 : each));
    }

    long gfn(int page) {
        return firstGfn + page;
    }

    /** Returns the address of a page's value. */
    long gpa(int page) {
        long gfn = firstGfn + page;
        return Gfn.toGpa(gfn) + (gfn * OFFSET_STEP & OFFSET_MASK);
    }

    /** Returns the value that a page has after so many writes. */
    long value(int page, int writes) {
        return (firstGfn + page + 1 << COUNT_BITS | writes & COUNT_MASK) * MIX;
    }

    /** Returns what a fetch from {@link #fetchGpa} must find. */
    int fetched(int page, int writes) {
        return (int) (value(page, writes) >>> Integer.SIZE);
    }

    /** Returns where the upper half of a page's value is. */
    long fetchGpa(int page) {
        return gpa(page) + Integer.BYTES;
    }
}
