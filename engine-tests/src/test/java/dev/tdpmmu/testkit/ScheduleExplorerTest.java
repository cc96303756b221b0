package dev.tdpmmu.testkit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.WordBlocks;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import org.junit.jupiter.api.Test;

/** What the explorer promises: it finds deadlocks and livelocks, repeats itself, and leaves others alone. */
final class ScheduleExplorerTest {
    /** Two words and a body for each actor. */
    private static final class Words implements Scenario {
        private final long block = WordBlocks.take(CacheLines.PAIR_BYTES);
        private final List<Actor> actors = new ArrayList<>();
        private Callable<String> outcome = () -> "";

        long first() {
            return block;
        }

        long second() {
            return block + Long.BYTES;
        }

        Words actor(String name, Actor.Body body) {
            actors.add(Actor.of(name, body));
            return this;
        }

        void lock(long word) {
            while (!HostWords.compareAndSet(word, 0, 1)) {
                requireControlled(Interleave.blocked());
            }
        }

        void unlock(long word) {
            HostWords.setRelease(word, 0);
        }

        @Override
        public List<Actor> actors() {
            return actors;
        }

        @Override
        public void check() {}

        @Override
        public String outcome() {
            try {
                return outcome.call();
            } catch (Exception thrown) {
                throw new IllegalStateException(thrown);
            }
        }

        @Override
        public void close() {
            WordBlocks.give(block, CacheLines.PAIR_BYTES);
        }
    }

    private static Scenario locksInOppositeOrder() {
        var words = new Words();
        return words.actor("firstThenSecond", () -> {
                    words.lock(words.first());
                    words.lock(words.second());
                    words.unlock(words.second());
                    words.unlock(words.first());
                })
                .actor("secondThenFirst", () -> {
                    words.lock(words.second());
                    words.lock(words.first());
                    words.unlock(words.first());
                    words.unlock(words.second());
                });
    }

    private static Scenario locksInOneOrder() {
        var words = new Words();
        Actor.Body body = () -> {
            words.lock(words.first());
            words.lock(words.second());
            words.unlock(words.second());
            words.unlock(words.first());
        };
        return words.actor("left", body).actor("right", body);
    }

    private static Scenario twoSteps(Actor.Body first, Actor.Body second) {
        return new Words().actor("first", first).actor("second", second);
    }

    @Test
    void deadlockIsFoundAndNamesTheLastPoints() {
        ScheduleExplorer explorer = ScheduleExplorer.of("opposite locks", ScheduleExplorerTest::locksInOppositeOrder);

        var failure = assertThrows(
                ScheduleFailure.class, () -> explorer.preemptions(1).exhaustive(1_000));

        assertEquals(ScheduleFailure.Reason.DEADLOCK, failure.reason(), failure.getMessage());
        assertTrue(failure.getMessage().contains("secondThenFirst"), failure.getMessage());
        var again = assertThrows(ScheduleFailure.class, () -> explorer.replay(failure.schedule()));
        assertEquals(failure.schedule(), again.schedule());
    }

    @Test
    void orderedLocksDoNotDeadlock() {
        ScheduleExplorer.of("ordered locks", ScheduleExplorerTest::locksInOneOrder)
                .exhaustive(100_000)
                .requireExhausted();
    }

    @Test
    void waiterSeesAPlainFieldAtLatestWhenNobodyElseCanGoOn() {
        ScheduleExplorer.of("fields", () -> {
                    var words = new Words();
                    boolean[] asked = new boolean[1];
                    boolean[] answered = new boolean[1];
                    return words.actor("answers", () -> {
                                waitFor(asked);
                                HostWords.readAcquire(words.first());
                                answered[0] = true;
                            })
                            .actor("asks", () -> {
                                HostWords.readAcquire(words.first());
                                asked[0] = true;
                                HostWords.readAcquire(words.first());
                                waitFor(answered);
                            });
                })
                .exhaustive(1_000)
                .requireExhausted();
    }

    private static void waitFor(boolean[] field) {
        while (!field[0]) {
            requireControlled(Interleave.blocked());
        }
    }

    private static void requireControlled(boolean controlled) {
        if (!controlled) {
            throw new IllegalStateException("explorer does not control this actor");
        }
    }

