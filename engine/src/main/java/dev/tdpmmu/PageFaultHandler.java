package dev.tdpmmu;

import dev.tdpmmu.hardware.GuestPageFault;

/** The part of a guest's kernel that mends its page tables. */
@FunctionalInterface
public interface PageFaultHandler {
    /**
     * Handles a page fault. Called on the thread of the vCPU, outside the guest; may use the same vCPU.
     *
     * @param fault address and error code
     * @return whether the access shall be done again; false throws a {@link GuestPageFaultException}
     */
    boolean handle(GuestPageFault fault);
}
