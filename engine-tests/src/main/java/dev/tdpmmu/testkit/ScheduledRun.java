package dev.tdpmmu.testkit;

import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import java.util.List;
import java.util.Map;
import jdk.internal.vm.Continuation;
import jdk.internal.vm.ContinuationScope;

/**
 * Runs the actors of one world at a time on the calling thread, one step after the other, as a {@link Chooser} says.
 */
final class ScheduledRun implements Interleave.Hook {
    private static final int WRITE = Interleave.Kind.WRITE.ordinal();
    private static final int UPDATE = Interleave.Kind.UPDATE.ordinal();
    private static final int STEP = Interleave.Kind.STEP.ordinal();

    private static final ContinuationScope SCOPE = new ContinuationScope("tdpmmu-schedule");

    /** A filtered point is no step, but a loop over filtered points must end as well. */
    private static final int PASSED_PER_STEP = 64;

    private static final int FRUITLESS_WAITS = 32;

    private final PointFilter filter;
    private final HeldLocks heldLocks;
    private final int maxSteps;
    private final Thread thread = Thread.currentThread();
    private final Trace trace = new Trace();

    private Chooser chooser;
    private List<Actor> parties;
    private Task[] tasks;
    private Task running;
    private int next;
    private boolean isWarmUp;
    private long pointsReached;
    private long passedPoints;
    private long wordBefore;
    private boolean watchesWord;
    private long writes;
    private long writesAtSecondLook;
    private ScheduleFailure.Reason failure;
    private String failureText;
    private Throwable failureCause;

    /*
     * Idea: an actor is a continuation. A point of the engine calls access(), still on the actor's stack. There the
     * next actor is chosen; if it is the same one, access() just returns, else the continuation yields to the loop in
     * run(), which mounts the other. So only a real switch costs a freeze and a thaw.
     *
     * A step is recorded when it begins, that is when an actor is let pass the point before which it stood. The trace
     * is so in the order in which the accesses happen.
     *
     * Waiting: an actor that said blocked() stays out until another has changed a word (so a compare-and-set that
     * failed wakes nobody), has passed a STEP, or has ended. If nobody is left who can go on, everyone who waits may
     * look once more, because state that a waiter looks at may have changed between two points (an opaque word, a
     * field). If all of them wait again and still nothing was written, that is a deadlock. Actors that wake each
     * other by STEPs alone, round after round without a change of a word, are in a deadlock as well: steps of a lock
     * on the heap look like that.
     *
     * An actor that is given up in the middle is never mounted again; what it holds is lost with its world.
     */

    /** One actor while it runs; its identity is what the engine's checkers see as the thread. */
    private final class Task implements Runnable {
        final int index;
        final String name;
        final Actor.Body body;
        final Continuation continuation;
        int pendingCode = Trace.START;
        long pendingAddress;
        boolean ended;
        boolean waiting;
        long ownWrites;
        long othersWritesWhenBlocked;
        int waitsSinceChange;

        Task(int index, Actor actor) {
            this.index = index;
            this.name = actor.name();
            this.body = actor.body();
            this.continuation = new ActorContinuation(this);
        }

        @Override
        public void run() {
            try {
                body.run();
            } catch (Throwable thrown) {
                fail(ScheduleFailure.Reason.ACTOR, "actor threw: actor=" + name + ", thrown=" + thrown, thrown);
            }
        }

        boolean canGoOn() {
            return !ended && (!waiting || writes - ownWrites > othersWritesWhenBlocked);
        }

        @Override
        public String toString() {
            return "actor " + name;
        }
    }

    private final class ActorContinuation extends Continuation {
        ActorContinuation(Task task) {
            super(SCOPE, task);
        }

