package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.TlbMode;
import java.util.Arrays;

/**
 * What one vCPU remembers of translations of linear addresses: combined mappings, from a linear address to the host's
 * frame with what both levels of tables allow, and tables of the guest near the leaves.
 *
 * <p>Belongs to one thread. Direct-mapped arrays, all tagged by the VPID (or ASID) under which they were made:
 *
 * <pre>
 *  array   | entries | an entry
 *  small   |   128   | tag, frame | flags, guest physical page | size, filled    pieces of 4 KiB of pages of any size
 *  huge2M  |    16   | the same                                                  2 MiB that both levels map as such
 *  huge1G  |     4   | the same                                                  1 GiB that both levels map as such
 *  tables1 |    32   | tag, guest physical address of a table | rights           found by the gva's bits from 21 on
 *  tables2 |     8   | the same                                                  from 30 on
 *  tables3 |     4   | the same                                                  from 39 on
 *  tables4 |     2   | the same                                                  from 48 on; guests of 5 levels only
 *
 *  flags:  11 guest's D   10:8 X W R of the second level   7:4 key   3 global   2 user   1 writable   0 no-execute
 * </pre>
 *
 * <p>W of the second level is set only if its leaf has D, or there is none. A store needs it and the guest's D, so
 * that the first store after a load walks again and sets both.
 *
 * <p>In {@link TlbMode#UNHELPFUL} the arrays are 64 times as large, and a mapping that forbids an access makes a page
 * fault instead of a new walk.
 */
public final class LinearTlb {
    /** Not cached, or the cached mapping does not allow the access. */
    public static final long MISS = -1L;

    /** VPID after the start. */
    public static final int FIRST_VPID = 1;

    private static final int MAX_VPID = 0xffff;

    /**
     * Odd in its lower bits and in those above, so that VPIDs that follow each other differ in arrays of every size.
     */
    private static final int SPREAD = 37;

    private static final long NO_TAG = -1L;

    private static final int SMALL_ENTRIES = 128;
    private static final int HUGE_2M_ENTRIES = 16;
    private static final int HUGE_1G_ENTRIES = 4;
    private static final int[] TABLES = {0, 32, 8, 4, 2};

    /** By how much the arrays of an unhelpful processor are larger. */
    private static final int UNHELPFUL_SCALE = 64;

    // Longs of a mapping; a table has the first two.
    private static final int MAPPING_SHIFT = 2;
    private static final int TABLE_SHIFT = 1;
    private static final int WORD = 1;
    private static final int GPA = 2;
    private static final int FILLED = 3;

    // Flags of a mapping's word, above LinearResult's attributes.
    private static final int SECOND_SHIFT = 8;
    private static final int GUEST_DIRTY = 1 << 11;

    /** From {@link Access#WRITE} to {@link #GUEST_DIRTY}. */
    private static final int WRITE_TO_DIRTY_SHIFT = 10;

    /** In a mapping's guest physical page: level of the guest's leaf. */
    private static final int LEVEL_MASK = 7;

    /** Of a canonical address only these bits tell pages apart: 57 bits less the 12 of the offset. */
    private static final int PAGE_BITS = 45;

    private static final long PAGE_MASK = (1L << PAGE_BITS) - 1;

    private final long[] small;
    private final long[] huge2M;
    private final long[] huge1G;
    private final long[][] tables = new long[TABLES.length][];

    /** Whether a mapping that is cached and allows too little makes a page fault. */
    private final boolean unhelpful;

    /** Which flushes the vCPU has applied, and who judges mappings by it; null unless {@link Debug#PROVE}. */
    private final FillRecord fills;

    /** What the registers allow now; null until they are loaded. */
    private GuestPermissions permissions;

    /** Root of the second level under which everything was made. */
    private long root = NO_TAG;

    private int vpid = FIRST_VPID;

    /** The VPID where tags have it. */
    private long context = (long) FIRST_VPID << PAGE_BITS;

    /** Keeps the same addresses of different VPIDs apart. */
    private int spread = FIRST_VPID * SPREAD;

    // Design note. What a mapping allows is not a set of accesses but what the tables said, and is judged at every
    // hit by the registers of that moment: so WRPKRU, STAC, a change of CPL, CR0.WP or CR4.SMAP need no flush, as on
    // a processor. A piece knows the size of the guest's page, because INVLPG of any address of a page must take all
    // its pieces. The guest physical page of a mapping is there for remote flushes, which name guest frames. Tables
    // are guest physical and could outlive a flush of the second level; but a processor's INVEPT takes them, and a
    // host that changed the frame behind a guest table relies on it.

