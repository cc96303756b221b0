package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;

/**
 * What the hardware knows of an access besides {@link Access}: bits for the access argument of {@link
 * HardwareWalker#walk}. An access without any of them is one to the final address with the guest's own paging off: such
 * a linear address counts as user-mode, writable and executable.
 */
public final class WalkAccess {
    /** The access is to an entry of the guest's page tables, not to the final address. */
    public static final int GUEST_TABLE = 1 << 4;

    /** The guest's tables say that the linear address is supervisor-mode. */
    public static final int SUPERVISOR_PAGE = 1 << 5;

    /** The guest's tables forbid stores to the linear address. */
    public static final int READ_ONLY_PAGE = 1 << 6;

    /** The guest's tables forbid fetches from the linear address. */
    public static final int NO_EXECUTE_PAGE = 1 << 7;

    /** The guest runs privileged (CPL below 3) while it makes the access. */
    public static final int PRIVILEGED = 1 << 8;

    /** All bits of this class. */
    static final int ALL = GUEST_TABLE | SUPERVISOR_PAGE | READ_ONLY_PAGE | NO_EXECUTE_PAGE | PRIVILEGED;

    private WalkAccess() {}
}
