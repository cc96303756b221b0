package dev.tdpmmu;

import dev.tdpmmu.memory.HostMemory;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Gives the host physical addresses of a text names, in the order in which they appear: T1 for tables, F1 for frames.
 */
final class Addresses {
    private static final Pattern HEX =
            Pattern.compile("(?<=at |-> |hpa |root )0x([0-9a-f]+)|0x([0-9a-f]+)(?=\\[)|0x([0-9a-f]{16})");
    private static final long PAGE_BITS = ((1L << 52) - 1) & -HostMemory.PAGE_SIZE;

    private Addresses() {}

    static String normalised(String text) {
        List<Long> tables = new ArrayList<>();
        List<Long> frames = new ArrayList<>();
        return HEX.matcher(text)
                .replaceAll(found -> Matcher.quoteReplacement(name(found.group().substring(2), tables, frames)));
    }

    private static String name(String digits, List<Long> tables, List<Long> frames) {
        long value = Long.parseUnsignedLong(digits, 16);
        long page = value & PAGE_BITS;
        boolean table = HostMemory.isTable(page);
        if (page == 0 || !table && !HostMemory.isFrame(page)) {
            return "0x" + digits;
        }
        List<Long> known = table ? tables : frames;
        if (!known.contains(page)) {
            known.add(page);
        }
        String name = (table ? "T" : "F") + (known.indexOf(page) + 1);
        String rest = Long.toHexString(value & ~PAGE_BITS);
        return value == page ? name : name + "+0x" + rest;
    }
}
