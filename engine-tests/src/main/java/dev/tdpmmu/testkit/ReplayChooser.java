package dev.tdpmmu.testkit;

/** Repeats one schedule; behind its end the current actor goes on, else the first that can. */
final class ReplayChooser implements Chooser {
    private final Schedule schedule;

    ReplayChooser(Schedule schedule) {
        this.schedule = schedule;
    }

    @Override
    public void begin(int longestSchedule) {}

    @Override
    public int choose(int step, int current, int enabled, int signature) {
        if (step < schedule.length()) {
            int actor = schedule.actorAt(step);
            return (enabled >>> actor & 1) != 0 ? actor : NOT_REPEATABLE;
        }
        return current >= 0 ? current : Integer.numberOfTrailingZeros(enabled);
    }

    @Override
    public boolean advance() {
        return false;
    }
}