        @Override
        protected void onPinned(Pinned reason) {
            // Thrown through the actor's own frames. It is recorded first, as those frames may swallow it.
            var pinned = new IllegalStateException("actor cannot be switched away from: actor=" + running.name
                    + ", pinned=" + reason + ", before=" + Trace.nameOf(running.pendingCode));
            fail(ScheduleFailure.Reason.PINNED, pinned.getMessage(), pinned);
            throw pinned;
        }
    }

    ScheduledRun(PointFilter filter, int maxSteps, HeldLocks heldLocks) {
        this.heldLocks = heldLocks;
        this.filter = filter;
        this.maxSteps = maxSteps;
    }

    Trace trace() {
        return trace;
    }

    long pointsReached() {
        return pointsReached;
    }

    ScheduleFailure.Reason failure() {
        return failure;
    }

    String failureText() {
        return failureText;
    }

    Throwable failureCause() {
        return failureCause;
    }

    /**
     * Runs the actors until all have ended or one of them, or the run, has failed.
     *
     * @param actors the parties
     * @param by who chooses
     * @param warmUp whether an actor is left only where it must be, so that classes are initialised without a switch
     */
    void run(List<Actor> actors, Chooser by, boolean warmUp) {
        reset(actors, by, warmUp);
        choose(-1);
        while (failure == null && next >= 0) {
            Task task = tasks[next];
            running = task;
            try {
                task.continuation.run();
            } finally {
                running = null;
            }
            if (task.continuation.isDone() && failure == null) {
                settleWord(task);
                task.ended = true;
                countChange(task);
                choose(-1);
            }
        }
    }

    private void reset(List<Actor> actors, Chooser by, boolean warmUp) {
        chooser = by;
        parties = actors;
        isWarmUp = warmUp;
        tasks = new Task[actors.size()];
        for (int i = 0; i < tasks.length; i++) {
            tasks[i] = new Task(i, actors.get(i));
        }
        trace.clear();
        passedPoints = 0;
        watchesWord = false;
        writes = 0;
        writesAtSecondLook = -1;
        failure = null;
        failureText = null;
        failureCause = null;
    }

    @Override
    public void access(Interleave.Kind kind, long address) {
        Task task = running;
        if (Thread.currentThread() != thread || task == null) {
            return;
        }
        if (!filter.includes(kind, address)) {
            passFiltered(task, kind);
            return;
        }
        pointsReached++;
        settleWord(task);
        arrive(task, kind.ordinal(), address);
    }

    @Override
    public boolean blocked() {
        Task task = running;
        if (Thread.currentThread() != thread || task == null) {
            return false;
        }
        settleWord(task);
        task.waiting = true;
        task.waitsSinceChange++;
        task.othersWritesWhenBlocked = writes - task.ownWrites;
        arrive(task, Trace.WAIT, 0);
        return true;
    }

    @Override
    public Object actor() {
        Task task = running;
        Thread current = Thread.currentThread();
        return current == thread && task != null ? task : current;
    }

    private void passFiltered(Task task, Interleave.Kind kind) {
        if (kind != Interleave.Kind.READ) {
            countChange(task);
        }
        passedPoints++;
        if (passedPoints > (long) maxSteps * PASSED_PER_STEP) {
            failLivelock();
            leave();
        }
    }

    private void arrive(Task task, int code, long address) {
        task.pendingCode = code;
        task.pendingAddress = address;
        choose(task.canGoOn() ? task.index : -1);
        boolean leaves = failure != null || next != task.index;
        if (leaves || isWarmUp) {
            requireNoLocks(task);
        }
        if (leaves) {
            leave();
        }
    }

    private void requireNoLocks(Task task) {
        String held = failure == null ? heldLocks.find() : "";
        if (!held.isEmpty()) {
            var pinned = new IllegalStateException("actor reaches a point with a lock of the thread: actor=" + task.name
                    + ", lock=" + held + ", before=" + Trace.nameOf(task.pendingCode));
            fail(ScheduleFailure.Reason.PINNED, pinned.getMessage(), pinned);
            throw pinned;
        }
    }

