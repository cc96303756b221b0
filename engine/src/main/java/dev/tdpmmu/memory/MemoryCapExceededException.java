package dev.tdpmmu.memory;

/** Says that a VM asked for more host memory than its cap, or than the process, has left. Nothing was changed. */
public final class MemoryCapExceededException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    /** What was asked for. */
    private final long requestedInBytes;

    /** What was in use. */
    private final long usedInBytes;

    /** The cap. */
    private final long capInBytes;

    /**
     * Makes the exception for an account.
     *
     * @param what what the memory was for
     * @param requestedInBytes bytes asked for
     * @param account account that refused
     */
    public MemoryCapExceededException(String what, long requestedInBytes, MemoryAccount account) {
        super("memory cap exceeded: for=" + what + ", requested=" + requestedInBytes + ", used=" + account.usedInBytes()
                + ", cap=" + account.capInBytes());
        this.requestedInBytes = requestedInBytes;
        this.usedInBytes = account.usedInBytes();
        this.capInBytes = account.capInBytes();
    }

    /**
     * Returns what was asked for.
     *
     * @return bytes
     */
    public long requestedInBytes() {
        return requestedInBytes;
    }

    /**
     * Returns what was in use.
     *
     * @return bytes
     */
    public long usedInBytes() {
        return usedInBytes;
    }

    /**
     * Returns the cap.
     *
     * @return bytes
     */
    public long capInBytes() {
        return capInBytes;
    }
}
