package dev.tdpmmu.config;

/** How the emulated hardware caches translations. Both ways are allowed by the manuals. */
public enum TlbMode {
    /** As a small processor: few entries, which evict each other. */
    TYPICAL,
    /**
     * As unhelpful as allowed: keeps every translation and table until it is flushed, and faults on a cached
     * translation that allows too little instead of looking at the tables again. Makes a missing flush visible at once;
     * takes memory for every page that a vCPU has used.
     */
    UNHELPFUL
}
