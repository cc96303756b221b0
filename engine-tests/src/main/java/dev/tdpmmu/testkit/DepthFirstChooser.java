package dev.tdpmmu.testkit;

import java.util.Arrays;

/**
 * Enumerates schedules depth first: each one repeats a prefix of the one before it and differs at the last decision
 * that has an alternative left. Going on with the current actor comes first, so that the schedules with few switches
 * come early.
 */
final class DepthFirstChooser implements Chooser {
    /**
     * Switches from an actor that waits or has ended at which every successor is tried; later ones go in turn. Two
     * actors that wait in a loop for a third could else hand over to each other for ever: each one's attempt looks like
     * a change to the other.
     */
    private static final int OPEN_FORCED_SWITCHES = 8;

    private final int preemptionBound;

    private int[] choices = new int[64];
    private int[] counts = new int[64];
    private int[] enabledSets = new int[64];
    private int[] signatures = new int[64];
    private int depth;
    private int cursor;
    private int preemptions;
    private int forcedSwitches;
    private int lastChosen;

    DepthFirstChooser(int preemptionBound) {
        this.preemptionBound = preemptionBound;
    }

    @Override
    public void begin(int longestSchedule) {
        cursor = 0;
        preemptions = 0;
        forcedSwitches = 0;
        lastChosen = -1;
    }

    @Override
    public int choose(int step, int current, int enabled, int signature) {
        boolean bound = current >= 0 && preemptions >= preemptionBound;
        int count = bound ? 1 : Integer.bitCount(enabled);
        if (current < 0) {
            forcedSwitches++;
        }
        if (count == 1 || forcedSwitches > OPEN_FORCED_SWITCHES && current < 0) {
            lastChosen = bound ? current : candidate(current, enabled, 0);
            return lastChosen;
        }
        if (cursor == depth) {
            push(count, enabled, signature);
        } else if (counts[cursor] != count || enabledSets[cursor] != enabled || signatures[cursor] != signature) {
            return NOT_REPEATABLE;
        }
        int chosen = candidate(current, enabled, choices[cursor]);
        cursor++;
        if (current >= 0 && chosen != current) {
            preemptions++;
        }
        lastChosen = chosen;
        return chosen;
    }

    @Override
    public boolean advance() {
        while (depth > 0 && choices[depth - 1] + 1 == counts[depth - 1]) {
            depth--;
        }
        if (depth == 0) {
            return false;
        }
        choices[depth - 1]++;
        return true;
    }

    private void push(int count, int enabled, int signature) {
        if (depth == choices.length) {
            choices = Arrays.copyOf(choices, 2 * depth);
            counts = Arrays.copyOf(counts, 2 * depth);
            enabledSets = Arrays.copyOf(enabledSets, 2 * depth);
            signatures = Arrays.copyOf(signatures, 2 * depth);
        }
        choices[depth] = 0;
        counts[depth] = count;
        enabledSets[depth] = enabled;
        signatures[depth] = signature;
        depth++;
    }

    private int candidate(int current, int enabled, int position) {
        if (current < 0) {
            // In turn, beginning behind who ran last.
            int behind = enabled & -(1 << lastChosen + 1);
            int count = Integer.bitCount(behind);
            return position < count ? nthSetBit(behind, position) : nthSetBit(enabled & ~behind, position - count);
        }
        return position == 0 ? current : nthSetBit(enabled & ~(1 << current), position - 1);
    }

    static int nthSetBit(int set, int position) {
        int rest = set;
        for (int i = 0; i < position; i++) {
            rest &= rest - 1;
        }
        return Integer.numberOfTrailingZeros(rest);
    }
}
