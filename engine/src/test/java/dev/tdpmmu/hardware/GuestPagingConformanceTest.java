package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The rows of {@code guest-paging.txt}, which tell what they mean, put before the walker and before the model. */
final class GuestPagingConformanceTest {
    private static final String FILE = "guest-paging.txt";
    private static final int SHAPE = 0;
    private static final int PROCESSOR = 1;
    private static final int ENTRIES = 2;
    private static final int ACCESSES = 3;
    private static final int OUTCOME = 4;
    private static final int COLUMNS = 5;

    private static final long GVA = 0xffff_9234_0640_2abcL;
    private static final long ACCESSED = 1L << 5;
    private static final long DIRTY = 1L << 6;
    private static final int DEFAULT_WIDTH = 46;

    private static final List<String> PAGES = List.of("4K", "2M", "1G");
    private static final List<String> LETTERS = List.of("p", "w", "u", "n");
    private static final int[] LETTER_BITS = {0, 1, 2, 63};
    private static final List<String> SWITCHES = List.of("nx", "wp", "smep", "smap", "pke");
    private static final int[] SWITCH_FLAGS = {
        GuestPagingModel.NXE, GuestPagingModel.WP, GuestPagingModel.SMEP, GuestPagingModel.SMAP, GuestPagingModel.PKE
    };
    private static final List<String> ACCESS_WORDS = List.of("write", "fetch", "user", "implicit", "ac");
    private static final int[] ACCESS_FLAGS = {
        GuestPagingModel.WRITE,
        GuestPagingModel.FETCH,
        GuestPagingModel.CPL_3,
        GuestPagingModel.IMPLICIT,
        GuestPagingModel.AC
    };

    static List<ConformanceFile.Row> rows() {
        return ConformanceFile.read(FILE, COLUMNS).rows();
    }

    private final Tlb tlb = new Tlb();
    private final LinearTlb linearTlb = new LinearTlb();
    private final LinearResult result = new LinearResult();
    private final GuestPagingModel model = new GuestPagingModel();
    private ConformanceFile.Row row;
    private int cases;

    @ParameterizedTest
    @MethodSource("rows")
    void walkerAndModelAgreeWithTheRow(ConformanceFile.Row oneRow) {
        row = oneRow;
        List<String> shape = words(SHAPE);
        checkWords(shape, List.of("4-level", "5-level", "4K", "2M", "1G"));
        for (int levels = 4; levels <= 5; levels++) {
            if (shape.contains("4-level") && levels == 5 || shape.contains("5-level") && levels == 4) {
                continue;
            }
            var config = VmConfig.builder().pagingMode(PagingMode.EPT4).build();
            try (var guest = new HandMadeGuest(config, levels, GVA)) {
                for (int leafLevel = 1; leafLevel <= 3; leafLevel++) {
                    boolean anyPage = shape.stream().noneMatch(PAGES::contains);
                    if (anyPage || shape.contains(PAGES.get(leafLevel - 1))) {
                        judgeShape(guest, leafLevel);
                    }
                }
            }
        }
        assertTrue(cases > 0, "row stands for no case");
    }

    private void judgeShape(HandMadeGuest guest, int leafLevel) {
        int width = (int) numberOf(words(PROCESSOR), "width=", DEFAULT_WIDTH);
        int pkru = (int) numberOf(words(PROCESSOR), "pkru=", 0);
        List<long[]> paths = paths(guest, leafLevel, width);
        for (int processor : processors()) {
            GuestPaging usual = GuestPagingBits.registers(guest.cr3(), guest.levels, processor);
            GuestPaging paging = usual.withPkru(pkru).withPhysicalAddressBits(width);
            for (long[] path : paths) {
                for (String access : row.column(ACCESSES).split(",")) {
                    judge(guest, leafLevel, path, processor | accessFlags(access), paging);
                    cases++;
                }
            }
        }
    }

    private void judge(HandMadeGuest guest, int leafLevel, long[] path, int situation, GuestPaging paging) {
        for (int level = leafLevel; level <= guest.levels; level++) {
            guest.set(level, path[level]);
        }
        linearTlb.flushAll();
        int width = paging.physicalAddressBits();

        int outcome = guest.walker.walk(
                tlb, linearTlb, guest.rootPointer, paging, GVA, GuestPagingBits.access(situation), result);
        judgeByModel(guest, leafLevel, path, situation, paging);

        Supplier<String> what = () -> text(guest, leafLevel, path, situation);
        String expected = row.column(OUTCOME);
        boolean faults = expected.startsWith("0x");
        assertEquals(expected, walkerText(guest, leafLevel, outcome), () -> "walker: " + what.get());
        assertEquals(expected, modelText(leafLevel), () -> "model: " + what.get());
        for (int level = leafLevel; level <= guest.levels; level++) {
            long flags = faults ? 0 : level > leafLevel || expected.equals("a") ? ACCESSED : ACCESSED | DIRTY;
            assertEquals(path[level] | flags, guest.get(level), () -> "walker's entry: " + what.get());
            int modelFlags = modelFlags(path[level] | flags, level, level == leafLevel, width);
            assertEquals(modelFlags, model.after[level], () -> "model's entry: " + what.get());
        }
    }

