package dev.tdpmmu.memory;

import dev.tdpmmu.base.HotPath;

/**
 * The side record of each table page: 64 bytes, off heap, one cache line.
 *
 * <pre>
 *   0 +---------------------------------+
 *     | link: next table of a chain     |  free stack or retired batch; host physical address or 0
 *   8 +---------------------------------+
 *     | gfn: first frame that it maps   |
 *  16 +---------------------------------+
 *     | parent: address of the entry    |  0 for a root
 *  24 +---------------------------------+
 *     | state (7:0) | level (15:8) | owner VM (63:32)
 *  32 +---------------------------------+
 *     | generation: times it was reused |  a walker may compare it
 *  40 +---------------------------------+
 *     | previous, next in the list of   |  host physical addresses or 0; guarded by the list's lock
 *  56 | split tables; NX state          |
 *  64 +---------------------------------+
 * </pre>
 *
 * <p>A header is written by whoever owns the page: the pool, a cache, the fault that links it, the remover that
 * detached it. Links and states are published by the atomic step that passes the page on, so plain accesses are enough
 * here.
 */
public final class TableHeaders {
    /** Bytes of a header. */
    public static final long BYTES = 64;

    /** In the pool. */
    public static final int FREE = 0;

    /** In the stock of a vCPU. */
    public static final int CACHED = 1;

    /** Reachable from a root, or a root. */
    public static final int LINKED = 2;

    /** Detached, waiting for its grace period. */
    public static final int RETIRED = 3;

    private static final int LINK = 0;
    private static final int GFN = 8;
    private static final int PARENT = 16;
    private static final int STATE = 24;
    private static final int GENERATION = 32;

    private static final int NX_PREVIOUS = 40;
    private static final int NX_NEXT = 48;
    private static final int NX_STATE = 56;

    /** NX state: nothing forbids a huge leaf in the place of the table. */
    public static final int NX_NONE = 0;

    /** NX state: the table exists because a huge leaf must not be executed. */
    public static final int NX_HUGE_DISALLOWED = 1;

    /** NX state: as {@link #NX_HUGE_DISALLOWED}, and in the list of those that may be given up. */
    public static final int NX_LISTED = 2;

    private static final long STATE_MASK = 0xff;
    private static final int LEVEL_SHIFT = 8;
    private static final long LEVEL_MASK = 0xff;
    private static final int OWNER_SHIFT = 32;

    private TableHeaders() {}

    @HotPath
    private static long of(long tableHpa) {
        return HostMemory.HEADERS_BASE + ((tableHpa - HostMemory.TABLES_BASE) >>> 6);
    }

