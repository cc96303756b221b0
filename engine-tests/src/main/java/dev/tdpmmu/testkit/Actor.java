package dev.tdpmmu.testkit;

import java.util.Objects;

/**
 * One of the parties of a {@link Scenario}: a name for the trace and the code that it runs.
 *
 * @param name for traces, not blank
 * @param body what the actor does; run once
 */
public record Actor(String name, Body body) {
    /** What an actor does. */
    @FunctionalInterface
    public interface Body {
        /**
         * Runs the actor's part of the scenario.
         *
         * @throws Exception if the part fails; the schedule has then failed
         */
        void run() throws Exception;
    }

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if the name is blank
     */
    public Actor {
        Objects.requireNonNull(name, "name");
        Objects.requireNonNull(body, "body");
        if (name.isBlank()) {
            throw new IllegalArgumentException("actor has no name: name='" + name + "'");
        }
    }

    /**
     * Makes an actor.
     *
     * @param name for traces, not blank
     * @param body what it does
     * @return the actor
     */
    public static Actor of(String name, Body body) {
        return new Actor(name, body);
    }
}
