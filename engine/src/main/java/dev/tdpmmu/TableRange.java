package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;

/**
 * Neighbouring entries of one level that are alike.
 *
 * @param start first guest physical address
 * @param end guest physical address behind the last
 * @param level level of the tables that hold them, 1 to 5
 * @param entries how many, above 0
 * @param kind what they are: never {@link EntryKind#NOT_PRESENT} or {@link EntryKind#TABLE}
 * @param permissions bits of {@link Access} that each allows; of MMIO entries those that they remember
 * @param accessed whether each counts as used, as in {@link Translation}
 * @param dirty whether each counts as stored through, as in {@link Translation}
 * @param hpa host physical address behind {@code start}; -1 unless they are leaves
 */
public record TableRange(
        long start,
        long end,
        int level,
        long entries,
        EntryKind kind,
        int permissions,
        boolean accessed,
        boolean dirty,
        long hpa) {
    /** {@return the bytes of guest memory that the entries cover} */
    public long bytes() {
        return end - start;
    }

    /** Whether a range that begins where this one ends may be counted to it. */
    boolean continuesWith(TableRange next, boolean anyFrame) {
        return end == next.start && isLike(next) && (anyFrame || hpa < 0 || hpa + bytes() == next.hpa);
    }

    /** Whether nothing but place and frame differ. */
    boolean isLike(TableRange other) {
        return level == other.level
                && kind == other.kind
                && permissions == other.permissions
                && accessed == other.accessed
                && dirty == other.dirty;
    }

    /** The part of a range, or a range that goes on like it, for comparisons; an entry that is cut counts as one. */
    TableRange between(long from, long to) {
        long count = Math.max(1, (to - from) / PagingLevel.bytes(level));
        return new TableRange(
                from, to, level, count, kind, permissions, accessed, dirty, hpa < 0 ? hpa : hpa + (from - start));
    }

    /** This range with the one that continues it. */
    TableRange and(TableRange next) {
        return new TableRange(start, next.end, level, entries + next.entries, kind, permissions, accessed, dirty, hpa);
    }

    /** {@return the attributes in a few words, for instance {@code 4K leaf rw- AD}} */
    public String attributes() {
        return PagingLevel.name(level) + " " + kind.text() + " " + Access.text(permissions) + " "
                + (accessed ? "A" : "-") + (dirty ? "D" : "-");
    }
}