    private static String text(HandMadeGuest guest, int leafLevel, long[] path, int situation) {
        var text = new StringBuilder("levels=" + guest.levels + ", page=" + PAGES.get(leafLevel - 1) + ", entries=");
        for (int level = guest.levels; level >= leafLevel; level--) {
            text.append(Long.toHexString(path[level])).append(level > leafLevel ? "/" : "");
        }
        return text + ", access and processor=" + GuestPagingBits.text(situation, GuestPagingBits.SITUATION_NAMES);
    }

    private String walkerText(HandMadeGuest guest, int leafLevel, int outcome) {
        if (outcome == GuestPageWalker.PAGE_FAULT) {
            return "0x" + Long.toHexString(result.errorCode);
        }
        assertEquals(GuestPageWalker.OK, outcome);
        assertEquals(leafLevel, result.level);
        assertEquals(result.gpa + HandMadeGuest.DATA_OFFSET, result.hpa);
        return (guest.get(leafLevel) & ACCESSED) == 0 ? "" : (guest.get(leafLevel) & DIRTY) == 0 ? "a" : "ad";
    }

    private String modelText(int leafLevel) {
        return model.errorCode != GuestPagingModel.NO_FAULT
                ? "0x" + Integer.toHexString(model.errorCode)
                : (model.after[leafLevel] & GuestPagingModel.DIRTY) == 0 ? "a" : "ad";
    }

    /** The model knows one key with rights, which is the leaf's here, whatever its number. */
    private void judgeByModel(HandMadeGuest guest, int leafLevel, long[] path, int situation, GuestPaging paging) {
        int key = (int) (path[leafLevel] >>> 59) & 15;
        int rights = paging.pkru() >>> 2 * key;
        model.levels = guest.levels;
        model.situation = situation
                | ((rights & 1) != 0 ? GuestPagingModel.ACCESS_DISABLE : 0)
                | ((rights & 2) != 0 ? GuestPagingModel.WRITE_DISABLE : 0);
        for (int level = leafLevel; level <= guest.levels; level++) {
            model.entries[level] = modelFlags(path[level], level, level == leafLevel, paging.physicalAddressBits());
        }
        model.judge();
    }

    private static int modelFlags(long entry, int level, boolean isLeaf, int width) {
        int flags = isLeaf ? GuestPagingModel.KEY_ONE : 0;
        int[] modelFlags = {
            GuestPagingModel.PRESENT, GuestPagingModel.WRITABLE, GuestPagingModel.USER, GuestPagingModel.NO_EXECUTE
        };
        for (int i = 0; i < modelFlags.length; i++) {
            flags |= (entry & 1L << LETTER_BITS[i]) != 0 ? modelFlags[i] : 0;
        }
        for (int bit = 12; bit < 52; bit++) {
            boolean set = (entry & 1L << bit) != 0;
            flags |= set && bit >= width ? GuestPagingModel.BIT_51 : 0;
            flags |= set && isLeaf && bit > 12 && bit < 12 + 9 * (level - 1) ? GuestPagingModel.BIT_13 : 0;
        }
        return flags
                | ((entry & ACCESSED) != 0 ? GuestPagingModel.ACCESSED : 0)
                | ((entry & DIRTY) != 0 ? GuestPagingModel.DIRTY : 0)
                | ((entry & 1L << 7) != 0 ? GuestPagingModel.PAGE_SIZE : 0);
    }

    private List<Integer> processors() {
        List<String> words = words(PROCESSOR);
        var known = new ArrayList<String>(List.of("no-1G"));
        for (String name : SWITCHES) {
            known.addAll(List.of(name, "no-" + name));
        }
        checkWords(words.stream().filter(word -> !word.contains("=")).toList(), known);
        var processors = new ArrayList<Integer>();
        for (int switches = 0; switches < 1 << SWITCHES.size(); switches++) {
            int flags = words.contains("no-1G") ? GuestPagingModel.NO_GIGABYTE_PAGES : 0;
            boolean admitted = true;
            for (int i = 0; i < SWITCHES.size(); i++) {
                boolean on = (switches & 1 << i) != 0;
                flags |= on ? SWITCH_FLAGS[i] : 0;
                admitted &= !words.contains(on ? "no-" + SWITCHES.get(i) : SWITCHES.get(i));
            }
            if (admitted) {
                processors.add(flags);
            }
        }
        return processors;
    }

