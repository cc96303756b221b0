package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;

/** Writes entries for people: reports of corruption, tests, traces. Cold. */
public final class SpteText {
    private SpteText() {}

    /**
     * Describes an entry in one line.
     *
     * @param f format of the entry
     * @param spte entry, legal or not
     * @param level level of the table that holds it, 1 to 5
     * @return for instance {@code leaf 4K hpa=0x20000000000 rw- host-writable mmu-writable A D}
     */
    public static String describe(SpteFormat f, long spte, int level) {
        if (spte == Spte.NON_PRESENT) {
            return "non-present";
        }
        if (Spte.isFrozen(spte)) {
            return "FROZEN";
        }
        if (f.isMmio(spte)) {
            return "MMIO gfn=" + hex(f.mmioGfn(spte)) + " " + Access.text(MmioSpte.access(spte)) + " generation="
                    + MmioSpte.generation(spte) + note(f, spte, level);
        }
        if (!Spte.isMmuPresent(spte)) {
            return "unknown bits=" + hex(spte);
        }
        String what = (f.isLeaf(spte, level) ? "leaf " : "table ") + PagingLevel.name(level) + " hpa="
                + hex(f.address(spte)) + " " + Access.text(permissions(f, spte));
        var text = new StringBuilder(what);
        append(text, f.isAccessTracked(spte), "tracked(" + Access.text(permissions(f, f.restoreAccess(spte))) + ")");
        append(text, f.isHostWritable(spte), "host-writable");
        append(text, f.isMmuWritable(spte), "mmu-writable");
        append(text, (spte & f.accessedBit()) != 0, "A");
        append(text, (spte & f.dirtyBit()) != 0, "D");
        long unknown = f.unknownBits(spte);
        append(text, unknown != 0, "unknown=" + hex(unknown));
        return text + note(f, spte, level);
    }

    private static int permissions(SpteFormat f, long spte) {
        return (f.isReadable(spte) ? Access.READ : 0)
                | (f.isWritable(spte) ? Access.WRITE : 0)
                | (f.isExecutable(spte) ? Access.EXECUTE : 0);
    }

    private static void append(StringBuilder text, boolean present, String word) {
        if (present) {
            text.append(' ').append(word);
        }
    }

    private static String note(SpteFormat f, long spte, int level) {
        return f.isLegal(spte, level) ? "" : " ILLEGAL raw=" + hex(spte);
    }

    private static String hex(long value) {
        return "0x" + Long.toHexString(value);
    }
}
