package dev.tdpmmu.testkit;

/** Chooses who makes the next step. One object serves all schedules of an exploration. */
sealed interface Chooser permits DepthFirstChooser, SamplingChooser, ReplayChooser {
    /** Returned by {@link #choose} if the world does not do what this schedule did before. */
    int NOT_REPEATABLE = -1;

    /**
     * Starts a schedule.
     *
     * @param longestSchedule steps of the longest schedule so far
     */
    void begin(int longestSchedule);

    /**
     * Chooses.
     *
     * @param step number of the step, from 0
     * @param current actor that made the last step and can go on, or -1
     * @param enabled bit set of actors that can go on, not 0
     * @param signature what the actors stand before
     * @return an enabled actor, or {@link #NOT_REPEATABLE}
     */
    int choose(int step, int current, int enabled, int signature);

    /**
     * Ends a schedule.
     *
     * @return whether there is another
     */
    boolean advance();
}