    /** Makes an empty TLB as typical processors have it, which no oracle judges. */
    public LinearTlb() {
        this(TlbMode.TYPICAL, null);
    }

    /**
     * Makes an empty TLB.
     *
     * @param mode how it caches
     * @param fills of the vCPU, for the coherence oracle, apart from that of its {@link Tlb}; null if none judges
     */
    public LinearTlb(TlbMode mode, FillRecord fills) {
        this.fills = fills;
        this.unhelpful = mode == TlbMode.UNHELPFUL;
        int scale = unhelpful ? UNHELPFUL_SCALE : 1;
        small = new long[scale * SMALL_ENTRIES << MAPPING_SHIFT];
        huge2M = new long[scale * HUGE_2M_ENTRIES << MAPPING_SHIFT];
        huge1G = new long[scale * HUGE_1G_ENTRIES << MAPPING_SHIFT];
        for (int level = PagingLevel.L4K; level < TABLES.length; level++) {
            tables[level] = new long[scale * TABLES[level] << TABLE_SHIFT];
        }
        flushAll();
    }

    /**
     * Translates an access if a mapping is cached that allows it.
     *
     * @param gva guest linear address in bytes, canonical
     * @param access one bit of {@link Access} and bits of {@link LinearAccess}
     * @return host physical address of the same byte, or {@link #MISS}
     */
    @HotPath
    public long translate(long gva, int access) {
        int slot = slotOf(small.length, Gfn.of(gva));
        if (small[slot] == tagOf(gva, Gfn.PAGE_SHIFT)) {
            long word = small[slot + WORD];
            if (allows(word, access)) {
                if (Debug.PROVE && fills != null) {
                    judge(slot, access);
                }
                return word & HardwareWalker.ADDRESS | gva & Gfn.PAGE_OFFSET_MASK;
            }
        }
        return refill(gva, access);
    }

    @HotPath
    private boolean allows(long word, int access) {
        int needed = (access & Access.ALL) << SECOND_SHIFT | (access & Access.WRITE) << WRITE_TO_DIRTY_SHIFT;
        return ((int) word & needed) == needed && permissions.allows(access, (int) word);
    }

    /** Out of line: the piece of a huge page comes back into the small array, if a huge page is there at all. */
    private long refill(long gva, int access) {
        long[] array = huge2M;
        int level = PagingLevel.L2M;
        int slot = find(array, level, gva);
        if (slot < 0) {
            array = huge1G;
            level = PagingLevel.L1G;
            slot = find(array, level, gva);
        }
        if (slot < 0 || !allows(array[slot + WORD], access)) {
            return MISS;
        }
        long offset = gva & PagingLevel.bytes(level) - 1 & -Gfn.PAGE_SIZE;
        long word = array[slot + WORD] + offset;
        put(small, PagingLevel.L4K, gva, word, array[slot + GPA] + offset);
        if (Debug.PROVE && fills != null) {
            int piece = slotOf(small.length, Gfn.of(gva));
            small[piece + FILLED] = array[slot + FILLED];
            judge(piece, access);
        }
        return word & HardwareWalker.ADDRESS | gva & Gfn.PAGE_OFFSET_MASK;
    }

    /**
     * Error code of the page fault that an unhelpful processor makes of a mapping that the registers do not let
     * through, as if it still stood in the tables.
     *
     * @return bits of {@link GuestPageFault}, or {@link #MISS} if no mapping refuses the access
     */
    long refusal(long gva, int access) {
        long[] array = small;
        int slot = find(array, PagingLevel.L4K, gva);
        if (slot < 0) {
            array = huge2M;
            slot = find(array, PagingLevel.L2M, gva);
        }
        if (slot < 0) {
            array = huge1G;
            slot = find(array, PagingLevel.L1G, gva);
        }
        return slot < 0 || permissions.allows(access, (int) array[slot + WORD])
                ? MISS
                : permissions.permissionError(access, (int) array[slot + WORD]);
    }

    @HotPath
    boolean isUnhelpful() {
        return unhelpful;
    }

    /** A mapping is as old as its piece: no completed flush may cover its frame since. */
    private void judge(int slot, int access) {
        fills.judgeHoarded(
                small[slot + FILLED],
                small[slot + GPA],
                access & Access.ALL,
                PagingLevel.L4K,
                false,
                small[slot + WORD]);
    }

