package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;

/**
 * A guest with one table of each level, whose entries a test sets bit by bit, and second-level tables that map all
 * that the guest's entries name.
 *
 * <pre>
 *  guest physical     second level                  host physical
 *  0     1 GiB        nothing
 *  1 GiB              one leaf of 2 MiB             frames that hold the guest's tables, {@link #TABLES_GPA}
 *  2 GiB to 64 GiB    a leaf of 1 GiB each          1 GiB higher; nobody reads or writes there
 * </pre>
 */
final class HandMadeGuest implements AutoCloseable {
    /**
     * Guest physical address of the frame from which the guest's tables lie; that of level n is n frames behind it.
     */
    static final long TABLES_GPA = 1L << 30;

    /** Where the guest's leaves lead to, before the page's own alignment. */
    static final long DATA_GPA = 0x8765_4000L;

    /** A second-level leaf is 1 GiB away from what it maps. */
    static final long DATA_OFFSET = 1L << 30;

    // What second-level entries of both families have: R or P, W, X or U; EPT's leaves also the type write-back.
    private static final long ALL = 7;
    private static final long WRITE_BACK = 6L << 3;
    private static final long LARGE = 1L << 7;

    private final TablePool pool = new TablePool(1, new MemoryAccount(Long.MAX_VALUE));
    private final long[] tables = new long[6];
    private final FrameRun run;
    private final long hostOffset;
    private final int outerLevels;
    private final long leafBits;

    final HardwareWalker secondLevel;
    final GuestPageWalker walker;
    final long rootPointer;
    final int levels;
    final long gva;

    /** Makes tables that hold nothing yet. */
    HandMadeGuest(VmConfig config, int levels, long gva) {
        this.levels = levels;
        this.gva = gva;
        outerLevels = config.pagingMode().levels();
        leafBits = ALL | LARGE | (config.pagingMode().isEpt() ? WRITE_BACK : 0);
        run = new FrameAllocator(new MemoryAccount(Long.MAX_VALUE))
                .allocate(PagingLevel.L2M, PagingLevel.bytes(PagingLevel.L2M));
        hostOffset = run.hpa() - TABLES_GPA;
        for (int level = PagingLevel.L2M; level <= outerLevels; level++) {
            tables[level] = pool.take();
            for (int index = 0; index < PagingLevel.ENTRIES; index++) {
                SpteAccess.setPlain(tables[level] + index * 8L, 0);
            }
            if (level > PagingLevel.L2M) {
                int index = level == PagingLevel.L1G ? 1 : 0;
                SpteAccess.setPlain(tables[level] + index * 8L, tables[level - 1] | ALL);
            }
        }
        SpteAccess.setPlain(outerLeafAddress(TABLES_GPA), run.hpa() | leafBits);
        for (long gpa = 2L << 30; gpa < 64L << 30; gpa += 1L << 30) {
            SpteAccess.setPlain(outerLeafAddress(gpa), gpa + DATA_OFFSET | leafBits);
        }
        secondLevel = HardwareWalker.of(config);
        walker = new GuestPageWalker(secondLevel, config);
        rootPointer = secondLevel.makeRootPointer(tables[outerLevels]);
    }

    /** Where the second-level leaf of a guest physical address is: of 2 MiB for the tables, else of 1 GiB. */
    long outerLeafAddress(long gpa) {
        int level =
                Gfn.alignDown(Gfn.of(gpa), PagingLevel.L1G) == Gfn.of(TABLES_GPA) ? PagingLevel.L2M : PagingLevel.L1G;
        return SpteAccess.addressOf(tables[level], Gfn.of(gpa), level);
    }

    /** What a test that changes a second-level leaf puts back. */
    long outerLeafBits() {
        return leafBits;
    }

    /** Guest physical address of the table of a level. */
    long tableGpa(int level) {
        return TABLES_GPA + level * Gfn.PAGE_SIZE;
    }

    long cr3() {
        return tableGpa(levels);
    }

    long entryGpa(int level, long linear) {
        return tableGpa(level) + PagingLevel.index(linear >>> Gfn.PAGE_SHIFT, level) * 8L;
    }

    long entryHpa(int level, long linear) {
        return entryGpa(level, linear) + hostOffset;
    }

    /** Sets the entry of the guest's own linear address. */
    void set(int level, long entry) {
        set(level, gva, entry);
    }

    long get(int level) {
        return get(level, gva);
    }

    /** Sets the entry of another linear address: it lies in the same tables, behind other indices. */
    void set(int level, long linear, long entry) {
        GuestBytes.putLong(entryHpa(level, linear), entry);
    }

    long get(int level, long linear) {
        return GuestBytes.getLong(entryHpa(level, linear));
    }

    /** The address bits of an entry of a level that leads where this guest's do. */
    long address(int level, boolean mapsPage) {
        return mapsPage ? DATA_GPA & -PagingLevel.bytes(level) : tableGpa(level - 1);
    }

    @Override
    public void close() {
        run.close();
        for (int level = PagingLevel.L2M; level <= outerLevels; level++) {
            pool.give(tables[level]);
        }
        pool.close();
    }
}
