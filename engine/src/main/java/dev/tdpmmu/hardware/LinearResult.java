package dev.tdpmmu.hardware;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;

/**
 * What a two-dimensional walk found. One object serves all walks of a vCPU; it belongs to one thread.
 *
 * <p>After {@link GuestPageWalker#OK} the first four fields are valid. After {@link GuestPageWalker#PAGE_FAULT}
 * {@link #errorCode} is, after {@link GuestPageWalker#SECOND_LEVEL} the three after it. The rest keeps values of
 * earlier walks.
 */
public final class LinearResult {
    /** In {@link #attributes}: the guest's tables forbid fetches. */
    public static final int NO_EXECUTE = 1;

    /** In {@link #attributes}: the guest's tables allow stores. */
    public static final int WRITABLE = 1 << 1;

    /** In {@link #attributes}: the linear address is user-mode. */
    public static final int USER = 1 << 2;

    /** In {@link #attributes}: the guest's leaf is global. */
    public static final int GLOBAL = 1 << 3;

    /** Host physical address of the byte. */
    public long hpa;

    /** Guest physical address of the byte. Valid also if the last translation, of this address, failed. */
    public long gpa;

    /** Level of the guest's leaf, 1 to 3. */
    public int level;

    /** What all guest entries of the walk say together: bits of this class, and the protection key in bits 7:4. */
    public int attributes;

    /** Error code of the guest's page fault: bits of {@link GuestPageFault}. */
    public long errorCode;

    /** How the translation of a guest physical address failed: an outcome of {@link HardwareWalker#walk}. */
    public int secondLevel;

    /** Guest physical address whose translation failed: the byte's, or that of an entry of the guest's tables. */
    public long secondLevelGpa;

    /** Access for which its translation failed, as given to {@link HardwareWalker#walk}. */
    public int secondLevelAccess;

    /** Whether that address is one of an entry of the guest's tables. */
    public boolean secondLevelIsTable;

    /** What the last walk of the second level said. */
    public final WalkResult walk;

    /**
     * Whether the vCPU asks for walks that store nothing to guest tables, because some of them cannot be stored to:
     * they are read as data, and end with {@link GuestPageWalker#TABLE_STORE} when a flag is missing. Off, unless
     * set.
     */
    public boolean softwareSetsFlags;

    /** After {@link GuestPageWalker#TABLE_STORE}: the guest entry that was read. */
    public long oldEntry;

    /** After {@link GuestPageWalker#TABLE_STORE}: what the entry shall be if it still is {@link #oldEntry}. */
    public long newEntry;

    // Entries that the walk has used, by level: where they are, to the guest and to the host, what they were, and
    // what they and all above them allow.
    final long[] entryGpas = new long[PagingLevel.L256T + 1];
    final long[] entryHpas = new long[PagingLevel.L256T + 1];
    final long[] entries = new long[PagingLevel.L256T + 1];
    final int[] rights = new int[PagingLevel.L256T + 1];

    /** Makes a result whose walks of the second level log nothing. */
    public LinearResult() {
        this(new WalkResult());
    }

    /**
     * Makes a result for a vCPU that has walked without guest paging before.
     *
     * @param walk the vCPU's; says whether pages that become dirty are logged
     */
    public LinearResult(WalkResult walk) {
        this.walk = walk;
    }

    @HotPath
    void use(int atLevel, long entryGpa, long entryHpa, long entry, int allowed) {
        entryGpas[atLevel] = entryGpa;
        entryHpas[atLevel] = entryHpa;
        entries[atLevel] = entry;
        rights[atLevel] = allowed;
    }
}