    /**
     * Tells which flushes are applied to what is filled from now on.
     *
     * @param sequence of the last one
     */
    public void applied(long sequence) {
        fills.applied(sequence);
    }

    private int find(long[] mappings, int level, long gva) {
        int shift = PagingLevel.gfnShift(level) + Gfn.PAGE_SHIFT;
        int slot = slotOf(mappings.length, gva >>> shift);
        return mappings[slot] == tagOf(gva, shift) ? slot : -1;
    }

    /**
     * Remembers a mapping that a walk has just found.
     *
     * @param gva guest linear address that was walked
     * @param r what the guest's tables gave
     * @param level level at which both tables have a leaf: the smaller one of theirs
     * @param second bits of {@link Access} that later accesses may do as far as the second level goes
     * @param guestDirty whether the guest's leaf has D
     */
    @HotPath
    void insert(long gva, LinearResult r, int level, int second, boolean guestDirty) {
        int flags = r.attributes | second << SECOND_SHIFT | (guestDirty ? GUEST_DIRTY : 0);
        put(small, PagingLevel.L4K, gva, r.hpa & -Gfn.PAGE_SIZE | flags, r.gpa & -Gfn.PAGE_SIZE | r.level);
        if (level != PagingLevel.L4K) {
            long base = -PagingLevel.bytes(level);
            put(level == PagingLevel.L2M ? huge2M : huge1G, level, gva, r.hpa & base | flags, r.gpa & base | r.level);
        }
    }

    @HotPath
    private void put(long[] mappings, int level, long gva, long word, long gpa) {
        int shift = PagingLevel.gfnShift(level) + Gfn.PAGE_SHIFT;
        int slot = slotOf(mappings.length, gva >>> shift);
        mappings[slot] = tagOf(gva, shift);
        mappings[slot + WORD] = word;
        mappings[slot + GPA] = gpa;
        if (Debug.PROVE && fills != null) {
            mappings[slot + FILLED] = fills.now();
        }
    }

    /**
     * The guest's table of a level for an address.
     *
     * @param level 1 to 4
     * @return its guest physical address, with {@link GuestPermissions#RIGHTS} of all entries above it in the low
     *     bits, or {@link #MISS}
     */
    @HotPath
    long table(long gva, int level) {
        long[] array = tables[level];
        int shift = PagingLevel.gfnShift(level + 1) + Gfn.PAGE_SHIFT;
        int slot = slotOfTable(array.length, gva >>> shift);
        return array[slot] == tagOf(gva, shift) ? array[slot + WORD] : MISS;
    }

    /** Remembers a table, all of whose entries above have A. */
    @HotPath
    void insertTable(long gva, int level, long table) {
        long[] array = tables[level];
        int shift = PagingLevel.gfnShift(level + 1) + Gfn.PAGE_SHIFT;
        int slot = slotOfTable(array.length, gva >>> shift);
        array[slot] = tagOf(gva, shift);
        array[slot + WORD] = table;
    }

    GuestPermissions permissions() {
        return permissions;
    }

    /** Whether the registers and the root are those that are loaded. */
    @HotPath
    boolean isLoaded(GuestPaging paging, long rootPointer) {
        return permissions != null && permissions.paging == paging && root == rootPointer;
    }

    /**
     * Enters a root of the second level. Nothing that was made under another one is used after that.
     *
     * @param rootPointer from {@link HardwareWalker#makeRootPointer}
     */
    public void enterRoot(long rootPointer) {
        if (root != rootPointer) {
            flushAll();
            root = rootPointer;
        }
    }

    /**
     * Loads the registers, and forgets what the manual says that the change of each of them makes a processor forget:
     *
     * <pre>
     *  CR3                                the VPID's mappings that are not global, and its tables
     *  CR4.SMEP from 0 to 1               everything of the VPID
     *  CR4.LA57, EFER.NX, what CPUID says everything: mappings were made by other rules
     *  CR0.WP, CR4.SMAP, CR4.PKE, PKRU    nothing
     * </pre>
     *
     * @param paging the registers from now on
     */
    public void load(GuestPaging paging) {
        GuestPaging old = permissions == null ? null : permissions.paging;
        if (paging.equals(old)) {
            permissions = permissions.paging == paging ? permissions : new GuestPermissions(paging);
            return;
        }
        permissions = new GuestPermissions(paging);
        if (old == null
                || old.levels() != paging.levels()
                || old.noExecute() != paging.noExecute()
                || old.physicalAddressBits() != paging.physicalAddressBits()
                || old.gigabytePages() != paging.gigabytePages()) {
            flushAll();
        } else if (paging.smep() && !old.smep()) {
            flushVpid(vpid);
        } else if (paging.cr3() != old.cr3()) {
            flushNonGlobal(vpid);
        }
    }

