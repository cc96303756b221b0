package dev.tdpmmu.testkit;

import java.util.List;
import java.util.Map;

/**
 * A small world in which a few actors meet; made afresh for every schedule.
 *
 * <p>Construction, {@link #check}, {@link #outcome} and {@link #close} run outside the actors and are never
 * interleaved. Given the same schedule a world must behave the same way each time: no clock, no randomness of its
 * own, no thread of its own that takes part. Host addresses may differ from world to world.
 */
public interface Scenario {
    /** Makes the world of one schedule. */
    @FunctionalInterface
    interface Factory {
        /**
         * Makes a fresh world.
         *
         * @return world that shares nothing with earlier ones that a schedule could tell
         * @throws Exception if it cannot be made; the exploration then ends
         */
        Scenario create() throws Exception;
    }

    /**
     * Returns the parties; asked once for each world.
     *
     * @return 2 to {@value ScheduleExplorer#MAX_ACTORS} actors, the same number and order in every world
     */
    List<Actor> actors();

    /**
     * Judges the world after all actors have ended.
     *
     * @throws Exception if it cannot be judged
     * @throws AssertionError if this schedule has done damage
     */
    void check() throws Exception;

    /**
     * Names how this schedule ended, for {@link ExplorationReport#outcomes}; asked after {@link #check}.
     *
     * @return short text; empty if the scenario does not tell outcomes apart
     */
    default String outcome() {
        return "";
    }

    /**
     * Names host physical addresses for the trace; asked only for a schedule that failed.
     *
     * @return names by address
     */
    default Map<Long, String> names() {
        return Map.of();
    }

    /**
     * Gives the world's memory back. Not called if a schedule ended with actors in the middle of their work: what
     * they hold is then lost, and waiting for it would hang.
     *
     * @throws Exception if the world cannot be closed; the schedule has then failed
     */
    default void close() throws Exception {}
}
