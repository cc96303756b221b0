package dev.tdpmmu.testkit;

import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * Draws schedules by seed. Every other schedule switches at random at each step; those between give each actor a random
 * priority, run the highest that can go on, and lower the running one at one to three random steps.
 *
 * <p>Few well-placed switches find most real bugs (probabilistic concurrency testing, Burckhardt and others, 2010),
 * while uniform switching finds those that need many. Strict priorities would starve the one whom a spinning actor
 * waits for, so past half of the bound on steps both kinds are uniform: what then still does not end is a livelock,
 * not bad luck.
 */
final class SamplingChooser implements Chooser {
    private static final int MAX_CHANGES = 3;

    private final SplittableRandom seeds;
    private final int fairFromStep;
    private final int[] priorities = new int[ScheduleExplorer.MAX_ACTORS];
    private final int[] changes = new int[MAX_CHANGES];
    private SplittableRandom random;
    private boolean byPriority;
    private int lowest;
    private long started;

    SamplingChooser(long seed, int maxSteps) {
        this.seeds = new SplittableRandom(seed);
        this.fairFromStep = maxSteps / 2;
    }

    @Override
    public void begin(int longestSchedule) {
        random = new SplittableRandom(seeds.nextLong());
        byPriority = (started & 1) == 1;
        started++;
        lowest = 0;
        for (int i = 0; i < priorities.length; i++) {
            priorities[i] = 1 + random.nextInt(1 << 20);
        }
        Arrays.fill(changes, -1);
        int changeCount = 1 + random.nextInt(MAX_CHANGES);
        for (int i = 0; i < changeCount; i++) {
            changes[i] = random.nextInt(Math.max(1, longestSchedule));
        }
    }

    @Override
    public int choose(int step, int current, int enabled, int signature) {
        if (!byPriority || step >= fairFromStep) {
            return DepthFirstChooser.nthSetBit(enabled, random.nextInt(Integer.bitCount(enabled)));
        }
        if (current >= 0 && isChange(step)) {
            lowest--;
            priorities[current] = lowest;
        }
        return highest(enabled);
    }

    @Override
    public boolean advance() {
        return true;
    }

    private boolean isChange(int step) {
        return step == changes[0] || step == changes[1] || step == changes[2];
    }

    private int highest(int enabled) {
        int best = Integer.numberOfTrailingZeros(enabled);
        for (int rest = enabled; rest != 0; rest &= rest - 1) {
            int actor = Integer.numberOfTrailingZeros(rest);
            if (priorities[actor] > priorities[best]) {
                best = actor;
            }
        }
        return best;
    }
}