    @Test
    void spinLoopIsReportedAsLivelock() {
        ScheduleExplorer explorer = ScheduleExplorer.of("spin", () -> {
                    var words = new Words();
                    return words.actor("spins", () -> {
                                // Ends even if nobody counts the rounds, so that a blind explorer fails and does not
                                // hang.
                                for (int i = 0; i < 1_000_000 && HostWords.readAcquire(words.first()) == 0; i++) {
                                    Thread.onSpinWait();
                                }
                            })
                            .actor("forgets", () -> HostWords.setRelease(words.second(), 1));
                })
                .maxSteps(200);

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(1_000));
        var sampled = assertThrows(ScheduleFailure.class, () -> explorer.sample(1, 10));
        var filtered = assertThrows(
                ScheduleFailure.class,
                () -> explorer.points((kind, address) -> false).exhaustive(1_000));

        assertEquals(ScheduleFailure.Reason.LIVELOCK, failure.reason());
        assertEquals(ScheduleFailure.Reason.LIVELOCK, sampled.reason());
        assertEquals(ScheduleFailure.Reason.LIVELOCK, filtered.reason());
    }

    @Test
    void threeCompareAndSetActorsAreExhaustedInTheSameSchedulesEachTime() {
        ScheduleExplorer explorer = ScheduleExplorer.of("three", () -> Canary.sound(3));

        ExplorationReport first = explorer.exhaustive(100_000).requireExhausted();
        ExplorationReport second = explorer.exhaustive(100_000).requireExhausted();

        System.out.println(first);
        assertEquals(8_376, first.schedules());
        assertEquals(first.schedules(), second.schedules());
        assertEquals(first.steps(), second.steps());
        assertEquals(first.traceHash(), second.traceHash());
    }

    @Test
    void preemptionBoundShrinksTheSearch() {
        long before = 0;
        for (int bound = 0; bound <= 3; bound++) {
            ExplorationReport report = ScheduleExplorer.of("three", () -> Canary.sound(3))
                    .preemptions(bound)
                    .exhaustive(100_000)
                    .requireExhausted();

            assertTrue(report.schedules() > before, report.toString());
            before = report.schedules();
        }
        assertTrue(before < 8_376, "schedules=" + before);
    }

    @Test
    void sameSeedRunsTheSameSchedules() {
        ScheduleExplorer explorer = ScheduleExplorer.of("three", () -> Canary.sound(3));

        ExplorationReport first = explorer.sample(42, 200);
        ExplorationReport second = explorer.sample(42, 200);
        ExplorationReport other = explorer.sample(43, 200);

        assertEquals(first.traceHash(), second.traceHash());
        assertNotEquals(first.traceHash(), other.traceHash());
        assertFalse(first.exhausted());
    }

    @Test
    void samplesFindWhatNeedsManySwitches() {
        int turns = 4;
        ScheduleExplorer explorer = ScheduleExplorer.of("alternation", () -> {
            var words = new Words();
            words.outcome = () -> HostWords.readAcquire(words.first()) == 2 * turns ? "alternated" : "did not";
            return words.actor("even", () -> takeTurns(words.first(), 0, turns))
                    .actor("odd", () -> takeTurns(words.first(), 1, turns));
        });

        explorer.sample(1, 5_000).requireOutcomes("alternated", "did not");
    }

    private static void takeTurns(long word, int parity, int turns) {
        for (int turn = 0; turn < turns; turn++) {
            long expected = 2L * turn + parity;
            HostWords.compareAndSet(word, expected, expected + 1);
        }
    }

    @Test
    void samplesFindWhatNeedsOneSwitchInALongRun() {
        int steps = 40;
        ScheduleExplorer explorer = ScheduleExplorer.of("one switch", () -> {
            var words = new Words();
            boolean[] hit = new boolean[1];
            words.outcome = () -> hit[0] ? "hit" : "missed";
            return words.actor("pauses", () -> {
                        addOften(words.first(), steps);
                        long before = HostWords.readAcquire(words.second());
                        hit[0] = before == 0 && HostWords.readAcquire(words.second()) == steps;
                        addOften(words.first(), steps);
                    })
                    .actor("runsThrough", () -> addOften(words.second(), steps));
        });

        explorer.sample(1, 5_000).requireOutcomes("hit", "missed");
    }

    private static void addOften(long word, int times) {
        for (int i = 0; i < times; i++) {
            HostWords.getAndAdd(word, 1);
        }
    }

    @Test
    void outcomesAreCounted() {
        ExplorationReport report = ScheduleExplorer.of("who is last", () -> {
                    var words = new Words();
                    words.outcome = () -> "last=" + HostWords.readAcquire(words.first());
                    return words.actor("one", () -> HostWords.setRelease(words.first(), 1))
                            .actor("two", () -> HostWords.setRelease(words.first(), 2));
                })
                .exhaustive(100)
                .requireExhausted()
                .requireOutcomes("last=1", "last=2");

        assertEquals(6, report.schedules());
        assertThrows(AssertionError.class, () -> report.requireOutcomes("last=1"));
    }

    @Test
    void searchThatStopsAtItsLimitIsNotExhausted() {
        ExplorationReport report =
                ScheduleExplorer.of("three", () -> Canary.sound(3)).exhaustive(10);

        assertEquals(10, report.schedules());
        assertFalse(report.exhausted());
        assertThrows(AssertionError.class, report::requireExhausted);
    }

    @Test
    void exceptionInsideAnActorSurfaces() {
        var planted = new IllegalStateException("planted");
        ScheduleExplorer explorer = ScheduleExplorer.of(
                "throws",
                () -> twoSteps(Interleave::step, () -> {
                    Interleave.step();
                    throw planted;
                }));

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(10));

        assertEquals(ScheduleFailure.Reason.ACTOR, failure.reason());
        assertSame(planted, failure.getCause());
    }

    @Test
    void failureOfCheckWinsOverFailureOfClose() {
        ScheduleExplorer explorer = ScheduleExplorer.of("bad end", () -> new Scenario() {
            @Override
            public List<Actor> actors() {
                return List.of(Actor.of("one", Interleave::step), Actor.of("two", Interleave::step));
            }

            @Override
            public void check() {
                throw new AssertionError("checked");
            }

            @Override
            public void close() {
                throw new IllegalStateException("closed");
            }
        });

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(10));

        assertEquals("checked", failure.getCause().getMessage());
        assertEquals("closed", failure.getSuppressed()[0].getMessage());
    }

    @Test
    void locksOfStepsAloneAreADeadlockToo() {
        ScheduleExplorer explorer = ScheduleExplorer.of("heap locks", () -> {
            boolean[] left = new boolean[1];
            boolean[] right = new boolean[1];
            return twoSteps(
                    () -> {
                        lockOnHeap(left);
                        lockOnHeap(right);
                        right[0] = false;
                        left[0] = false;
                    },
                    () -> {
                        lockOnHeap(right);
                        lockOnHeap(left);
                        left[0] = false;
                        right[0] = false;
                    });
        });

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(100));

        assertEquals(ScheduleFailure.Reason.DEADLOCK, failure.reason(), failure.getMessage());
    }

    private static void lockOnHeap(boolean[] lock) {
        Interleave.step();
        while (lock[0]) {
            requireControlled(Interleave.blocked());
            Interleave.step();
        }
        lock[0] = true;
    }

    @Test
    void searchWithoutPointsFails() {
        ScheduleExplorer explorer = ScheduleExplorer.of("nothing", () -> twoSteps(() -> {}, () -> {}));

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(10));

        assertEquals(ScheduleFailure.Reason.NOTHING_REACHED, failure.reason());
    }

    @Test
    void filteredPointsAreNoSteps() {
        ExplorationReport all =
                ScheduleExplorer.of("two", () -> Canary.sound(2)).exhaustive(1_000);
        ExplorationReport updates = ScheduleExplorer.of("two", () -> Canary.sound(2))
                .points((kind, address) -> kind == Interleave.Kind.UPDATE)
                .exhaustive(1_000);

        assertTrue(
                updates.requireExhausted().schedules() < all.requireExhausted().schedules());
    }

    @Test
    void worldThatChangesIsNotRepeatable() {
        var worlds = new AtomicLong();
        ScheduleExplorer explorer = ScheduleExplorer.of("drifts", () -> {
            long world = worlds.incrementAndGet();
            return twoSteps(Interleave::step, () -> {
                if (world % 2 == 0) {
                    Interleave.step();
                }
                HostWords.readAcquire(0);
            });
        });

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(100));
        var misfit = assertThrows(
                ScheduleFailure.class,
                () -> ScheduleExplorer.of("two", () -> Canary.sound(2)).replay("0*9,1*3"));

        assertEquals(ScheduleFailure.Reason.NOT_REPEATABLE, failure.reason());
        assertEquals(ScheduleFailure.Reason.NOT_REPEATABLE, misfit.reason());
    }

    @Test
    void switchInsideANativeFrameFailsLoudly() {
        ScheduleExplorer explorer = ScheduleExplorer.of(
                "native",
                () -> twoSteps(
                        () -> {
                            var unused = Touched.VALUE;
                        },
                        Interleave::step));

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(100));

        assertEquals(ScheduleFailure.Reason.PINNED, failure.reason(), failure.getMessage());
    }

    @Test
    void pointInsideAMonitorFailsLoudly() {
        ScheduleExplorer explorer = ScheduleExplorer.of("monitor", () -> {
            var monitor = new Object();
            return twoSteps(Interleave::step, () -> {
                synchronized (monitor) {
                    Interleave.step();
                }
            });
        });

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(100));
        var trusting =
                assertThrows(ScheduleFailure.class, () -> explorer.trustLocks().exhaustive(100));

        assertEquals(ScheduleFailure.Reason.PINNED, failure.reason(), failure.getMessage());
        assertEquals(ScheduleFailure.Reason.PINNED, trusting.reason(), trusting.getMessage());
    }

    @Test
    void pointInsideALockOfTheThreadFailsUnlessTrusted() {
        ScheduleExplorer explorer = ScheduleExplorer.of("lock", () -> {
            var lock = new ReentrantLock();
            return twoSteps(Interleave::step, () -> {
                lock.lock();
                try {
                    Interleave.step();
                } finally {
                    lock.unlock();
                }
                Interleave.step();
            });
        });

        var failure = assertThrows(ScheduleFailure.class, () -> explorer.exhaustive(100));
        ExplorationReport report = explorer.trustLocks().exhaustive(100);

        assertEquals(ScheduleFailure.Reason.PINNED, failure.reason(), failure.getMessage());
        assertTrue(failure.getMessage().contains("ReentrantLock"), failure.getMessage());
        assertTrue(report.requireExhausted().schedules() > 1, report.toString());
    }

    /** Waits in its initialiser, which the virtual machine calls from a native frame. */
    private static final class Touched {
        static final Object VALUE = wait0();

        private static Object wait0() {
            Interleave.blocked();
            return "value";
        }
    }

    @Test
    void actorsHaveIdentitiesOfTheirOwn() {
        Set<Object> seen = new HashSet<>();
        Object outside = Interleave.actor();
        ScheduleExplorer explorer = ScheduleExplorer.of("identity", () -> {
            Actor.Body body = () -> {
                Object before = Interleave.actor();
                Interleave.step();
                assertSame(before, Interleave.actor());
                assertNotSame(outside, before);
                seen.add(before);
            };
            assertSame(outside, Interleave.actor());
            return twoSteps(body, body);
        });

        ExplorationReport report = explorer.exhaustive(100);

        assertEquals(2 * (report.schedules() + 1), seen.size());
        assertSame(Thread.currentThread(), Interleave.actor());
    }

    @Test
    void otherThreadsAreNotControlled() {
        var identities = new AtomicLong();
        ScheduleExplorer explorer = ScheduleExplorer.of(
                "stranger",
                () -> twoSteps(Interleave::step, () -> {
                    var stranger = new Thread(() -> {
                        Interleave.step();
                        if (!Interleave.blocked() && Interleave.actor() == Thread.currentThread()) {
                            identities.incrementAndGet();
                        }
                    });
                    stranger.start();
                    stranger.join();
                }));

        ExplorationReport report = explorer.exhaustive(100).requireExhausted();

        assertEquals(report.schedules() + 1, identities.get());
    }

    @Test
    void scheduleTextRoundTrips() {
        Schedule schedule = Schedule.parse("0*3, 1*2,0");

        assertEquals("0*3,1*2,0", schedule.toString());
        assertEquals(6, schedule.length());
        assertEquals(schedule, Schedule.parse(schedule.toString()));
        for (String bad : List.of("", "a", "0*", "0*0", "-1", "9", "0*1*1", "0,,1")) {
            assertThrows(IllegalArgumentException.class, () -> Schedule.parse(bad), bad);
        }
    }

    @Test
    void optionsOutOfRangeAreRefused() {
        ScheduleExplorer explorer = ScheduleExplorer.of("options", () -> Canary.sound(2));

        assertThrows(IllegalArgumentException.class, () -> explorer.exhaustive(0));
        assertThrows(IllegalArgumentException.class, () -> explorer.sample(1, 0));
        assertThrows(IllegalArgumentException.class, () -> explorer.maxSteps(0));
        assertThrows(IllegalArgumentException.class, () -> explorer.preemptions(-1));
        assertThrows(
                IllegalArgumentException.class,
                () -> ScheduleExplorer.of("one", () -> new Words().actor("alone", Interleave::step))
                        .exhaustive(1));
    }
}
