package dev.tdpmmu;

import dev.tdpmmu.base.PagingLevel;
import java.util.List;
import java.util.Locale;

/** Writes dumps and their differences for people. */
final class DumpText {
    private DumpText() {}

    static String of(TableDump dump) {
        var text = new StringBuilder();
        line(text, "tables of %s, %s", dump.vm(), dump.mode());
        if (dump.roots().isEmpty()) {
            line(text, "no root yet");
        }
        for (TableDump.Root root : dump.roots()) {
            appendRoot(text, dump, root);
        }
        return text.toString();
    }

    private static void appendRoot(StringBuilder text, TableDump dump, TableDump.Root root) {
        line(
                text,
                "root 0x%x of level %s%s",
                root.hpa(),
                PagingLevel.name(root.level()),
                root.invalid() ? ", invalid" : "");
        int width = addressWidth(dump, root);
        List<TableDump.Slot> slots = dump.slots();
        int nextSlot = 0;
        boolean inSlot = true;
        for (TableRange range : root.ranges()) {
            while (nextSlot < slots.size() && slots.get(nextSlot).start() < range.end()) {
                appendSlot(text, slots.get(nextSlot), width);
                nextSlot++;
                inSlot = true;
            }
            boolean covered =
                    nextSlot > 0 && range.start() < slots.get(nextSlot - 1).end();
            if (!covered && inSlot) {
                line(text, "---[ no slot ]---");
                inSlot = false;
            }
            appendRange(text, range, width, dump.framesMerged());
        }
        for (; nextSlot < slots.size(); nextSlot++) {
            appendSlot(text, slots.get(nextSlot), width);
        }
        appendSummary(text, dump, root);
    }

    private static int addressWidth(TableDump dump, TableDump.Root root) {
        long highest = 1;
        for (TableDump.Slot slot : dump.slots()) {
            highest = Math.max(highest, slot.end());
        }
        for (TableRange range : root.ranges()) {
            highest = Math.max(highest, range.end());
        }
        return Long.toHexString(highest).length();
    }

    private static void appendSlot(StringBuilder text, TableDump.Slot slot, int width) {
        line(
                text,
                "---[ slot %d: 0x%0" + width + "x-0x%0" + width + "x %s%s ]---",
                slot.id(),
                slot.start(),
                slot.end(),
                TableDump.sizeText(slot.end() - slot.start()),
                slot.flags().isEmpty()
                        ? ""
                        : " " + slot.flags().stream().sorted().toList());
    }

    private static void appendRange(StringBuilder text, TableRange range, int width, boolean framesMerged) {
        String frame = range.hpa() < 0 ? "" : String.format(" -> 0x%x%s", range.hpa(), framesMerged ? ".." : "");
        line(
                text,
                "0x%0" + width + "x-0x%0" + width + "x %6s %7d x %s%s",
                range.start(),
                range.end(),
                TableDump.sizeText(range.bytes()),
                range.entries(),
                range.attributes(),
                frame);
    }

    private static void appendSummary(StringBuilder text, TableDump dump, TableDump.Root root) {
        var pages = new StringBuilder();
        for (int level = root.level(); level >= PagingLevel.L4K; level--) {
            pages.append(pages.isEmpty() ? "" : ", ")
                    .append(root.tablePages().get(level - 1))
                    .append(" of level ")
                    .append(level);
        }
        line(
                text,
                "mapped: %s by 1G, %s by 2M, %s by 4K",
                TableDump.sizeText(root.mappedBytes(PagingLevel.L1G)),
                TableDump.sizeText(root.mappedBytes(PagingLevel.L2M)),
                TableDump.sizeText(root.mappedBytes(PagingLevel.L4K)));
        List<TableDump.Hole> holes = root.holes(dump.slots());
        long unmapped = 0;
        for (TableDump.Hole hole : holes) {
            unmapped += hole.end() - hole.start();
        }
        line(text, "holes in slots: %d, %s", holes.size(), TableDump.sizeText(unmapped));
        line(
                text,
                "other entries: %d mmio, %d frozen, %d bad",
                root.entries(EntryKind.MMIO),
                root.entries(EntryKind.FROZEN),
                root.entries(EntryKind.MISCONFIGURED));
        line(text, "table pages: %s", pages);
    }

    static String of(TableDiff diff) {
        var text = new StringBuilder();
        long highest = 1;
        for (TableDiff.Change change : diff.changes()) {
            highest = Math.max(highest, change.end());
        }
        int width = Long.toHexString(highest).length();
        for (TableDiff.Change change : diff.changes()) {
            line(
                    text,
                    "0x%0" + width + "x-0x%0" + width + "x %6s %-8s %s",
                    change.start(),
                    change.end(),
                    TableDump.sizeText(change.end() - change.start()),
                    change.what().text(),
                    attributes(change));
        }
        if (diff.changes().isEmpty()) {
            line(text, "no change%s", diff.framesCompared() ? "" : ", frames not compared");
        }
        return text.toString();
    }

    private static String attributes(TableDiff.Change change) {
        return switch (change.what()) {
            case MAPPED -> change.after().getFirst().attributes();
            case UNMAPPED -> change.before().getFirst().attributes();
            case CHANGED ->
                change.before().getFirst().attributes() + " => "
                        + change.after().getFirst().attributes() + "  (" + words(change) + ")";
        };
    }

    private static String words(TableDiff.Change change) {
        var words = new StringBuilder();
        for (TableDiff.Aspect aspect : change.aspects()) {
            words.append(words.isEmpty() ? "" : ", ").append(aspect.text());
        }
        return words.toString();
    }

    private static void line(StringBuilder text, String format, Object... values) {
        text.append(String.format(Locale.ROOT, format, values).stripTrailing()).append('\n');
    }
}
