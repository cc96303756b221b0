package dev.tdpmmu.hardware;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;

/**
 * Puts combinations of a {@link GuestPagingMatrix} before the walker, in memory, and compares its verdict and what it
 * leaves in the guest's tables with the {@link GuestPagingModel}. Nothing is allocated for a combination, and an
 * entry is written only if it differs from what is there.
 */
final class GuestPagingJudge implements AutoCloseable {
    /** Indices that differ from each other; bit 12, which PAT of a huge leaf must not leak into, is clear. */
    private static final long GVA_OF_4_LEVELS = 0xffff_9234_0640_2abcL;

    private static final long GVA_OF_5_LEVELS = 0xff2b_9234_0640_2abcL;

    private static final int LAST_VPID = 0xffff;
    private static final long ACCESSED = 1L << 5;
    private static final long DIRTY = 1L << 6;

    private static final int REGISTERS = -GuestPagingModel.NXE;

    private final GuestPagingShape shape;
    private final GuestPagingModel model = new GuestPagingModel();
    private final HandMadeGuest guest;
    private final Tlb tlb = new Tlb();
    private final LinearTlb linearTlb = new LinearTlb();
    private final LinearResult result = new LinearResult();

    // By situation without the access: the walker recognises registers by identity.
    private final GuestPaging[] registers = new GuestPaging[1 << GuestPagingModel.SITUATION_FLAGS - 5];

    // By level: what memory holds, and what it must hold after the accesses.
    private final long[] held = new long[6];
    private final long[] expected = new long[6];

    private int situation;
    private GuestPaging paging;
    private boolean noise;

    /** Accesses that were judged, and those of them that fault. */
    long accesses;

    long faults;

    GuestPagingJudge(VmConfig config, GuestPagingShape shape) {
        this.shape = shape;
        guest = new HandMadeGuest(config, shape.levels, shape.levels == 4 ? GVA_OF_4_LEVELS : GVA_OF_5_LEVELS);
        model.levels = shape.levels;
        for (int level = 1; level <= shape.levels; level++) {
            guest.set(level, 0);
        }
        long neighbour = GuestPagingBits.entry(neighbourFlags()) | guest.address(shape.leafLevel, true);
        guest.set(shape.leafLevel, neighbour(), neighbour);
        linearTlb.enterRoot(guest.rootPointer);
    }

    HandMadeGuest guest() {
        return guest;
    }

    /** Judges one access with nothing cached of the guest. */
    void judge(int packedEntries, int newSituation) {
        arrange(packedEntries, newSituation);
        forgetAll();
        access(situation, false);
        assertTables();
    }

    /**
     * Judges an access that comes after another one, a supervisor's read, which has filled the caches. What was
     * cached for the combination before this one is gone by INVLPG alone.
     */
    void judgeSecondAccess(int packedEntries, int newSituation) {
        arrange(packedEntries, newSituation);
        linearTlb.flushPage(linearTlb.vpid(), guest.gva);
        access(situation & (REGISTERS | GuestPagingModel.AC), true);
        access(situation, true);
        assertTables();
    }

    /** Judges an access, by itself and after another one, with the flags of each level's entry given. */
    void judgeLevels(int[] flags, int newSituation) {
        for (int order = 0; order < 2; order++) {
            setSituation(newSituation);
            noise = order != 0;
            for (int level = shape.leafLevel; level <= shape.levels; level++) {
                want(level, flags[level]);
            }
            if (order == 0) {
                forgetAll();
            } else {
                linearTlb.flushPage(linearTlb.vpid(), guest.gva);
                access(situation & (REGISTERS | GuestPagingModel.AC), true);
            }
            access(situation, order != 0);
            assertTables();
        }
    }

    private void setSituation(int newSituation) {
        situation = newSituation;
        int index = newSituation >>> 5;
        if (registers[index] == null) {
            registers[index] = GuestPagingBits.registers(guest.cr3(), shape.levels, newSituation);
        }
        paging = registers[index];
    }

    /**
     * Judges an access whose tables are cached but not its page: a supervisor has just read the page behind it, which
     * permits everything.
     */
    void judgeBesideNeighbour(int packedEntries, int newSituation) {
        arrange(packedEntries, newSituation);
        linearTlb.flushPage(linearTlb.vpid(), guest.gva);
        int leaf = model.entries[shape.leafLevel];
        model.entries[shape.leafLevel] = neighbourFlags();
        model.situation = situation & (REGISTERS | GuestPagingModel.AC);
        model.judge();
        int access = GuestPagingBits.access(model.situation);
        int outcome = guest.walker.walk(tlb, linearTlb, guest.rootPointer, paging, neighbour(), access, result);
        accesses++;
        if (model.errorCode == GuestPagingModel.NO_FAULT
                ? outcome != GuestPageWalker.OK
                : outcome != GuestPageWalker.PAGE_FAULT || result.errorCode != model.errorCode) {
            throw disagreement(model.situation, "of the page behind it the walker says " + outcomeText(outcome));
        }
        for (int level = shape.tableLevel(); level <= shape.levels; level++) {
            expected[level] |= flags(model.after[level]);
        }
        model.entries[shape.leafLevel] = leaf;
        access(situation, true);
        assertTables();
    }

    private int neighbourFlags() {
        return GuestPagingMatrix.plainLeaf(shape) | GuestPagingModel.ACCESSED | GuestPagingModel.DIRTY;
    }

