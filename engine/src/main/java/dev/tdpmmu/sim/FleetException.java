package dev.tdpmmu.sim;

import java.io.Serial;

/** A vCPU of a fleet failed, or the fleet could not be started. The cause is the first failure. */
public final class FleetException extends RuntimeException {
    @Serial
    private static final long serialVersionUID = 1L;

    FleetException(String message, Throwable cause) {
        super(message, cause);
    }
}
