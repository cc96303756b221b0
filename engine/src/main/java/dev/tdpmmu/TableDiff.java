package dev.tdpmmu;

import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * What has changed between two dumps, by address.
 *
 * @param framesCompared whether frames count: false if one of the dumps does not tell them all
 * @param changes by address, without overlap
 */
public record TableDiff(boolean framesCompared, List<Change> changes) {
    /** Copies the list. */
    public TableDiff {
        changes = List.copyOf(changes);
    }

    /** How a change is called. */
    public enum What {
        /** There was no entry, and now there is one. */
        MAPPED("mapped"),
        /** There was an entry, and now there is none. */
        UNMAPPED("unmapped"),
        /** There is another entry. */
        CHANGED("changed");

        private final String text;

        What(String text) {
            this.text = text;
        }

        /**
         * Returns the change as one word, as texts and JSON have it.
         *
         * @return for instance {@code mapped}
         */
        public String text() {
            return text;
        }
    }

    /** What of an entry is different. */
    public enum Aspect {
        /** A huge leaf became smaller ones. */
        SPLIT("split"),
        /** Small leaves became a larger one. */
        MERGED("merged"),
        /** Something else is there, for instance a leaf where an MMIO entry was. */
        KIND("kind"),
        /** It allows other accesses. */
        PERMISSIONS("permissions"),
        /** It points to another frame. */
        FRAME("frame"),
        /** A differs. */
        ACCESSED("A"),
        /** D differs. */
        DIRTY("D");

        private final String text;

        Aspect(String text) {
            this.text = text;
        }

        /**
         * Returns the aspect as one word, as texts and JSON have it.
         *
         * @return for instance {@code permissions}
         */
        public String text() {
            return text;
        }
    }

    /**
     * One change of neighbouring pages.
     *
     * @param start first guest physical address
     * @param end guest physical address behind the last
     * @param what how it is called
     * @param aspects what is different, none unless {@link What#CHANGED}
     * @param before what was there; empty or one range
     * @param after what is there; empty or one range
     */
    public record Change(
            long start, long end, What what, Set<Aspect> aspects, List<TableRange> before, List<TableRange> after) {
        /** Copies the collections. */
        public Change {
            aspects = aspects.isEmpty() ? Set.of() : Collections.unmodifiableSet(EnumSet.copyOf(aspects));
            before = List.copyOf(before);
            after = List.copyOf(after);
        }
    }

    static TableDiff between(TableDump before, TableDump after) {
        if (before.mode() != after.mode()) {
            throw new IllegalArgumentException(
                    "dumps of different formats: before=" + before.mode() + ", after=" + after.mode());
        }
        return new Comparison(before, after).compare();
    }

    /**
     * Returns the changes for people, a line each.
     *
     * @return lines, each ended by a line feed
     */
    public String toText() {
        return DumpText.of(this);
    }

    /**
     * Returns the changes for programs. Addresses and sizes are numbers of bytes.
     *
     * @return a JSON object
     */
    public String toJson() {
        return DumpJson.of(this);
    }

    /** Goes through both lists of ranges at once, from one boundary of either to the next. */
    private static final class Comparison {
        private final boolean frames;
        private final List<TableRange> olds;
        private final List<TableRange> news;
        private final List<Change> changes = new ArrayList<>();

        Comparison(TableDump before, TableDump after) {
            frames = !before.framesMerged() && !after.framesMerged();
            olds = before.validRanges();
            news = after.validRanges();
        }

        TableDiff compare() {
            int o = 0;
            int n = 0;
            long at = 0;
            while (o < olds.size() || n < news.size()) {
                TableRange older = o < olds.size() ? olds.get(o) : null;
                TableRange newer = n < news.size() ? news.get(n) : null;
                at = Math.max(at, Math.min(startOf(older), startOf(newer)));
                long to = Math.min(boundary(older, at), boundary(newer, at));
                compare(partOf(older, at, to), partOf(newer, at, to), at, to);
                at = to;
                o += older != null && older.end() <= at ? 1 : 0;
                n += newer != null && newer.end() <= at ? 1 : 0;
            }
            return new TableDiff(frames, changes);
        }

        private static long startOf(TableRange range) {
            return range == null ? Long.MAX_VALUE : range.start();
        }

        /** The first address behind {@code at} at which the range begins or ends. */
        private static long boundary(TableRange range, long at) {
            if (range == null) {
                return Long.MAX_VALUE;
            }
            return range.start() > at ? range.start() : range.end();
        }

        private static List<TableRange> partOf(TableRange range, long from, long to) {
            return range == null || range.start() >= to ? List.of() : List.of(range.between(from, to));
        }

        private void compare(List<TableRange> older, List<TableRange> newer, long from, long to) {
            if (older.isEmpty() && newer.isEmpty()) {
                return;
            }
            if (older.isEmpty() || newer.isEmpty()) {
                What what = older.isEmpty() ? What.MAPPED : What.UNMAPPED;
                add(new Change(from, to, what, Set.of(), older, newer));
                return;
            }
            Set<Aspect> aspects = aspects(older.getFirst(), newer.getFirst());
            if (!aspects.isEmpty()) {
                add(new Change(from, to, What.CHANGED, aspects, older, newer));
            }
        }

        private Set<Aspect> aspects(TableRange older, TableRange newer) {
            Set<Aspect> aspects = EnumSet.noneOf(Aspect.class);
            addIf(aspects, older.kind() != newer.kind(), Aspect.KIND);
            addIf(aspects, older.level() > newer.level(), Aspect.SPLIT);
            addIf(aspects, older.level() < newer.level(), Aspect.MERGED);
            addIf(aspects, older.permissions() != newer.permissions(), Aspect.PERMISSIONS);
            addIf(aspects, frames && older.hpa() != newer.hpa(), Aspect.FRAME);
            addIf(aspects, older.accessed() != newer.accessed(), Aspect.ACCESSED);
            addIf(aspects, older.dirty() != newer.dirty(), Aspect.DIRTY);
            return aspects;
        }

        private static void addIf(Set<Aspect> aspects, boolean differs, Aspect aspect) {
            if (differs) {
                aspects.add(aspect);
            }
        }

        /** Lengthens the last change if this one goes on with it. */
        private void add(Change change) {
            Change last = changes.isEmpty() ? null : changes.getLast();
            if (last != null
                    && last.end() == change.start()
                    && last.what() == change.what()
                    && last.aspects().equals(change.aspects())
                    && goesOn(last.before(), change.before())
                    && goesOn(last.after(), change.after())) {
                changes.removeLast();
                changes.add(new Change(
                        last.start(),
                        change.end(),
                        last.what(),
                        last.aspects(),
                        joined(last.before(), change.before()),
                        joined(last.after(), change.after())));
                return;
            }
            changes.add(change);
        }

        private boolean goesOn(List<TableRange> first, List<TableRange> second) {
            return first.isEmpty() ? second.isEmpty() : first.getFirst().continuesWith(second.getFirst(), !frames);
        }

        private static List<TableRange> joined(List<TableRange> first, List<TableRange> second) {
            return first.isEmpty()
                    ? first
                    : List.of(first.getFirst()
                            .between(first.getFirst().start(), second.getFirst().end()));
        }
    }
}
