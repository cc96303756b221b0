package dev.tdpmmu.memory;

import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * The simulated host's physical memory: one reserved, lazily committed range of virtual memory for the whole process.
 *
 * <p>A <em>host physical address</em> (hpa) is an offset into this range. The range is divided once; T is {@link
 * #TABLES_END}:
 *
 * <pre>
 *  0        T/64             T/32           T                 SIZE   SIZE + 4 KiB
 *  |  words  |  table headers  |  table pages |  guest frames   | slack |
 *  |         | 64 bytes for    |              |                 | for unaligned
 *  |         | each table page |              |                 | accesses
 * </pre>
 *
 * <p>Table pages and guest frames come from disjoint parts, so that no guest access can reach a table. Every access
 * masks its address: words and entries by T, guest bytes by {@link #SIZE}. So a corrupt entry can lead to a wrong table
 * but never out of the tables' part. T is at most 2 GiB unless asked for: then the masks of a walk are 32-bit
 * immediates, which makes it a fifth faster, and 2 GiB of tables map 992 GiB at 4 KiB.
 *
 * <p>How the range is reserved is decided once, best first: anonymous {@code mmap} through the foreign-function API
 * where native access is enabled for this code; else a sparse file on a memory file system; else an eager, small
 * allocation. The choice is logged and can be asked for by {@link #kind}. Properties: {@code tdpmmu.memory.reserve}
 * (bytes, a power of two), {@code tdpmmu.memory.tables} (T in bytes, a power of two), {@code tdpmmu.memory.kind} (mmap,
 * file or eager) to force one.
 */
public final class HostMemory {
    /** How the range came into being. */
    public enum Kind {
        /** Anonymous private mapping without reserve; free ranges go back to the operating system. */
        MMAP,
        /** Sparse file on a memory file system; free ranges are cleared, not given back. */
        FILE,
        /** Allocated at once and zeroed; small. */
        EAGER
    }

    /** Bytes of a small page. */
    public static final long PAGE_SIZE = 4096;

    private static final long USUAL_TABLES_END = 1L << 31;

    private static final HostReservation RESERVATION = HostReservation.reserve();

    /** Bytes of the range, a power of two; host physical addresses are below it. */
    public static final long SIZE = RESERVATION.size();

    /** The range and its slack; only this package sees it. */
    static final MemorySegment RANGE = RESERVATION.range();

    /** First byte behind the table pages, a power of two; words, headers and tables lie below it. */
    public static final long TABLES_END = tablesEnd();

    /** Words of the engine: reader slots, epochs, sequences. The first page is never handed out: address 0 means none. */
    static final HostExtents WORDS = new HostExtents("words", PAGE_SIZE, TABLES_END / 64);

    /** First byte of the table headers. */
    static final long HEADERS_BASE = TABLES_END / 64;

    /** First byte of the table pages. */
    static final long TABLES_BASE = TABLES_END / 32;

    /** Table pages, in extents. */
    static final HostExtents TABLES = new HostExtents("table pages", TABLES_BASE, TABLES_END);

    /** First byte of the guest frames. */
    static final long FRAMES_BASE = TABLES_END;

    /** Guest frames, in extents. */
    static final HostExtents FRAMES = new HostExtents("guest frames", FRAMES_BASE, SIZE);

    private HostMemory() {}

    private static long tablesEnd() {
        long most = SIZE / 4;
        long standard = Math.min(USUAL_TABLES_END, most);
        return HostReservation.sizeFrom("tdpmmu.memory.tables", standard, HostReservation.MIN_SIZE / 4, most);
    }

    /**
     * Tells how the range was reserved.
     *
     * @return the kind
     */
    public static Kind kind() {
        return RESERVATION.kind();
    }

    /**
     * Tells whether an address lies where guest frames are, and so has bytes behind it.
     *
     * @param hpa host physical address
     * @return whether a guest may read and write there
     */
    public static boolean isFrame(long hpa) {
        return hpa >= FRAMES_BASE && hpa < SIZE;
    }

    /**
     * Tells whether an address lies where table pages are.
     *
     * @param hpa host physical address
     * @return whether a table page can be there
     */
    public static boolean isTable(long hpa) {
        return hpa >= TABLES_BASE && hpa < TABLES_END;
    }

    /**
     * Returns the bytes of table pages and guest frames that are handed out now, in the whole process.
     *
     * @return bytes
     */
    public static long bytesHandedOut() {
        return TABLES.bytesHandedOut() + FRAMES.bytesHandedOut();
    }

    /**
     * Makes a range of whole pages read as zero and, where possible, returns its memory to the operating system.
     *
     * @param hpa first byte, multiple of 4096
     * @param bytes length, multiple of 4096
     */
    static void giveBack(long hpa, long bytes) {
        RESERVATION.giveBack(hpa, bytes);
    }

    /**
     * Makes the headers of returned table extents read as zero and returns their memory.
     *
     * @param extents first bytes of the table extents
     * @param extentBytes length of each
     */
    static void giveBackHeaders(List<Long> extents, long extentBytes) {
        long headerBytes = extentBytes >>> 6;
        for (long extent : extents) {
            giveBack(HEADERS_BASE + ((extent - TABLES_BASE) >>> 6), headerBytes);
        }
    }
}
