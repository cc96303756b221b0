package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * The MMU lock under its three policies: an exclusive holder is alone, everybody comes in, and who yields lets others
 * in.
 *
 * <pre>
 *  reader                                   | writer
 *                                           | exclusive := 1, takes the StampedLock
 *                                           | reads the reader's slot: outside
 *  slot := FAULTING                         |
 *  does not look at exclusive, goes on      | goes on   -- both are inside
 * </pre>
 */
final class MmuLockRaceTest {
    private static final int NO_LIMIT = 1_000_000;

    /** A lock, and who is inside. */
    private static final class LockWorld implements Scenario {
        private final ReaderSlots slots = new ReaderSlots();
        private final MmuLock lock;
        private final List<Actor> actors = new ArrayList<>();
        private int sharedInside;
        private int exclusiveInside;
        private int turns;
        private int expectedTurns;

        LockWorld(LockPolicy policy) {
            lock = MmuLock.of(policy, slots);
        }

        private void enter(LockMode mode) {
            if (mode == LockMode.EXCLUSIVE) {
                exclusiveInside++;
            } else {
                sharedInside++;
            }
            assertAlone();
            Interleave.step();
            assertAlone();
            turns++;
        }

        private void leave(LockMode mode) {
            assertAlone();
            if (mode == LockMode.EXCLUSIVE) {
                exclusiveInside--;
            } else {
                sharedInside--;
            }
        }

        private void assertAlone() {
            assertTrue(
                    exclusiveInside <= 1 && (exclusiveInside == 0 || sharedInside == 0),
                    () -> "not alone: exclusive=" + exclusiveInside + ", shared=" + sharedInside);
        }

        LockWorld holder(String name, LockMode mode, int times) {
            ReaderSlot slot = slots.take(name);
            expectedTurns += times;
            actors.add(Actor.of(name, () -> {
                for (int i = 0; i < times; i++) {
                    lock.lock(slot, mode);
                    enter(mode);
                    leave(mode);
                    lock.unlock(slot, mode);
                }
            }));
            return this;
        }

        LockWorld fault(String name, boolean policyIsExclusive) {
            ReaderSlot slot = slots.take(name);
            LockMode mode = policyIsExclusive ? LockMode.EXCLUSIVE : LockMode.SHARED;
            expectedTurns++;
            actors.add(Actor.of(name, () -> {
                lock.lockForFault(slot);
                enter(mode);
                leave(mode);
                lock.unlockForFault(slot);
                assertEquals(ReaderSlot.HANDLING, ReaderSlot.modeOf(slot.state()));
                slot.leave(ReaderSlot.OUTSIDE);
            }));
            return this;
        }

        /** Holds the lock and yields until somebody else has had a turn. */
        LockWorld yielder(String name, LockMode mode) {
            ReaderSlot slot = slots.take(name);
            actors.add(Actor.of(name, () -> {
                lock.lock(slot, mode);
                while (turns == 0) {
                    if (lock.isContended(mode)) {
                        lock.yield(slot, mode);
                        assertTrue(turns > 0, "yielded and nobody came in");
                    } else if (!Interleave.blocked()) {
                        throw new IllegalStateException("not controlled");
                    }
                }
                lock.unlock(slot, mode);
            }));
            return this;
        }

        @Override
        public List<Actor> actors() {
            return actors;
        }

        @Override
        public void check() {
            assertEquals(expectedTurns, turns);
            for (int i = 0; i < slots.size(); i++) {
                assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(slots.at(i).state()));
            }
        }

        @Override
        public String outcome() {
            return "waits " + slots.sum(Counter.LOCK_WAITS);
        }

        @Override
        public void close() {
            lock.close();
        }
    }

    private static void explore(String name, Scenario.Factory factory, int preemptions, int sampled) {
        // No actor takes an owned lock; saying so spares the search for them.
        ScheduleExplorer explorer =
                ScheduleExplorer.of(name, factory).trustLocks().preemptions(preemptions);

        System.out.println(explorer.exhaustive(NO_LIMIT).requireExhausted());
        System.out.println(explorer.sample(Seeds.announce(name).seed(), sampled));
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHolderIsAloneAmongShared(LockPolicy policy) {
        explore(
                "shared against exclusive, " + policy,
                () -> new LockWorld(policy)
                        .holder("shared", LockMode.SHARED, 1)
                        .holder("exclusive", LockMode.EXCLUSIVE, 2),
                4,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHolderIsAloneAmongFaults(LockPolicy policy) {
        boolean exclusive = policy == LockPolicy.EXCLUSIVE;
        explore(
                "faults against exclusive, " + policy,
                () -> new LockWorld(policy)
                        .fault("fault", exclusive)
                        .fault("otherFault", exclusive)
                        .holder("exclusive", LockMode.EXCLUSIVE, 1),
                1,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void twoExclusiveHoldersNeverMeet(LockPolicy policy) {
        explore(
                "two exclusive and one shared, " + policy,
                () -> new LockWorld(policy)
                        .holder("first", LockMode.EXCLUSIVE, 1)
                        .holder("second", LockMode.EXCLUSIVE, 1)
                        .holder("shared", LockMode.SHARED, 1),
                1,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHolderThatYieldsLetsExclusiveIn(LockPolicy policy) {
        explore(
                "exclusive yields to exclusive, " + policy,
                () -> new LockWorld(policy)
                        .yielder("yielder", LockMode.EXCLUSIVE)
                        .holder("waiter", LockMode.EXCLUSIVE, 1),
                2,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void exclusiveHolderThatYieldsLetsSharedIn(LockPolicy policy) {
        explore(
                "exclusive yields to shared, " + policy,
                () -> new LockWorld(policy)
                        .yielder("yielder", LockMode.EXCLUSIVE)
                        .holder("waiter", LockMode.SHARED, 1),
                2,
                60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void sharedHolderThatYieldsLetsExclusiveIn(LockPolicy policy) {
        explore(
                "shared yields to exclusive, " + policy,
                () -> new LockWorld(policy).yielder("yielder", LockMode.SHARED).holder("waiter", LockMode.EXCLUSIVE, 1),
                2,
                60);
    }
}
