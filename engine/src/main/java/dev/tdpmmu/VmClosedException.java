package dev.tdpmmu;

/** Says that a VM was used after, or while, it was closed. The access or operation was not done. */
public final class VmClosedException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    VmClosedException(String vmName) {
        super("VM is closed: vm=" + vmName);
    }
}