    /**
     * Changes the VPID, or ASID. Forgets nothing.
     *
     * @param value 1 to 65535
     */
    public void useVpid(int value) {
        checkVpid(value);
        vpid = value;
        context = (long) value << PAGE_BITS;
        spread = value * SPREAD;
    }

    /** {@return the VPID in use} */
    public int vpid() {
        return vpid;
    }

    /** Forgets everything, of all VPIDs: INVEPT, of this root or all, INVVPID type 2, and a change of the root. */
    public void flushAll() {
        Arrays.fill(small, NO_TAG);
        Arrays.fill(huge2M, NO_TAG);
        Arrays.fill(huge1G, NO_TAG);
        forgetTables();
    }

    /**
     * Forgets all of one VPID, global pages too: INVVPID type 1.
     *
     * @param ofVpid 1 to 65535
     */
    public void flushVpid(int ofVpid) {
        checkVpid(ofVpid);
        flushVpid(small, ofVpid, false);
        flushVpid(huge2M, ofVpid, false);
        flushVpid(huge1G, ofVpid, false);
        forgetTables(ofVpid);
    }

    /**
     * Forgets all of one VPID except global pages: INVVPID type 3, MOV to CR3.
     *
     * @param ofVpid 1 to 65535
     */
    public void flushNonGlobal(int ofVpid) {
        checkVpid(ofVpid);
        flushVpid(small, ofVpid, true);
        flushVpid(huge2M, ofVpid, true);
        flushVpid(huge1G, ofVpid, true);
        forgetTables(ofVpid);
    }

    private static void flushVpid(long[] mappings, int ofVpid, boolean keepGlobal) {
        for (int slot = 0; slot < mappings.length; slot += 1 << MAPPING_SHIFT) {
            boolean kept = keepGlobal && (mappings[slot + WORD] & LinearResult.GLOBAL) != 0;
            if (isOfVpid(mappings[slot], ofVpid) && !kept) {
                mappings[slot] = NO_TAG;
            }
        }
    }

    /**
     * Forgets a page of one VPID, whatever its size, global or not, and all tables of that VPID: INVLPG, INVVPID type
     * 0.
     *
     * @param ofVpid 1 to 65535
     * @param gva any address of the page, canonical
     */
    public void flushPage(int ofVpid, long gva) {
        checkVpid(ofVpid);
        forgetPage(ofVpid, gva);
        forgetTables(ofVpid);
    }

    /**
     * Forgets what a page fault at an address makes a processor forget: all pieces of its page, and the tables that
     * lead to it, of the VPID in use. So the access, when it is repeated, sees what the guest has changed without a
     * flush.
     */
    void forget(long gva) {
        forgetPage(vpid, gva);
        for (int level = PagingLevel.L4K; level < TABLES.length; level++) {
            int shift = PagingLevel.gfnShift(level + 1) + Gfn.PAGE_SHIFT;
            int slot = slotOfTable(tables[level].length, gva >>> shift);
            if (tables[level][slot] == tagOf(gva, shift)) {
                tables[level][slot] = NO_TAG;
            }
        }
    }

    private void forgetPage(int ofVpid, long gva) {
        forgetPage(small, PagingLevel.L4K, ofVpid, gva);
        forgetPage(huge2M, PagingLevel.L2M, ofVpid, gva);
        forgetPage(huge1G, PagingLevel.L1G, ofVpid, gva);
    }

    private static void forgetPage(long[] mappings, int level, int ofVpid, long gva) {
        for (int slot = 0; slot < mappings.length; slot += 1 << MAPPING_SHIFT) {
            if (!isOfVpid(mappings[slot], ofVpid)) {
                continue;
            }
            // The guest's page, of which this is a piece.
            int shift = PagingLevel.gfnShift((int) mappings[slot + GPA] & LEVEL_MASK);
            long firstPage = (mappings[slot] & PAGE_MASK) << PagingLevel.gfnShift(level) & PAGE_MASK;
            if (firstPage >>> shift == (Gfn.of(gva) & PAGE_MASK) >>> shift) {
                mappings[slot] = NO_TAG;
            }
        }
    }

