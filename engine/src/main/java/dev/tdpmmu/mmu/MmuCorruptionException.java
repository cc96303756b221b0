package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.spte.SpteText;

/** Says that an invariant of the page tables is broken. The VM must not go on. */
public final class MmuCorruptionException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes the exception.
     *
     * @param message what is broken
     */
    public MmuCorruptionException(String message) {
        super(message);
    }

    static MmuCorruptionException transition(
            String what, SpteFormat format, long gfn, int level, long oldSpte, long newSpte) {
        return new MmuCorruptionException(what + ": gfn=0x" + Long.toHexString(gfn) + ", level="
                + PagingLevel.name(level) + ", old=[" + SpteText.describe(format, oldSpte, level) + "], new=["
                + SpteText.describe(format, newSpte, level) + "]");
    }
}
