package dev.tdpmmu.testkit;

/** A schedule that went wrong, with what is needed to see it again: the schedule, the trace and the cause. */
public final class ScheduleFailure extends AssertionError {
    private static final long serialVersionUID = 1L;

    /** What went wrong. */
    public enum Reason {
        /** The scenario's check, or its close, threw. */
        CHECK,
        /** An actor threw. */
        ACTOR,
        /** Every actor that has not ended waits for another. */
        DEADLOCK,
        /** The actors did not end within the bound on steps. */
        LIVELOCK,
        /**
         * An actor cannot be switched away from: it holds a lock of the thread or has a native frame (a class
         * initialiser).
         */
        PINNED,
        /** The world did not repeat what it did under the same schedule, or a given schedule does not fit it. */
        NOT_REPEATABLE,
        /** No interleaving point was reached: the search would have proved nothing. */
        NOTHING_REACHED
    }

    /** What went wrong. */
    private final Reason reason;

    // Transient: a failure that was sent to another process still has the schedule in its message.
    private final transient Schedule schedule;

    /** The steps, one a line. */
    private final String trace;

    ScheduleFailure(Reason reason, String message, Schedule schedule, String trace, Throwable cause) {
        super(message, cause);
        this.reason = reason;
        this.schedule = schedule;
        this.trace = trace;
    }

    /**
     * Tells what went wrong.
     *
     * @return the reason
     */
    public Reason reason() {
        return reason;
    }

    /**
     * Returns the schedule, for {@link ScheduleExplorer#replay(Schedule)}.
     *
     * @return the steps up to the failure
     */
    public Schedule schedule() {
        return schedule;
    }

    /**
     * Returns the steps one by one: actor, access, address.
     *
     * @return text of many lines
     */
    public String trace() {
        return trace;
    }
}
