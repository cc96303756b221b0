package dev.tdpmmu.testkit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/**
 * The explorer must find a lost update on an off-heap entry in every run, and must not find one where there is none.
 */
final class ExplorerCanaryTest {
    @Test
    void lostUpdateIsFoundByEnumeration() {
        ScheduleExplorer explorer = ScheduleExplorer.of("lost update", Canary::broken);

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(1_000));

        System.out.println(failure.getMessage());
        assertLostUpdateRepeats(explorer, failure);
    }

    @Test
    void lostUpdateIsFoundWithOnePreemption() {
        ScheduleExplorer explorer =
                ScheduleExplorer.of("lost update", Canary::broken).preemptions(1);

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(1_000));

        assertLostUpdateRepeats(explorer, failure);
    }

    @Test
    void lostUpdateIsFoundBySampling() {
        Seeds seeds = Seeds.announce("lostUpdateIsFoundBySampling");
        ScheduleExplorer explorer = ScheduleExplorer.of("lost update", Canary::broken);

        for (int round = 0; round < 20; round++) {
            long seed = seeds.derive(round);
            var failure = assertThrows(ScheduleFailure.class, () -> explorer.sample(seed, 1_000));

            assertLostUpdateRepeats(explorer, failure);
        }
    }

    @Test
    void lostUpdateNeedsAPreemption() {
        ExplorationReport report = ScheduleExplorer.of("lost update", Canary::broken)
                .preemptions(0)
                .exhaustive(1_000)
                .requireExhausted();

        assertEquals(2, report.schedules());
    }

    @Test
    void compareAndSetLosesNothing() {
        ExplorationReport report = ScheduleExplorer.of("no lost update", () -> Canary.sound(2))
                .exhaustive(100_000)
                .requireExhausted()
                .requireOutcomes("all bits set");

        System.out.println(report);
        assertTrue(report.schedules() > 10, report.toString());
    }

    private static void assertLostUpdateRepeats(ScheduleExplorer explorer, ScheduleFailure failure) {
        System.out.println("lost update found: schedule=" + failure.schedule());
        assertEquals(ScheduleFailure.Reason.CHECK, failure.reason());
        assertTrue(failure.getCause().getMessage().startsWith("update lost"), failure.getMessage());
        assertTrue(failure.trace().contains("entry"), failure.trace());

        String printed = failure.schedule().toString();
        var again = assertThrows(ScheduleFailure.class, () -> explorer.replay(printed));

        assertEquals(failure.schedule(), again.schedule());
        assertEquals(failure.getCause().getMessage(), again.getCause().getMessage());
    }
}
