package dev.tdpmmu.testkit;

import java.util.Arrays;

/**
 * Who made each step of a run, as a text that can be pasted into a test: {@code 0*3,1*2,0} says that actor 0 made three
 * steps, then actor 1 two, then actor 0 one.
 *
 * <p>A step is what an actor does from one point up to the next; its first step leads from its start to its first
 * point. Immutable.
 */
public final class Schedule {
    private final int[] actors;

    Schedule(int[] actors) {
        this.actors = actors;
    }

    /**
     * Reads the text form.
     *
     * @param text as {@link #toString} prints it
     * @return the schedule
     * @throws IllegalArgumentException if the text is not of that form
     */
    public static Schedule parse(String text) {
        int[] steps = new int[16];
        int length = 0;
        for (String run : text.strip().split(",", -1)) {
            String[] parts = run.strip().split("\\*", -1);
            int actor = number(text, parts[0]);
            int count = parts.length == 1 ? 1 : number(text, parts[1]);
            if (parts.length > 2 || actor >= ScheduleExplorer.MAX_ACTORS || count == 0) {
                throw malformed(text, null);
            }
            if (length + count > steps.length) {
                steps = Arrays.copyOf(steps, Math.max(2 * steps.length, length + count));
            }
            Arrays.fill(steps, length, length + count, actor);
            length += count;
        }
        return new Schedule(Arrays.copyOf(steps, length));
    }

    private static int number(String text, String digits) {
        try {
            return Integer.parseUnsignedInt(digits.strip());
        } catch (NumberFormatException bad) {
            throw malformed(text, bad);
        }
    }

    private static IllegalArgumentException malformed(String text, Throwable cause) {
        return new IllegalArgumentException("not a schedule: text='" + text + "', expected=0*3,1*2,0", cause);
    }

    /**
     * Returns how many steps are given.
     *
     * @return steps
     */
    public int length() {
        return actors.length;
    }

    /**
     * Returns who makes a step.
     *
     * @param step 0 to {@code length() - 1}
     * @return index of the actor
     */
    public int actorAt(int step) {
        return actors[step];
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Schedule schedule && Arrays.equals(actors, schedule.actors);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(actors);
    }

    @Override
    public String toString() {
        var text = new StringBuilder();
        int start = 0;
        while (start < actors.length) {
            int end = start + 1;
            while (end < actors.length && actors[end] == actors[start]) {
                end++;
            }
            text.append(start == 0 ? "" : ",").append(actors[start]);
            if (end - start > 1) {
                text.append('*').append(end - start);
            }
            start = end;
        }
        return text.toString();
    }
}
