package dev.tdpmmu;

import dev.tdpmmu.hardware.GuestPageFault;

/**
 * Says that the guest's own tables do not allow an access, and that nobody in the guest has mended them. Nothing was
 * read or written. Without stack trace: to a guest a page fault is nothing unusual.
 */
public final class GuestPageFaultException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What the guest gets to know. */
    private final transient GuestPageFault fault;

    GuestPageFaultException(GuestPageFault fault) {
        super("guest page fault: " + fault, null, false, false);
        this.fault = fault;
    }

    /**
     * Returns what the guest gets to know.
     *
     * @return address and error code
     */
    public GuestPageFault fault() {
        return fault;
    }
}
