package dev.tdpmmu.hardware;

/**
 * Says that a vCPU was about to use a cached translation that a completed flush had covered. The VM must not go on: the
 * access that would have used it was not done, and every later access of any vCPU throws this as well. Thrown in proof
 * runs only. No {@link IllegalStateException}, since callers take those for refusals.
 */
public final class StaleTranslationException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    StaleTranslationException(String message) {
        super(message);
    }

    StaleTranslationException(StaleTranslationException first) {
        super("VM was stopped: " + first.getMessage(), first);
    }
}