    /**
     * Forgets every mapping that leads to a range of guest frames, and all tables.
     *
     * @param startGfn first frame
     * @param endGfn frame after the last one
     */
    public void flushRange(long startGfn, long endGfn) {
        flushRange(small, PagingLevel.L4K, startGfn, endGfn);
        flushRange(huge2M, PagingLevel.L2M, startGfn, endGfn);
        flushRange(huge1G, PagingLevel.L1G, startGfn, endGfn);
        forgetTables();
    }

    private static void flushRange(long[] mappings, int level, long startGfn, long endGfn) {
        long pages = 1L << PagingLevel.gfnShift(level);
        for (int slot = 0; slot < mappings.length; slot += 1 << MAPPING_SHIFT) {
            long gfn = Gfn.of(mappings[slot + GPA]);
            if (mappings[slot] != NO_TAG && gfn < endGfn && gfn + pages > startGfn) {
                mappings[slot] = NO_TAG;
            }
        }
    }

    private void forgetTables() {
        for (int level = PagingLevel.L4K; level < TABLES.length; level++) {
            Arrays.fill(tables[level], NO_TAG);
        }
    }

    private void forgetTables(int ofVpid) {
        for (int level = PagingLevel.L4K; level < TABLES.length; level++) {
            long[] array = tables[level];
            for (int slot = 0; slot < array.length; slot += 1 << TABLE_SHIFT) {
                if (isOfVpid(array[slot], ofVpid)) {
                    array[slot] = NO_TAG;
                }
            }
        }
    }

    /** {@return how many mappings are cached, of all VPIDs, each piece counted} */
    public int validMappings() {
        return count(small, MAPPING_SHIFT) + count(huge2M, MAPPING_SHIFT) + count(huge1G, MAPPING_SHIFT);
    }

    /** {@return how many of the guest's tables are cached, of all VPIDs} */
    public int validTables() {
        int valid = 0;
        for (int level = PagingLevel.L4K; level < TABLES.length; level++) {
            valid += count(tables[level], TABLE_SHIFT);
        }
        return valid;
    }

    /** {@return how many mappings there is room for} */
    public int capacity() {
        return small.length + huge2M.length + huge1G.length >> MAPPING_SHIFT;
    }

    /**
     * Shows what one mapping says of the second level, to a checker, which may run on another thread if the owner is
     * at rest.
     *
     * @param index 0 to {@link #capacity}, exclusive
     * @param view gets guest frame, level, host frame and permissions of the second level if there is a mapping
     * @return whether there is one
     */
    public boolean mappingAt(int index, TlbView view) {
        int slot = index << MAPPING_SHIFT;
        if (slot < small.length) {
            return show(small, slot, PagingLevel.L4K, view);
        }
        slot -= small.length;
        return slot < huge2M.length
                ? show(huge2M, slot, PagingLevel.L2M, view)
                : show(huge1G, slot - huge2M.length, PagingLevel.L1G, view);
    }

    private static boolean show(long[] mappings, int slot, int level, TlbView view) {
        if (mappings[slot] == NO_TAG) {
            return false;
        }
        long word = mappings[slot + WORD];
        view.show(
                Gfn.of(mappings[slot + GPA]),
                level,
                word & HardwareWalker.ADDRESS,
                (int) (word >>> SECOND_SHIFT) & Access.ALL);
        return true;
    }

    private static int count(long[] array, int shift) {
        int valid = 0;
        for (int slot = 0; slot < array.length; slot += 1 << shift) {
            valid += array[slot] != NO_TAG ? 1 : 0;
        }
        return valid;
    }

    private static void checkVpid(int value) {
        if (value < FIRST_VPID || value > MAX_VPID) {
            throw new IllegalArgumentException(
                    "VPID is out of range: vpid=" + value + ", min=" + FIRST_VPID + ", max=" + MAX_VPID);
        }
    }

    /** The tag of what is found by the bits of an address from {@code shift} on. */
    @HotPath
    private long tagOf(long gva, int shift) {
        return gva >>> shift & PAGE_MASK >>> shift - Gfn.PAGE_SHIFT | context;
    }

    private static boolean isOfVpid(long tag, int ofVpid) {
        return tag != NO_TAG && tag >>> PAGE_BITS == ofVpid;
    }

    @HotPath
    private int slotOf(int length, long number) {
        return (((int) number ^ spread) << MAPPING_SHIFT) & length - 1;
    }

    @HotPath
    private int slotOfTable(int length, long number) {
        return (((int) number ^ spread) << TABLE_SHIFT) & length - 1;
    }
}
