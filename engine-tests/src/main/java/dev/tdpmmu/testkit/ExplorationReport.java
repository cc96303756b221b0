package dev.tdpmmu.testkit;

import java.time.Duration;
import java.util.Map;
import java.util.Set;

/**
 * What an exploration without failure has covered.
 *
 * @param scenario name of the scenario
 * @param mode how schedules were chosen, for people
 * @param schedules schedules run, above 0
 * @param steps steps of all schedules
 * @param longestSchedule steps of the longest schedule
 * @param exhausted whether there is no further schedule within the bounds
 * @param elapsed time taken
 * @param outcomes how many schedules ended with each {@link Scenario#outcome}
 * @param traceHash hash of who did which kind of access in which order, over all schedules; equal for equal
 * explorations
 */
public record ExplorationReport(
        String scenario,
        String mode,
        long schedules,
        long steps,
        int longestSchedule,
        boolean exhausted,
        Duration elapsed,
        Map<String, Long> outcomes,
        long traceHash) {
    /**
     * Copies the outcomes.
     */
    public ExplorationReport {
        outcomes = Map.copyOf(outcomes);
    }

    /**
     * Demands that nothing is left to explore within the bounds.
     *
     * @return this
     * @throws AssertionError if the search stopped at its limit on schedules
     */
    public ExplorationReport requireExhausted() {
        if (!exhausted) {
            throw new AssertionError("search stopped at its limit: " + this);
        }
        return this;
    }

    /**
     * Demands that the schedules ended in these ways and in no other, so that no interesting case was missed.
     *
     * @param expected the outcomes
     * @return this
     * @throws AssertionError if an outcome is missing or unexpected
     */
    public ExplorationReport requireOutcomes(String... expected) {
        if (!outcomes.keySet().equals(Set.of(expected))) {
            throw new AssertionError("other outcomes than expected: expected=" + Set.of(expected) + ", " + this);
        }
        return this;
    }

    @Override
    public String toString() {
        return "scenario='" + scenario + "', mode=" + mode + ", schedules=" + schedules + ", steps=" + steps
                + ", longest=" + longestSchedule + ", exhausted=" + exhausted + ", millis=" + elapsed.toMillis()
                + ", outcomes=" + outcomes + ", traceHash=" + Long.toHexString(traceHash);
    }
}
