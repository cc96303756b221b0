package dev.tdpmmu.sim;

import dev.tdpmmu.GuestMemory;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import java.util.Objects;

/**
 * Replays a trace on one vCPU inside its share of guest memory, with real loads, stores and fetches whose data is
 * checked.
 *
 * <p>A virtual page gets the next free guest page at its first appearance. Records of pages that come when the share is
 * full are left out and counted. So a cold replay with 4 KiB pages installs exactly {@link #replayedPages} leaves.
 *
 * <p>A wrong value is counted, never thrown: the replay goes on. Belongs to one thread at a time, as its vCPU does.
 */
public final class TraceReplay {
    /** Writes of a page that was touched: another one than of a page that was only warmed. */
    private static final int TOUCHED = 1;

    private final Trace trace;
    private final GuestShare share;
    private final int replayedPages;

    /** Writes of each page, by page number; with the page they say which value must be there. */
    private final int[] writes;

    private int next;
    private int leftOut;
    private long dataErrors;
    private String firstDataError = "";

    /**
     * Prepares a replay; touches nothing.
     *
     * @param trace what is replayed
     * @param gpa first guest physical address of the share, multiple of 4096, not negative
     * @param bytes length of the share, a positive multiple of 4096, at most 2^31 pages
     */
    public TraceReplay(Trace trace, long gpa, long bytes) {
        this(trace, shareOf(gpa, bytes));
    }

    TraceReplay(Trace trace, GuestShare share) {
        this.trace = Objects.requireNonNull(trace, "trace");
        this.share = share;
        this.replayedPages = Math.min(trace.distinctPages(), share.pages());
        this.writes = new int[replayedPages];
    }

    private static GuestShare shareOf(long gpa, long bytes) {
        if (gpa < 0 || (gpa & Gfn.PAGE_OFFSET_MASK) != 0) {
            throw new IllegalArgumentException("share starts at no page: gpa=0x" + Long.toHexString(gpa));
        }
        long pages = Gfn.of(bytes);
        if (bytes <= 0 || (bytes & Gfn.PAGE_OFFSET_MASK) != 0 || pages > Integer.MAX_VALUE) {
            throw new IllegalArgumentException("share is no positive number of pages: bytes=" + bytes + ", min="
                    + Gfn.PAGE_SIZE + ", max=" + Integer.MAX_VALUE * Gfn.PAGE_SIZE);
        }
        return new GuestShare(Gfn.of(gpa), (int) pages);
    }

    /**
     * Loads the program: a device writes the first content of each page, so that every load and fetch has something to
     * find. Goes past the vCPU and its tables, so a replay after it is still cold.
     *
     * @param memory the device's view
     */
    public void load(GuestMemory memory) {
        for (int page = 0; page < replayedPages; page++) {
            memory.putLong(share.gpa(page), share.value(page, 0));
        }
    }

    /**
     * Warms pages of the share that the trace does not use: a device writes them, so that the host has given memory for
     * them and a later {@link #touch} pays for the MMU alone. Goes past the vCPU and its tables.
     *
     * @param memory the device's view
     * @param from first page, from {@link #replayedPages}
     * @param to end of the pages, exclusive, at most {@link #sharePages}
     */
    public void warm(GuestMemory memory, int from, int to) {
        Objects.checkFromToIndex(from, to, share.pages());
        for (int page = Math.max(from, replayedPages); page < to; page++) {
            memory.putLong(share.gpa(page), share.value(page, 0));
        }
    }

    /**
     * Replays the next records.
     *
     * @param vcpu who runs them
     * @param maxRecords at most so many, above 0
     * @return how many were taken from the trace, left out ones included; 0 at its end
     */
    public int replay(Vcpu vcpu, int maxRecords) {
        if (maxRecords <= 0) {
            throw new IllegalArgumentException("too few records: maxRecords=" + maxRecords + ", min=1");
        }
        int from = next;
        int to = Math.min(trace.length() - from, maxRecords) + from;
        for (int index = from; index < to; index++) {
            int page = trace.page(index);
            if (page < replayedPages) {
                access(vcpu, trace.access(index), page);
            } else {
                leftOut++;
            }
        }
        next = to;
        return to - from;
    }

    private void access(Vcpu vcpu, int access, int page) {
        if (access == Access.WRITE) {
            int count = ++writes[page];
            vcpu.putLong(share.gpa(page), share.value(page, count));
            return;
        }
        if (access == Access.READ) {
            check(vcpu, page, writes[page]);
            return;
        }
        int found = vcpu.fetch(share.fetchGpa(page));
        int expected = share.fetched(page, writes[page]);
        if (found != expected) {
            dataError(vcpu, page, Integer.toUnsignedLong(found), Integer.toUnsignedLong(expected));
        }
    }

    /**
     * Reads every replayed page back and checks it. Any vCPU of the same VM may do this.
     *
     * @param vcpu who reads
     */
    public void check(Vcpu vcpu) {
        for (int page = 0; page < replayedPages; page++) {
            check(vcpu, page, writes[page]);
        }
    }

    /**
     * Writes to pages of the share that the trace does not use.
     *
     * @param vcpu who writes
     * @param from first page, from {@link #replayedPages}
     * @param to end of the pages, exclusive, at most {@link #sharePages}
     */
    public void touch(Vcpu vcpu, int from, int to) {
        Objects.checkFromToIndex(from, to, share.pages());
        for (int page = Math.max(from, replayedPages); page < to; page++) {
            vcpu.putLong(share.gpa(page), share.value(page, TOUCHED));
        }
    }

    /**
     * Reads touched pages back and checks them. Any vCPU of the same VM may do this.
     *
     * @param vcpu who reads
     * @param from first page, from {@link #replayedPages}
     * @param to end of the pages, exclusive, at most {@link #sharePages}
     */
    public void checkTouched(Vcpu vcpu, int from, int to) {
        Objects.checkFromToIndex(from, to, share.pages());
        for (int page = Math.max(from, replayedPages); page < to; page++) {
            check(vcpu, page, TOUCHED);
        }
    }

    private void check(Vcpu vcpu, int page, int count) {
        long found = vcpu.getLong(share.gpa(page));
        long expected = share.value(page, count);
        if (found != expected) {
            dataError(vcpu, page, found, expected);
        }
    }

    private void dataError(Vcpu vcpu, int page, long found, long expected) {
        if (dataErrors == 0) {
            firstDataError = "wrong data: vcpu='" + vcpu.name() + "', gfn=0x" + Long.toHexString(share.gfn(page))
                    + ", found=0x" + Long.toHexString(found) + ", expected=0x" + Long.toHexString(expected)
                    + ", record=" + next;
        }
        dataErrors++;
    }

    /**
     * Returns the trace.
     *
     * @return what is replayed
     */
    public Trace trace() {
        return trace;
    }

    /**
     * Returns the size of the share.
     *
     * @return pages of 4 KiB
     */
    public int sharePages() {
        return share.pages();
    }

    /**
     * Returns how many pages of the trace fit the share.
     *
     * @return pages of 4 KiB
     */
    public int replayedPages() {
        return replayedPages;
    }

    /**
     * Returns how many records were left out so far because their pages do not fit the share.
     *
     * @return count
     */
    public int leftOutRecords() {
        return leftOut;
    }

    /**
     * Returns how many loads and fetches found something else than what was stored.
     *
     * @return count; 0 unless something is broken
     */
    public long dataErrors() {
        return dataErrors;
    }

    /**
     * Describes the first of them.
     *
     * @return who read what where; empty if there was none
     */
    public String firstDataError() {
        return firstDataError;
    }
}