    private static void leave() {
        // The result says nothing to us: a pinned actor throws in onPinned.
        boolean unused = Continuation.yield(SCOPE);
    }

    /** Sets {@link #next}, or a failure, and records the step that begins. */
    private void choose(int current) {
        int enabled = enabledSet();
        if (enabled == 0 || allWaitInVain()) {
            next = -1;
            if (someoneWaits()) {
                failDeadlock();
            }
            return;
        }
        if (trace.length() >= maxSteps) {
            failLivelock();
            return;
        }
        int chosen = chosenOf(current, enabled);
        if (chosen == Chooser.NOT_REPEATABLE) {
            fail(
                    ScheduleFailure.Reason.NOT_REPEATABLE,
                    "world does not follow the schedule: step=" + trace.length() + ", canGoOn="
                            + Integer.toBinaryString(enabled),
                    null);
            return;
        }
        next = chosen;
        begin(tasks[chosen]);
    }

    private int chosenOf(int current, int enabled) {
        if (isWarmUp) {
            return current >= 0 ? current : Integer.numberOfTrailingZeros(enabled);
        }
        return chooser.choose(trace.length(), current, enabled, signature());
    }

    private void begin(Task task) {
        int code = task.pendingCode;
        wordBefore = Trace.touchesMemory(code) ? HostWords.readOpaque(task.pendingAddress) : 0;
        watchesWord = code == WRITE || code == UPDATE;
        trace.add(task.index, code, task.pendingAddress, wordBefore);
        task.waiting = false;
        if (code == Trace.START || code == STEP) {
            countWrite(task);
        }
    }

    /** Looks, once the access has been made, whether it changed its word. */
    private void settleWord(Task task) {
        if (watchesWord) {
            watchesWord = false;
            if (HostWords.readOpaque(task.pendingAddress) != wordBefore) {
                countChange(task);
            }
        }
    }

    private void countChange(Task task) {
        countWrite(task);
        for (Task other : tasks) {
            other.waitsSinceChange = 0;
        }
    }

    private void countWrite(Task task) {
        writes++;
        task.ownWrites++;
    }

    private int enabledSet() {
        int enabled = 0;
        for (Task task : tasks) {
            enabled |= task.canGoOn() ? 1 << task.index : 0;
        }
        if (enabled == 0 && someoneWaits() && writesAtSecondLook != writes) {
            writesAtSecondLook = writes;
            for (Task task : tasks) {
                task.waiting = false;
                enabled |= task.ended ? 0 : 1 << task.index;
            }
        }
        return enabled;
    }

    private boolean allWaitInVain() {
        for (Task task : tasks) {
            if (!task.ended && task.waitsSinceChange < FRUITLESS_WAITS) {
                return false;
            }
        }
        return true;
    }

    private boolean someoneWaits() {
        for (Task task : tasks) {
            if (!task.ended) {
                return true;
            }
        }
        return false;
    }

    private int signature() {
        int signature = trace.length();
        for (Task task : tasks) {
            signature = signature * 31 + (task.ended ? 17 : task.pendingCode);
        }
        return signature;
    }

    private void failDeadlock() {
        var text = new StringBuilder("every actor that has not ended waits; last points of each:\n");
        for (Task task : tasks) {
            if (!task.ended) {
                text.append(trace.lastPoints(task.index, parties, Map.of()));
            }
        }
        fail(ScheduleFailure.Reason.DEADLOCK, text.toString(), null);
    }

    private void failLivelock() {
        fail(
                ScheduleFailure.Reason.LIVELOCK,
                "actors do not end: steps=" + trace.length() + ", maxSteps=" + maxSteps + ", unfilteredPointsPassed="
                        + passedPoints,
                null);
    }

    private void fail(ScheduleFailure.Reason reason, String text, Throwable cause) {
        if (failure == null) {
            failure = reason;
            failureText = text;
            failureCause = cause;
        }
    }
}
