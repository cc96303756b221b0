package dev.tdpmmu;

import dev.tdpmmu.hardware.EntryDecoder;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;

/** What an entry of the second-level tables is. */
public enum EntryKind {
    /** Nothing is mapped. */
    NOT_PRESENT("none"),
    /** Points to a table of the level below. */
    TABLE("table"),
    /** Maps a page. */
    LEAF("leaf"),
    /** Remembers that no slot is here. To the processor it is malformed, so that its use leaves the guest. */
    MMIO("mmio"),
    /** Being changed by somebody who has not flushed yet. To the processor nothing is mapped. */
    FROZEN("frozen"),
    /** Present and malformed, and not by the MMU's intention. */
    MISCONFIGURED("bad");

    private final String text;

    EntryKind(String text) {
        this.text = text;
    }

    /**
     * Returns the kind as one word, as texts and JSON have it.
     *
     * @return for instance {@code leaf}
     */
    public String text() {
        return text;
    }

    static EntryKind of(EntryDecoder decoder, SpteFormat format, long entry, int level) {
        if (Spte.isFrozen(entry)) {
            return FROZEN;
        }
        if (format.isMmio(entry)) {
            return MMIO;
        }
        if (!decoder.isPresent(entry)) {
            // Without A/D bits a leaf whose accesses are tracked is absent only to the processor.
            return format.isLeaf(entry, level) ? LEAF : NOT_PRESENT;
        }
        if (decoder.isMisconfigured(entry, level)) {
            return MISCONFIGURED;
        }
        return decoder.isLeaf(entry, level) ? LEAF : TABLE;
    }
}
