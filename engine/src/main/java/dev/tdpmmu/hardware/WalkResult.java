package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;

/**
 * What a walk found. One object serves all walks of a vCPU; it belongs to one thread.
 *
 * <p>After {@link HardwareWalker#OK} the first four fields are valid, after a failure the others. The rest keeps
 * values of earlier walks.
 */
public final class WalkResult {
    /** Host physical address of the 4 KiB frame that holds the guest physical address, also inside a huge page. */
    public long frame;

    /** Level of the leaf, 1 to 3. */
    public int level;

    /** Bits of {@link Access} that all entries of the walk allow. */
    public int permissions;

    /** Whether later stores may go through the TLB: they are allowed, and the leaf's D is set or does not exist. */
    public boolean writableCached;

    /** Why the walk failed: bits of {@link ExitQualification} for EPT, of {@link NptErrorCode} for NPT. */
    public long exit;

    /** Level of the entry that is misconfigured, 1 to 5; 0 after a violation. */
    public int misconfigLevel;

    /** Level of the entry at which the walk ended, 1 to 5. */
    public int faultLevel;

    // Entries that a slow walk has used, by level: where they are and what they were.
    final long[] addresses = new long[PagingLevel.L256T + 1];
    final long[] entries = new long[PagingLevel.L256T + 1];

    /** Makes a result without content. */
    public WalkResult() {}

    void found(long foundFrame, int foundLevel, int foundPermissions, boolean cacheable) {
        frame = foundFrame;
        level = foundLevel;
        permissions = foundPermissions;
        writableCached = cacheable;
    }

    void failed(long why, int atLevel, boolean misconfigured) {
        exit = why;
        faultLevel = atLevel;
        misconfigLevel = misconfigured ? atLevel : 0;
    }
}
