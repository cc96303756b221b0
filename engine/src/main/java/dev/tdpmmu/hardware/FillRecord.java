package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import java.util.Arrays;

/**
 * Remembers for each entry of one {@link Tlb} which flushes its vCPU had applied when the entry was filled, and has the
 * {@link CoherenceOracle} judge each use. Exists in proof runs only.
 *
 * <p>Stamps are written when an entry is, and never when one is removed: an entry that a flush should have removed
 * still has its old stamp. Belongs to the thread of the TLB.
 */
public final class FillRecord {
    private final CoherenceOracle oracle;
    private final String vcpuName;

    /** By half the place in the array of the TLB: sequence that was applied when the entry was filled. */
    private final long[] filled = new long[Tlb.WORDS / 2];

    /** The same: sequence up to which the entry was found apart from all flushes. */
    private final long[] judged = new long[Tlb.WORDS / 2];

    private long applied;

    FillRecord(CoherenceOracle oracle, String vcpuName, long applied) {
        this.oracle = oracle;
        this.vcpuName = vcpuName;
        this.applied = applied;
        Arrays.fill(filled, applied);
        Arrays.fill(judged, applied);
    }

    void applied(long sequence) {
        oracle.requireIntact();
        applied = sequence;
    }

    /** The stamp of an entry that is filled now. */
    long now() {
        return applied;
    }

    /** An entry was filled from the tables. */
    void fill(int slot) {
        restore(slot, applied);
    }

    /** An entry was filled from a larger one: it is as old as that. */
    void inherit(int slot, int from) {
        restore(slot, filled[from >> 1]);
    }

    /** An entry came back that was filled earlier. */
    void restore(int slot, long stamp) {
        filled[slot >> 1] = stamp;
        judged[slot >> 1] = stamp;
    }

    /**
     * Judges the use of an entry in the array of the TLB.
     *
     * @param level of a page, or of the table that the entry points to
     */
    void judge(int slot, long gpa, int access, int level, boolean table, long word) {
        oracle.requireIntact();
        long before = judged[slot >> 1];
        if (oracle.latest() - before > 0) {
            judged[slot >> 1] = examine(before, filled[slot >> 1], gpa, access, level, table, word);
        }
    }

    /** Judges the use of an entry that is only in the hoard. */
    void judgeHoarded(long stamp, long gpa, int access, int level, boolean table, long word) {
        oracle.requireIntact();
        if (oracle.latest() - stamp > 0) {
            examine(stamp, stamp, gpa, access, level, table, word);
        }
    }

    /** Returns the sequence up to which the entry is apart from all flushes. */
    private long examine(long before, long stamp, long gpa, int access, int level, boolean table, long word) {
        oracle.countJudgement();
        int covering = table ? level + 1 : level;
        long startGfn = Gfn.alignDown(Gfn.of(gpa), covering);
        long endGfn = startGfn + PagingLevel.pages(covering);
        long last = oracle.latest();
        long first = before + 1;
        if (last - first >= CoherenceOracle.HISTORY) {
            oracle.countUnknown(last - first - CoherenceOracle.HISTORY + 1);
            first = last - CoherenceOracle.HISTORY + 1;
        }
        long judgedNow = first - 1;
        boolean contiguous = true;
        for (long sequence = first; sequence - last <= 0; sequence++) {
            switch (oracle.coverage(sequence, startGfn, endGfn)) {
                case COVERED ->
                    throw oracle.fail(
                            text(gpa, access, level, table, word, stamp, startGfn, endGfn), stamp, startGfn, endGfn);
                case LOST -> oracle.countUnknown(1);
                case PENDING -> contiguous = false;
                case APART -> {}
            }
            if (contiguous) {
                judgedNow = sequence;
            }
        }
        return judgedNow;
    }

    private String text(
            long gpa, int access, int level, boolean table, long word, long stamp, long startGfn, long endGfn) {
        return "vcpu=" + vcpuName + ", gpa=0x" + Long.toHexString(gpa) + ", access=" + Access.text(access)
                + ", entry=[" + (table ? "table" : "page") + " gfn=0x" + Long.toHexString(startGfn) + "-0x"
                + Long.toHexString(endGfn) + ", level=" + PagingLevel.name(level) + ", frame=0x"
                + Long.toHexString(word & HardwareWalker.ADDRESS) + ", permissions=" + Access.text((int) word)
                + ", filled=" + stamp + "], applied=" + applied;
    }
}
