package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.List;

/**
 * What the words of a row mean: which processors, which entries, which access. A row stands for all processors that it
 * does not exclude, all its places and all its bits.
 */
final class ConformanceCase {
    /** An entry of the path, leaf or table, as a row wants it. */
    record Entry(int level, boolean leaf, long value) {}

    /** Bits that a family has in an entry that forbids nothing. */
    record Family(boolean ept, String letters, long[] bits, long leafBits, int typeShift) {
        static final Family EPT = new Family(true, "rwxu", new long[] {1, 2, 4, 1L << 10}, 6L << 3, 3);
        static final Family NPT = new Family(false, "pwun", new long[] {1, 2, 4, 1L << 63}, 0, 3);

        long permissions(ConformanceFile.Row row, String word) {
            if (word.length() != letters.length()) {
                throw row.bad("permissions need " + letters.length() + " letters", word);
            }
            long value = 0;
            for (int i = 0; i < bits.length; i++) {
                if (word.charAt(i) == letters.charAt(i)) {
                    value |= bits[i];
                } else if (word.charAt(i) != '-') {
                    throw row.bad("no permission, expected " + letters.charAt(i) + " or -", word);
                }
            }
            return value;
        }

        /** Tables and leaves around those of a row: nothing is forbidden. */
        long everything() {
            return ept ? 0x407 : 7;
        }
    }

    private static final List<String> PROCESSORS = List.of(
            "4-level",
            "5-level",
            "a/d",
            "no-a/d",
            "x-only",
            "no-x-only",
            "mbec",
            "no-mbec",
            "advanced",
            "no-nx",
            "gmet",
            "max-2M",
            "max-4K");

    private static final List<String> ACCESSES = List.of("read", "write", "fetch");
    private static final List<String> CIRCUMSTANCES =
            List.of("guest-table", "supervisor", "read-only", "no-execute", "privileged");

    private ConformanceCase() {}

    /** Every processor of the family that the words allow. */
    static List<VmConfig> processors(ConformanceFile.Row row, Family family, String text) {
        List<String> words = text.equals("-") ? List.of() : List.of(text.split(","));
        int width = 0;
        for (String word : words) {
            if (word.startsWith("width=")) {
                width = (int) row.number(word.substring("width=".length()));
            } else if (!PROCESSORS.contains(word)) {
                throw row.bad("no processor", word);
            }
        }
        var processors = new ArrayList<VmConfig>();
        for (int bits = 0; bits < 16; bits++) {
            int levels = (bits & 1) == 0 ? 4 : 5;
            boolean accessedDirty = (bits & 2) != 0;
            boolean executeOnly = (bits & 4) != 0;
            boolean modeBasedExecute = (bits & 8) != 0;
            boolean wanted = admits(words, "4-level", "5-level", levels == 4)
                    && admits(words, "a/d", "no-a/d", accessedDirty)
                    && admits(words, "x-only", "no-x-only", executeOnly)
                    && admits(words, "mbec", "no-mbec", modeBasedExecute);
            if (!wanted || !family.ept && bits > 1) {
                continue;
            }
            VmConfig.Builder builder = VmConfig.builder()
                    .pagingMode(PagingMode.valueOf((family.ept ? "EPT" : "NPT") + levels))
                    .hardware(hardware(words).withModeBasedExecute(modeBasedExecute));
            if (family.ept) {
                builder.accessedDirty(accessedDirty ? AccessedDirty.ON : AccessedDirty.OFF)
                        .executeOnly(executeOnly);
            }
            if (width != 0) {
                builder.physicalAddressBits(width);
            }
            processors.add(builder.build());
        }
        if (processors.isEmpty()) {
            throw row.bad("no processor is all of this", text);
        }
        return processors;
    }

    private static HardwareConfig hardware(List<String> words) {
        PageSize largest = words.contains("max-4K")
                ? PageSize.SIZE_4K
                : words.contains("max-2M") ? PageSize.SIZE_2M : PageSize.SIZE_1G;
        return HardwareConfig.DEFAULT
                .withLargestPage(largest)
                .withAdvancedExitInfo(words.contains("advanced"))
                .withNoExecute(!words.contains("no-nx"))
                .withGuestModeExecuteTrap(words.contains("gmet"));
    }

