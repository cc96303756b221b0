package dev.tdpmmu.config;

/** What a memory slot may be told besides where it lies. */
public enum SlotFlag {
    /** Guest writes are refused by the slot and go to the MMIO handler, as for a ROM. Fixed for the slot's life. */
    READ_ONLY,
    /** Mappings are made at 4 KiB even where the backing has larger pages. May be changed while guests run. */
    SMALL_PAGES,
    /** Stores to the slot's pages are logged, as {@link DirtyTracking} says. May be changed while guests run. */
    LOG_DIRTY
}
