package dev.tdpmmu.sync;

import dev.tdpmmu.memory.Interleave;
import org.agrona.concurrent.BackoffIdleStrategy;

/**
 * Waits outside sections: spins a little, then yields, then parks; under the test kit it hands over instead. A virtual
 * thread that spun without end would keep the others from their carrier.
 */
final class Waiting {
    private static final long MAX_SPINS = 64;
    private static final long MAX_YIELDS = 32;
    private static final long MIN_PARK_NANOS = 10_000;
    private static final long MAX_PARK_NANOS = 500_000;

    private final BackoffIdleStrategy idle =
            new BackoffIdleStrategy(MAX_SPINS, MAX_YIELDS, MIN_PARK_NANOS, MAX_PARK_NANOS);

    void once() {
        if (!Interleave.blocked()) {
            idle.idle();
        }
    }
}
