package dev.tdpmmu.hardware;

/**
 * What a vCPU knows of an access to a linear address besides {@link dev.tdpmmu.base.Access}: bits for the access
 * argument of {@link GuestPageWalker#walk} and {@link LinearTlb#translate}. Without any of them an access is an
 * explicit one of a supervisor (CPL below 3) with EFLAGS.AC clear.
 */
public final class LinearAccess {
    /** The guest runs at CPL 3. */
    public static final int USER = 1 << 4;

    /**
     * The processor itself makes the access, to a descriptor table for instance: a supervisor's, whatever CPL and AC.
     */
    public static final int IMPLICIT = 1 << 5;

    /** EFLAGS.AC is set: explicit accesses of a supervisor may go to user pages in spite of SMAP. */
    public static final int AC = 1 << 6;

    /** All bits of this class. */
    static final int ALL = USER | IMPLICIT | AC;

    private LinearAccess() {}

    /** Whether an access counts as one of a user: at CPL 3, and not the processor's own. */
    static boolean isUser(int access) {
        return (access & (USER | IMPLICIT)) == USER;
    }

    /** Whether SMAP is overridden. Of a user's access it does not matter. */
    static boolean overridesSmap(int access) {
        return (access & (AC | IMPLICIT)) == AC;
    }
}
