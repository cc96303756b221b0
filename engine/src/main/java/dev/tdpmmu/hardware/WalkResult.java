package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import java.util.Objects;

/**
 * What a walk found, and where it logs the pages that it makes dirty. One object serves all walks of a vCPU; it
 * belongs to one thread.
 *
 * <p>After {@link HardwareWalker#OK} the first five fields are valid, after a failure the others, after {@link
 * HardwareWalker#LOG_FULL} none. The rest keeps values of earlier walks.
 */
public final class WalkResult {
    /**
     * The bit of {@link #entryPermissions} beside those of {@link Access}. EPT, only with mode-based execute control:
     * fetches from user-mode linear addresses are allowed; {@link Access#EXECUTE} then speaks of supervisor-mode ones.
     * NPT: every entry has US; always given without the guest-mode execute trap.
     */
    public static final int USER = 1 << 3;

    /** Host physical address of the 4 KiB frame that holds the guest physical address, also inside a huge page. */
    public long frame;

    /** Level of the leaf, 1 to 3. */
    public int level;

    /**
     * Bits of {@link Access} that all entries of the walk allow to every access, whoever makes it, so that a cache may
     * serve them without knowing more: {@link Access#EXECUTE} only if fetches of both kinds are allowed.
     */
    public int permissions;

    /** All that the entries of the walk allow, for {@link HardwareWalker#allows}: {@link Access} and {@link #USER}. */
    public int entryPermissions;

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

    /** The vCPU's log, or null if pages that become dirty are not logged. Confined, as the whole object. */
    private PmlBuffer pml;

    /** Makes a result without content, whose walks log nothing. */
    public WalkResult() {}

    /**
     * Makes later walks log the pages whose D they set, as a processor does with page-modification logging on. EPT
     * only, and only with accessed and dirty flags: nested walks, and walks that set no flags, ignore the log.
     *
     * @param log of the vCPU, whose owner is this thread; replaces an earlier one
     */
    public void logStoresTo(PmlBuffer log) {
        pml = Objects.requireNonNull(log, "log");
    }

    /** Makes later walks log nothing. What is in the log stays there. */
    public void stopLogging() {
        pml = null;
    }

    @HotPath
    boolean logsStores() {
        return pml != null;
    }

    @HotPath
    boolean isLogFull() {
        return pml != null && pml.isFull();
    }

    /** Logs a page whose D was just set, if pages are logged at all. */
    @HotPath
    void logStore(long gpa) {
        if (pml != null) {
            pml.log(gpa);
        }
    }

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
