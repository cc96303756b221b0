package dev.tdpmmu.spte;

/**
 * What a layout hands to {@link SpteFormat}: named masks, so that the constructor needs no list of twenty numbers.
 * Confined to the making of one format.
 *
 * <p>A mask of 0 means that the format lacks the bit.
 */
final class SpteMasks {
    /** For reports. */
    String name;

    /** Any of these: hardware sees the entry. */
    long hardwarePresent;

    /** All of these: loads are allowed. */
    long read;

    /** Stores are allowed. */
    long write;

    /** All of these, and not {@link #noExecute}: fetches are allowed. */
    long execute;

    /** Set when fetches are not allowed. */
    long noExecute;

    /** Access bits of which any one makes a leaf readable. */
    int readingAccess;

    /** Hardware sets it when it uses the entry. */
    long accessed;

    /** Hardware sets it in a leaf when it stores through it. */
    long dirty;

    /** All bits of the memory type. */
    long memoryType;

    /** Write-back, inside {@link #memoryType}. */
    long writeBack;

    /** Software: the host maps the page writable. */
    long hostWritable;

    /** Software: the MMU itself has no reason to forbid stores. */
    long mmuWritable;

    /** What {@link SpteFormat#isMmio} looks at. */
    long mmioMask;

    /** What it must find; more than the mask if MMIO entries cannot be made. */
    long mmioValue;

    /** Width of physical addresses. */
    int physicalAddressBits;
}
