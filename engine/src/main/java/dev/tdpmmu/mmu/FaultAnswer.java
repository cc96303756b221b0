package dev.tdpmmu.mmu;

/** What the MMU does with a fault. */
public enum FaultAnswer {
    /** Nothing: the access is done without a fault. */
    NONE("no fault"),
    /** Nothing: the tables allow the access; only a cache, or a race, made it fault. */
    SPURIOUS("finds it spurious: the access is done again"),
    /** Gives a leaf W, R or X back by one exchange, without the MMU lock. */
    FAST_FIX("fixes the leaf without the MMU lock"),
    /** Installs a leaf where nothing is mapped, and the tables on the way to it. */
    MAP("maps a leaf"),
    /** Replaces a leaf by one of the same frame that allows more. */
    WIDEN("gives the leaf more permissions"),
    /** Replaces a huge leaf by a table of smaller ones. */
    SPLIT("splits the huge leaf"),
    /**
     * Replaces a table by a huge leaf; maps a smaller one in the table if too much memory waits for grace periods.
     */
    REPLACE_TABLE("replaces the table by a huge leaf"),
    /** Asks the host for the page first, and then maps it. */
    ASK_HOST("asks the host for the page"),
    /** Nothing is mapped: no slot is there, so the access goes to a device, or is refused if none is there either. */
    EMULATE_NO_SLOT("emulates it: no slot is there"),
    /** Nothing is mapped: the slot forbids the access, which goes to a device, or is refused. */
    EMULATE_READ_ONLY("emulates it: the slot forbids the access"),
    /** Nothing is mapped: the VM makes the store itself and reports it. */
    EMULATE_WATCHED("makes the store itself and reports it: the page is watched"),
    /** Sends the vCPU back to try again: somebody else changes the entry or the range just now. */
    RETRY("sends the vCPU back: somebody else is at work here");

    private final String text;

    FaultAnswer(String text) {
        this.text = text;
    }

    /**
     * Returns the answer in words.
     *
     * @return what the MMU does, as the rest of a sentence about it
     */
    public String text() {
        return text;
    }
}
