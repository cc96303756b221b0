package dev.tdpmmu.bench.perf;

/** What a round of {@link MemSlotPerf} does. */
enum MemSlotTest {
    /** vCPUs write all pages of one half while the host unmaps the other. */
    MAP("map"),
    /** vCPUs write one page of one half while the host unmaps the other. */
    UNMAP("unmap"),
    /** The same, in small pieces. */
    UNMAP_CHUNKED("unmap chunked"),
    /** The last slot moves away and back while vCPUs write it. */
    MOVE_ACTIVE("move active"),
    /** The last slot moves away and back while vCPUs write other slots. */
    MOVE_INACTIVE("move inactive"),
    /** vCPUs and host write and check each other's words in turn. */
    RW("rw");

    private final String phase;

    MemSlotTest(String phase) {
        this.phase = phase;
    }

    String phase() {
        return phase;
    }
}