    private static boolean admits(List<String> words, String yes, String no, boolean value) {
        return !words.contains(value ? no : yes);
    }

    /** Every path that the words {@code place:entry&place:entry} stand for; empty if the tables lack such a level. */
    static List<List<Entry>> paths(ConformanceFile.Row row, Family family, VmConfig config, String text) {
        List<List<Entry>> paths = List.of(List.of());
        for (String part : text.split("&")) {
            int colon = part.indexOf(':');
            if (colon < 0) {
                throw row.bad("no entry, expected place:entry", part);
            }
            var longer = new ArrayList<List<Entry>>();
            for (Entry place : places(row, config, part.substring(0, colon))) {
                for (long value : values(row, family, config, place, part.substring(colon + 1))) {
                    for (List<Entry> path : paths) {
                        var extended = new ArrayList<Entry>(path);
                        extended.add(new Entry(place.level, place.leaf, value));
                        longer.add(extended);
                    }
                }
            }
            paths = longer;
        }
        return paths;
    }

    private static List<Entry> places(ConformanceFile.Row row, VmConfig config, String word) {
        var places = new ArrayList<Entry>();
        int levels = config.pagingMode().levels();
        for (int level = 1; level <= PagingLevel.L256T; level++) {
            boolean leafIsMeant = switch (word) {
                case "all", "leaves" -> level <= 3;
                case "huge" -> level == 2 || level == 3;
                default -> word.equals("leaf" + level);
            };
            boolean tableIsMeant = switch (word) {
                case "all", "tables" -> level >= 2;
                case "low-tables" -> level == 2 || level == 3;
                case "top-tables" -> level >= 4;
                default -> word.equals("table" + level);
            };
            if (leafIsMeant) {
                places.add(new Entry(level, true, 0));
            }
            if (tableIsMeant && level <= levels) {
                places.add(new Entry(level, false, 0));
            }
        }
        if (places.isEmpty() && !word.equals("table5")) {
            throw row.bad("no place", word);
        }
        return places;
    }

    /** A bit range is one value a bit. */
    private static List<Long> values(
            ConformanceFile.Row row, Family family, VmConfig config, Entry place, String text) {
        String[] words = text.split(",");
        long base = family.permissions(row, words[0]);
        if (place.leaf) {
            base |= family.leafBits | (place.level > 1 ? HardwareWalker.LARGE : 0);
        }
        List<Long> values = List.of(base);
        for (int i = 1; i < words.length; i++) {
            String word = words[i];
            var changed = new ArrayList<Long>();
            for (long value : values) {
                if (word.startsWith("type=")) {
                    long type = row.number(word.substring("type=".length()));
                    changed.add(value & ~(7L << family.typeShift) | type << family.typeShift);
                } else if (word.startsWith("+")) {
                    int dots = word.indexOf("..");
                    int first = bit(row, config, word.substring(1, dots < 0 ? word.length() : dots));
                    int last = dots < 0 ? first : bit(row, config, word.substring(dots + 2));
                    for (int bit = first; bit <= last; bit++) {
                        changed.add(value | 1L << bit);
                    }
                } else {
                    throw row.bad("no modifier of an entry", word);
                }
            }
            values = changed;
        }
        return values;
    }

    private static int bit(ConformanceFile.Row row, VmConfig config, String word) {
        long bit = word.equals("width") ? config.physicalAddressBits() : row.number(word);
        if (bit < 0 || bit > 63) {
            throw row.bad("no bit", word);
        }
        return (int) bit;
    }

    /** Words joined by a plus: what is done, and under which circumstances. */
    static int access(ConformanceFile.Row row, String text) {
        int access = 0;
        for (String word : text.split("\\+")) {
            int kind = ACCESSES.indexOf(word);
            int circumstance = CIRCUMSTANCES.indexOf(word);
            if (kind < 0 && circumstance < 0) {
                throw row.bad("no access", word);
            }
            access |= kind >= 0 ? 1 << kind : WalkAccess.GUEST_TABLE << circumstance;
        }
        if ((access & Access.ALL) == 0) {
            throw row.bad("nothing is accessed", text);
        }
        return access;
    }
}