    static long link(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + LINK);
    }

    static void setLink(long tableHpa, long next) {
        HostWords.setOpaque(of(tableHpa) + LINK, next);
    }

    /**
     * Returns the next table of the retired chain that a table is in.
     *
     * @param tableHpa host physical address of the table page
     * @return the next one's, or 0
     */
    public static long nextRetired(long tableHpa) {
        return link(tableHpa);
    }

    /**
     * Puts a detached table in front of a chain and marks it retired.
     *
     * @param tableHpa host physical address of the table page
     * @param chain first table of the chain, or 0
     */
    public static void retire(long tableHpa, long chain) {
        setLink(tableHpa, chain);
        setState(tableHpa, RETIRED);
    }

    /**
     * Describes a table that is about to be linked.
     *
     * @param tableHpa host physical address of the table page
     * @param gfn first frame that it maps
     * @param level 1 to 5
     * @param parentSpteAddress address of the entry that will point to it, 0 for a root
     */
    @HotPath
    public static void describe(long tableHpa, long gfn, int level, long parentSpteAddress) {
        long header = of(tableHpa);
        HostWords.setOpaque(header + GFN, gfn);
        HostWords.setOpaque(header + PARENT, parentSpteAddress);
        HostWords.setOpaque(header + NX_STATE, NX_NONE);
        long owner = HostWords.readOpaque(header + STATE) >>> OWNER_SHIFT;
        HostWords.setOpaque(header + STATE, owner << OWNER_SHIFT | (long) level << LEVEL_SHIFT | LINKED);
    }

    static void setOwner(long tableHpa, int vmId) {
        HostWords.setOpaque(of(tableHpa) + STATE, (long) vmId << OWNER_SHIFT | FREE);
    }

    static void setState(long tableHpa, int state) {
        long header = of(tableHpa);
        HostWords.setOpaque(header + STATE, HostWords.readOpaque(header + STATE) & ~STATE_MASK | state);
    }

    static void countReuse(long tableHpa) {
        HostWords.addOpaque(of(tableHpa) + GENERATION, 1);
    }

    /**
     * Returns where a table stands in its life.
     *
     * @param tableHpa host physical address of the table page
     * @return {@link #FREE}, {@link #CACHED}, {@link #LINKED} or {@link #RETIRED}
     */
    public static int state(long tableHpa) {
        return (int) (HostWords.readOpaque(of(tableHpa) + STATE) & STATE_MASK);
    }

    /**
     * Returns the level of a table.
     *
     * @param tableHpa host physical address of the table page
     * @return 1 to 5
     */
    public static int level(long tableHpa) {
        return (int) (HostWords.readOpaque(of(tableHpa) + STATE) >>> LEVEL_SHIFT & LEVEL_MASK);
    }

    /**
     * Returns the VM that owns a table.
     *
     * @param tableHpa host physical address of the table page
     * @return its id
     */
    public static int owner(long tableHpa) {
        return (int) (HostWords.readOpaque(of(tableHpa) + STATE) >>> OWNER_SHIFT);
    }

    /**
     * Returns the first frame that a table maps.
     *
     * @param tableHpa host physical address of the table page
     * @return gfn
     */
    public static long gfn(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + GFN);
    }

    /**
     * Returns the entry that points to a table.
     *
     * @param tableHpa host physical address of the table page
     * @return address of the entry, 0 for a root
     */
    public static long parentSpteAddress(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + PARENT);
    }

    /**
     * Returns how often a table page has come back to its pool.
     *
     * @param tableHpa host physical address of the table page
     * @return count
     */
    public static long generation(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + GENERATION);
    }

    /**
     * Returns whether a table forbids a huge leaf in its place.
     *
     * @param tableHpa host physical address of the table page
     * @return {@link #NX_NONE}, {@link #NX_HUGE_DISALLOWED} or {@link #NX_LISTED}
     */
    public static int nxState(long tableHpa) {
        return (int) HostWords.readOpaque(of(tableHpa) + NX_STATE);
    }

    /**
     * Sets whether a table forbids a huge leaf in its place.
     *
     * @param tableHpa host physical address of the table page: not linked yet, or under the list's lock
     * @param state as {@link #nxState}
     */
    public static void setNxState(long tableHpa, int state) {
        Interleave.step();
        HostWords.setOpaque(of(tableHpa) + NX_STATE, state);
    }

    /**
     * Returns the neighbour of a table in the list of split tables.
     *
     * @param tableHpa host physical address of the table page
     * @return the one before, or 0
     * @locking the list's
     */
    public static long nxPrevious(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + NX_PREVIOUS);
    }

    /**
     * Returns the neighbour of a table in the list of split tables.
     *
     * @param tableHpa host physical address of the table page
     * @return the one behind, or 0
     * @locking the list's
     */
    public static long nxNext(long tableHpa) {
        return HostWords.readOpaque(of(tableHpa) + NX_NEXT);
    }

    /**
     * Sets a neighbour of a table in the list of split tables.
     *
     * @param tableHpa host physical address of the table page
     * @param previous the one before, or 0
     * @locking the list's
     */
    public static void setNxPrevious(long tableHpa, long previous) {
        HostWords.setOpaque(of(tableHpa) + NX_PREVIOUS, previous);
    }

    /**
     * Sets a neighbour of a table in the list of split tables.
     *
     * @param tableHpa host physical address of the table page
     * @param next the one behind, or 0
     * @locking the list's
     */
    public static void setNxNext(long tableHpa, long next) {
        HostWords.setOpaque(of(tableHpa) + NX_NEXT, next);
    }
}