    private int accessFlags(String text) {
        List<String> words = List.of(text.split("\\+"));
        int flags = 0;
        for (String word : words) {
            int index = ACCESS_WORDS.indexOf(word);
            if (index < 0 && !word.equals("read")) {
                throw row.bad("no access", word);
            }
            flags |= index < 0 ? 0 : ACCESS_FLAGS[index];
        }
        return flags;
    }

    /** All paths of a row, each by level. */
    private List<long[]> paths(HandMadeGuest guest, int leafLevel, int width) {
        long[] plain = new long[6];
        for (int level = leafLevel; level <= guest.levels; level++) {
            plain[level] = entry(guest, level, leafLevel, 7);
        }
        List<long[]> paths = List.of(plain);
        for (String part : row.column(ENTRIES).split("&")) {
            String[] placeAndEntry = part.split(":", 2);
            var changed = new ArrayList<long[]>();
            for (long[] path : paths) {
                for (int level = leafLevel; level <= guest.levels; level++) {
                    if (isMeant(placeAndEntry[0], level, leafLevel)) {
                        for (long bits : entries(placeAndEntry[1], width)) {
                            long[] copy = path.clone();
                            copy[level] = entry(guest, level, leafLevel, bits);
                            changed.add(copy);
                        }
                    }
                }
            }
            paths = changed;
        }
        return paths;
    }

    private static long entry(HandMadeGuest guest, int level, int leafLevel, long bits) {
        boolean isLeaf = level == leafLevel;
        return guest.address(level, isLeaf) | bits | (isLeaf && level > 1 ? 1L << 7 : 0);
    }

    private boolean isMeant(String place, int level, int leafLevel) {
        boolean isTable = level > leafLevel;
        return switch (place) {
            case "leaf" -> !isTable;
            case "tables" -> isTable;
            case "low-tables" -> isTable && level <= 3;
            case "top-tables" -> isTable && level > 3;
            case "table2", "table3", "table4", "table5" -> isTable && place.equals("table" + level);
            default -> throw row.bad("no place", place);
        };
    }

    private List<Long> entries(String text, int width) {
        String[] words = text.split(",");
        long base = 0;
        for (int i = 0; i < LETTERS.size(); i++) {
            String letter = words[0].substring(i, i + 1);
            if (!letter.equals("-") && !letter.equals(LETTERS.get(i))) {
                throw row.bad("no permissions", words[0]);
            }
            base |= letter.equals("-") ? 0 : 1L << LETTER_BITS[i];
        }
        List<Long> entries = List.of(base);
        for (String word : List.of(words).subList(1, words.length)) {
            var changed = new ArrayList<Long>();
            for (long entry : entries) {
                for (long bits : bits(word, width)) {
                    changed.add(entry | bits);
                }
            }
            entries = changed;
        }
        return entries;
    }

    private List<Long> bits(String word, int width) {
        if (word.equals("a") || word.equals("d")) {
            return List.of(word.equals("a") ? ACCESSED : DIRTY);
        }
        if (word.startsWith("key=")) {
            return List.of(row.number(word.substring(4)) << 59);
        }
        if (!word.startsWith("+")) {
            throw row.bad("no bits of an entry", word);
        }
        String[] ends = word.substring(1).split("\\.\\.");
        var bits = new ArrayList<Long>();
        for (int bit = bit(ends[0], width); bit <= bit(ends[ends.length - 1], width); bit++) {
            bits.add(1L << bit);
        }
        return bits;
    }

    private int bit(String word, int width) {
        return word.equals("width") ? width : (int) row.number(word);
    }

    private List<String> words(int column) {
        return row.column(column).equals("-")
                ? List.of()
                : List.of(row.column(column).split(","));
    }

    private void checkWords(List<String> words, List<String> known) {
        for (String word : words) {
            if (!known.contains(word)) {
                throw row.bad("word is unknown", word);
            }
        }
    }

    private long numberOf(List<String> words, String prefix, long otherwise) {
        for (String word : words) {
            if (word.startsWith(prefix)) {
                return row.number(word.substring(prefix.length()));
            }
        }
        return otherwise;
    }

    @Test
    void everyErrorCodeThatThereIsHasARow() {
        var seen = new ArrayList<String>();
        for (ConformanceFile.Row one : rows()) {
            if (!seen.contains(one.column(OUTCOME))) {
                seen.add(one.column(OUTCOME));
            }
        }

        // A store is no fetch, a key needs data and a translation, a reserved bit a present entry: 22 codes are left.
        List<String> all = List.of(
                "a", "ad", "0x0", "0x2", "0x4", "0x6", "0x10", "0x14", "0x1", "0x3", "0x5", "0x7", "0x11", "0x15",
                "0x9", "0xb", "0xd", "0xf", "0x19", "0x1d", "0x21", "0x23", "0x25", "0x27");
        for (String outcome : all) {
            assertTrue(seen.contains(outcome), outcome);
        }
    }
}
