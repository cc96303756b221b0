package dev.tdpmmu.config;

/** Whether the hardware sets accessed and dirty bits in second-level entries. NPT always does. */
public enum AccessedDirty {
    /** It does. */
    ON,
    /** It does not; the MMU tracks accesses and writes by permissions. Only with EPT. */
    OFF
}
