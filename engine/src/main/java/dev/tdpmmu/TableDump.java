package dev.tdpmmu;

import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * All that the tables of a VM map, as ranges of neighbouring entries that are alike, after the kernel's dump of page
 * tables.
 *
 * <p>Made without a lock while guests run: each entry is what it was at one moment, and two entries may be of
 * different moments. A dump of a VM at rest is exact.
 *
 * @param vm name of the VM
 * @param mode format of the tables
 * @param framesMerged whether neighbours were merged although their frames do not follow each other
 * @param slots memory slots when the dump began, by address
 * @param roots the valid root, if one was made yet; with {@link DumpOption#INVALID_ROOTS} the invalid ones too
 */
public record TableDump(String vm, PagingMode mode, boolean framesMerged, List<Slot> slots, List<Root> roots) {
    /** Copies the lists. */
    public TableDump {
        slots = List.copyOf(slots);
        roots = List.copyOf(roots);
    }

    /**
     * A memory slot.
     *
     * @param id of the slot
     * @param start first guest physical address
     * @param end guest physical address behind the last
     * @param flags what it is told
     */
    public record Slot(int id, long start, long end, Set<SlotFlag> flags) {
        /** Copies the flags. */
        public Slot {
            flags = Set.copyOf(flags);
        }
    }

    /**
     * The tables below one root.
     *
     * @param hpa host physical address of the root table
     * @param level of the root table, 4 or 5
     * @param invalid whether it is being zapped
     * @param ranges by address, without overlap
     * @param tablePages linked table pages of level 1, of level 2, up to the root's
     */
    public record Root(long hpa, int level, boolean invalid, List<TableRange> ranges, List<Long> tablePages) {
        /** Copies the lists. */
        public Root {
            ranges = List.copyOf(ranges);
            tablePages = List.copyOf(tablePages);
        }

        /**
         * Returns how much leaves of one size map.
         *
         * @param leafLevel 1 to 3
         * @return bytes of guest memory
         */
        public long mappedBytes(int leafLevel) {
            long bytes = 0;
            for (TableRange range : ranges) {
                bytes += range.kind() == EntryKind.LEAF && range.level() == leafLevel ? range.bytes() : 0;
            }
            return bytes;
        }

        /**
         * Returns how many entries of one kind there are.
         *
         * @param kind of the entries
         * @return entries
         */
        public long entries(EntryKind kind) {
            long count = 0;
            for (TableRange range : ranges) {
                count += range.kind() == kind ? range.entries() : 0;
            }
            return count;
        }

        /**
         * Returns the parts of the slots that no leaf maps.
         *
         * @param slots of the dump
         * @return holes by slot and address; neighbouring pages of a slot are one hole
         */
        public List<Hole> holes(List<Slot> slots) {
            List<Hole> holes = new ArrayList<>();
            for (Slot slot : slots) {
                long from = slot.start();
                for (TableRange range : ranges) {
                    if (range.kind() == EntryKind.LEAF && range.end() > from && range.start() < slot.end()) {
                        addHole(holes, slot, from, range.start());
                        from = range.end();
                    }
                }
                addHole(holes, slot, from, slot.end());
            }
            return holes;
        }

        private static void addHole(List<Hole> holes, Slot slot, long from, long to) {
            if (from < to) {
                holes.add(new Hole(slot.id(), from, to));
            }
        }
    }

    /**
     * A part of a slot that no leaf maps.
     *
     * @param slot id of the slot
     * @param start first guest physical address
     * @param end guest physical address behind the last
     */
    public record Hole(int slot, long start, long end) {}

    /**
     * Returns what has changed from one dump to another, in their valid roots.
     *
     * @param before older dump
     * @param after newer dump
     * @return changes by address
     * @throws IllegalArgumentException if the tables are of different formats
     */
    public static TableDiff diff(TableDump before, TableDump after) {
        return TableDiff.between(before, after);
    }

    /** Ranges of the valid root, none without. */
    List<TableRange> validRanges() {
        for (Root root : roots) {
            if (!root.invalid()) {
                return root.ranges();
            }
        }
        return List.of();
    }

    /**
     * Returns the dump for people: a line a range, under a header for each slot.
     *
     * @return lines, each ended by a line feed
     */
    public String toText() {
        return DumpText.of(this);
    }

    /**
     * Returns the dump for programs. Addresses and sizes are numbers of bytes.
     *
     * @return a JSON object
     */
    public String toJson() {
        return DumpJson.of(this);
    }

    /** Writes a number of bytes in the largest unit that divides it, for instance {@code 6M}. */
    static String sizeText(long bytes) {
        int unit = 0;
        long size = bytes;
        while (size != 0 && size % 1024 == 0) {
            size /= 1024;
            unit++;
        }
        return size + " KMGTP".substring(unit, unit + 1).strip();
    }
}
