package dev.tdpmmu.testkit;

import dev.tdpmmu.memory.Interleave;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Finds races by running a few actors over the real code in every order, or in many random orders, of their accesses.
 *
 * <p>All actors run on the calling thread, one step at a time; each access to off-heap memory, each {@link
 * Interleave#step} and each wait is a place where another actor may go on. The first schedule that fails is thrown as
 * a {@link ScheduleFailure}, which can be replayed. Before the search one unrecorded run switches only where it must,
 * so that classes are initialised and pools are filled in the same way for every schedule that counts.
 *
 * <p>What it cannot see: orders that only weak memory allows (every run is sequentially consistent), and accesses
 * that pass no interleaving point. What it cannot stand: a switch while a monitor or an owned lock of {@code
 * java.util.concurrent} is held. Such locks belong to the thread, and all actors are the same thread, so another
 * actor would walk right in. A point inside one fails as {@link ScheduleFailure.Reason#PINNED}, unless {@link
 * #trustLocks} allows it or {@link #points} leaves it out. A {@code StampedLock} has no owner and is fine if it is
 * waited for by {@link Interleave#blocked}.
 *
 * <p>The process needs {@code -Dtdpmmu.debug=prove} and {@code --add-exports java.base/jdk.internal.vm=ALL-UNNAMED}.
 * One exploration runs at a time; others wait for it.
 */
public final class ScheduleExplorer {
    /** Most actors of a scenario. */
    public static final int MAX_ACTORS = 8;

    private static final int DEFAULT_MAX_STEPS = 10_000;

    private static final int WORLDS_PER_COLLECTION = 2_000;

    /** Worlds made in this process. Guarded by {@link #EXPLORING}. */
    private static long worlds;

    private static final ReentrantLock EXPLORING = new ReentrantLock();

    private final String name;
    private final Scenario.Factory factory;
    private int maxSteps = DEFAULT_MAX_STEPS;
    private int preemptions = Integer.MAX_VALUE;
    private PointFilter points = PointFilter.ALL;
    private boolean locksAreTrusted;

    private ScheduleExplorer(String name, Scenario.Factory factory) {
        this.name = Objects.requireNonNull(name, "name");
        this.factory = Objects.requireNonNull(factory, "factory");
    }

    /**
     * Returns an explorer of one scenario, without bound on preemptions, over all points, with 10,000 steps a schedule.
     *
     * @param name for reports
     * @param factory makes the world of each schedule
     * @return new explorer
     */
    public static ScheduleExplorer of(String name, Scenario.Factory factory) {
        return new ScheduleExplorer(name, factory);
    }

    /**
     * Bounds the steps of a schedule; one that is longer has failed as a livelock.
     *
     * @param value steps, above 0
     * @return this
     */
    public ScheduleExplorer maxSteps(int value) {
        maxSteps = requirePositive("maxSteps", value);
        return this;
    }

    /**
     * Bounds how often {@link #exhaustive} may switch away from an actor that could go on. Switches from an actor that
     * waits or has ended are free; behind the eighth of a schedule they go in turn. The number of schedules grows with
     * the power of this bound, not with the length of the code, and most known races need one or two.
     *
     * @param value preemptions, 0 or more
     * @return this
     */
    public ScheduleExplorer preemptions(int value) {
        if (value < 0) {
            throw new IllegalArgumentException("preemption bound is negative: preemptions=" + value);
        }
        preemptions = value;
        return this;
    }

    /**
     * Restricts the places where a switch may happen.
     *
     * @param value the filter
     * @return this
     */
    public ScheduleExplorer points(PointFilter value) {
        points = Objects.requireNonNull(value, "points");
        return this;
    }

    /**
     * Allows points inside a {@code java.util.concurrent} lock, on the caller's word that no two actors take the same
     * one.
     *
     * @return this
     */
    public ScheduleExplorer trustLocks() {
        locksAreTrusted = true;
        return this;
    }

    /**
     * Runs every schedule within the bounds, depth first.
     *
     * @param maxSchedules where to stop, above 0; the report then says that the search was not exhausted
     * @return what was covered
     * @throws ScheduleFailure for the first schedule that failed
     */
    public ExplorationReport exhaustive(int maxSchedules) {
        requirePositive("maxSchedules", maxSchedules);
        String mode = preemptions == Integer.MAX_VALUE ? "exhaustive" : "exhaustive, preemptions<=" + preemptions;
        return explore(mode, new DepthFirstChooser(preemptions), maxSchedules);
    }

    /**
     * Runs random schedules and prints the seed; the same seed runs the same schedules.
     *
     * @param seed for instance of {@link Seeds}
     * @param schedules how many, above 0
     * @return what was covered
     * @throws ScheduleFailure for the first schedule that failed
     */
    public ExplorationReport sample(long seed, int schedules) {
        requirePositive("schedules", schedules);
        String mode = "sample, seed=" + seed;
        System.out.println("explorer: scenario='" + name + "', schedules=" + schedules + ", seed=" + seed);
        return explore(mode, new SamplingChooser(seed, maxSteps), schedules);
    }

    /**
     * Runs one given schedule; behind its end the actors go on one after the other.
     *
     * @param schedule of a failure, or written by hand
     * @return what was covered
     * @throws ScheduleFailure if it fails, or does not fit the scenario
     */
    public ExplorationReport replay(Schedule schedule) {
        return explore("replay of " + schedule, new ReplayChooser(schedule), 1);
    }

    /**
     * Runs one given schedule; behind its end the actors go on one after the other.
     *
     * @param schedule text form of a {@link Schedule}
     * @return what was covered
     * @throws ScheduleFailure if it fails, or does not fit the scenario
     */
    public ExplorationReport replay(String schedule) {
        return replay(Schedule.parse(schedule));
    }

    private static int requirePositive(String what, int value) {
        if (value <= 0) {
            throw new IllegalArgumentException(what + " is not positive: " + what + "=" + value);
        }
        return value;
    }

    private ExplorationReport explore(String mode, Chooser chooser, int maxSchedules) {
        if (Thread.currentThread().isVirtual()) {
            throw new IllegalStateException("explorer needs a platform thread: thread=" + Thread.currentThread());
        }
        if (EXPLORING.isHeldByCurrentThread()) {
            throw new IllegalStateException("exploration inside an exploration: scenario='" + name + "'");
        }
        EXPLORING.lock();
        try {
            var run = new ScheduledRun(points, maxSteps, new HeldLocks(locksAreTrusted));
            Interleave.install(run);
            return new Exploration(mode, chooser, run).explore(maxSchedules);
        } finally {
            Interleave.install(null);
            EXPLORING.unlock();
        }
    }

    /** One call of a public method: the loop over schedules and what it counts. */
    private final class Exploration {
        private final String mode;
        private final Chooser chooser;
        private final ScheduledRun run;
        private final Map<String, Long> outcomes = new TreeMap<>();
        private final long startNanos = System.nanoTime();
        private long schedules;
        private long steps;
        private int longest;
        private long hash;
        private int actorCount;

        Exploration(String mode, Chooser chooser, ScheduledRun run) {
            this.mode = mode;
            this.chooser = chooser;
            this.run = run;
        }

        ExplorationReport explore(int maxSchedules) {
            runOne(true);
            longest = run.trace().length();
            boolean more = true;
            while (more && schedules < maxSchedules) {
                chooser.begin(longest);
                schedules++;
                String outcome = runOne(false);
                outcomes.merge(outcome, 1L, Long::sum);
                steps += run.trace().length();
                longest = Math.max(longest, run.trace().length());
                hash = run.trace().hash(hash);
                more = chooser.advance();
            }
            if (run.pointsReached() == 0) {
                throw failure(ScheduleFailure.Reason.NOTHING_REACHED, "no interleaving point was reached", "", null);
            }
            Duration elapsed = Duration.ofNanos(System.nanoTime() - startNanos);
            return new ExplorationReport(name, mode, schedules, steps, longest, !more, elapsed, outcomes, hash);
        }

        private String runOne(boolean warmUp) {
            worlds++;
            if (worlds % WORLDS_PER_COLLECTION == 0) {
                // The words of a closed VM return when its objects are collected. A world is small on the heap, so
                // that the words would be used up long before a collection comes by itself.
                System.gc();
            }
            Scenario world = create();
            List<Actor> actors = List.copyOf(world.actors());
            requireSameCount(actors.size());

            run.run(actors, chooser, warmUp);
            if (run.failure() != null) {
                throw failure(run.failure(), run.failureText(), textOf(actors, world), run.failureCause());
            }

            String outcome = judge(world, actors);
            close(world, actors);
            return outcome;
        }

        private Scenario create() {
            try {
                return Objects.requireNonNull(factory.create(), "scenario");
            } catch (RuntimeException thrown) {
                throw thrown;
            } catch (Exception thrown) {
                throw new IllegalStateException("scenario could not be made: scenario='" + name + "'", thrown);
            }
        }

        private void requireSameCount(int count) {
            if (count < 2 || count > MAX_ACTORS) {
                throw new IllegalArgumentException(
                        "number of actors is out of range: actors=" + count + ", min=2, max=" + MAX_ACTORS);
            }
            if (actorCount != 0 && actorCount != count) {
                throw new IllegalArgumentException(
                        "number of actors changes: actors=" + count + ", before=" + actorCount);
            }
            actorCount = count;
        }

        private String judge(Scenario world, List<Actor> actors) {
            try {
                world.check();
                return world.outcome();
            } catch (Exception | AssertionError thrown) {
                ScheduleFailure failure =
                        failure(ScheduleFailure.Reason.CHECK, "check failed: " + thrown, textOf(actors, world), thrown);
                try {
                    world.close();
                } catch (Exception | AssertionError second) {
                    failure.addSuppressed(second);
                }
                throw failure;
            }
        }

        private void close(Scenario world, List<Actor> actors) {
            try {
                world.close();
            } catch (Exception | AssertionError thrown) {
                throw failure(ScheduleFailure.Reason.CHECK, "close failed: " + thrown, textOf(actors, world), thrown);
            }
        }

        private String textOf(List<Actor> actors, Scenario world) {
            return run.trace().text(actors, world.names());
        }

        private ScheduleFailure failure(ScheduleFailure.Reason reason, String what, String trace, Throwable cause) {
            Schedule schedule = run.trace().schedule();
            String message = reason + " in '" + name + "': " + what + "\n  mode=" + mode + ", schedule number="
                    + schedules + "\n  replay(\"" + schedule + "\")\n" + trace;
            return new ScheduleFailure(reason, message, schedule, trace, cause);
        }
    }
}