    private long neighbour() {
        return guest.gva + PagingLevel.bytes(shape.leafLevel);
    }

    private void arrange(int packedEntries, int newSituation) {
        setSituation(newSituation);
        noise = (Integer.bitCount(packedEntries) & 1) != 0;
        want(shape.leafLevel, GuestPagingMatrix.leafOf(packedEntries));
        want(shape.tableLevel(), GuestPagingMatrix.tableOf(packedEntries));
        int above = GuestPagingMatrix.PLAIN | (noise ? GuestPagingModel.ACCESSED : 0);
        for (int level = shape.upperLevel(); level <= shape.levels; level++) {
            boolean isUpper = level == shape.upperLevel();
            want(level, isUpper ? GuestPagingMatrix.upperOf(packedEntries) | above & GuestPagingModel.ACCESSED : above);
        }
    }

    private void want(int level, int flags) {
        boolean mapsPage = level == shape.leafLevel;
        model.entries[level] = flags;
        long entry = GuestPagingBits.entry(flags)
                | guest.address(level, mapsPage)
                | (noise ? GuestPagingBits.ignored(level, mapsPage) : 0);
        expected[level] = entry;
        if (held[level] != entry) {
            guest.set(level, entry);
            held[level] = entry;
        }
    }

    /** A VPID that was not used since everything was flushed has nothing cached, and costs no flush. */
    private void forgetAll() {
        int next = linearTlb.vpid() + 1;
        if (next > LAST_VPID) {
            linearTlb.flushAll();
            next = LinearTlb.FIRST_VPID;
        }
        linearTlb.useVpid(next);
    }

    private void access(int how, boolean mayHit) {
        accesses++;
        model.situation = how;
        model.judge();
        int access = GuestPagingBits.access(how);
        if (mayHit) {
            linearTlb.load(paging);
            long hpa = linearTlb.translate(guest.gva, access);
            if (hpa != LinearTlb.MISS) {
                if (model.errorCode != GuestPagingModel.NO_FAULT || hpa != expectedHpa()) {
                    throw disagreement(how, "the TLB gives hpa=0x" + Long.toHexString(hpa));
                }
                noteFlags();
                return;
            }
        }
        int outcome = guest.walker.walk(tlb, linearTlb, guest.rootPointer, paging, guest.gva, access, result);
        if (outcome != GuestPageWalker.OK) {
            faults++;
            if (outcome != GuestPageWalker.PAGE_FAULT || result.errorCode != model.errorCode) {
                throw disagreement(how, "the walker says " + outcomeText(outcome));
            }
        } else if (model.errorCode != GuestPagingModel.NO_FAULT
                || result.level != shape.leafLevel
                || result.gpa != expectedGpa()
                || result.hpa != expectedHpa()) {
            throw disagreement(how, "the walker says " + outcomeText(outcome));
        }
        noteFlags();
    }

    private long expectedGpa() {
        long offset = guest.gva & PagingLevel.bytes(shape.leafLevel) - 1;
        return guest.address(shape.leafLevel, true) + offset;
    }

    private long expectedHpa() {
        return expectedGpa() + HandMadeGuest.DATA_OFFSET;
    }

    private void noteFlags() {
        for (int level = shape.leafLevel; level <= shape.levels; level++) {
            expected[level] |= flags(model.after[level]);
        }
    }

    private static long flags(int modelFlags) {
        return ((modelFlags & GuestPagingModel.ACCESSED) != 0 ? ACCESSED : 0)
                | ((modelFlags & GuestPagingModel.DIRTY) != 0 ? DIRTY : 0);
    }

    private void assertTables() {
        for (int level = shape.leafLevel; level <= shape.levels; level++) {
            long now = guest.get(level);
            held[level] = now;
            if (now != expected[level]) {
                throw disagreement(
                        situation,
                        "the entry of level " + level + " is 0x" + Long.toHexString(now) + ", expected 0x"
                                + Long.toHexString(expected[level]));
            }
        }
    }

    private String outcomeText(int outcome) {
        return switch (outcome) {
            case GuestPageWalker.OK ->
                "level=" + result.level + ", gpa=0x" + Long.toHexString(result.gpa) + ", hpa=0x"
                        + Long.toHexString(result.hpa);
            case GuestPageWalker.PAGE_FAULT -> "errorCode=0x" + Long.toHexString(result.errorCode);
            default ->
                "second level: outcome=" + result.secondLevel + ", gpa=0x" + Long.toHexString(result.secondLevelGpa);
        };
    }

    private AssertionError disagreement(int how, String what) {
        String expected = model.errorCode == GuestPagingModel.NO_FAULT
                ? "no fault, gpa=0x" + Long.toHexString(expectedGpa())
                : "errorCode=0x" + Integer.toHexString(model.errorCode);
        var text = new StringBuilder(what + "; the model says " + expected + ": " + shape);
        for (int level = shape.levels; level >= shape.leafLevel; level--) {
            text.append(", level ").append(level).append(" (");
            text.append(GuestPagingBits.text(model.entries[level], GuestPagingBits.ENTRY_NAMES))
                    .append(')');
        }
        text.append(noise ? ", ignored bits set" : ", ignored bits clear").append(", access and processor (");
        text.append(GuestPagingBits.text(how, GuestPagingBits.SITUATION_NAMES)).append(')');
        return new AssertionError(text.toString());
    }

    @Override
    public void close() {
        guest.close();
    }
}
