package dev.tdpmmu.sync;

/** Says that retired memory is at its bound and the grace period that would free it does not end; names the reader. */
public final class ReclaimStalledException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes the exception.
     *
     * @param message what is stalled, by whom, and the bound
     */
    public ReclaimStalledException(String message) {
        super(message);
    }
}
