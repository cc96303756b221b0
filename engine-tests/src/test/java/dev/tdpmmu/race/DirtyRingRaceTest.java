package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.FrameWords;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * A vCPU, a user and a reset on one ring: no entry is seen half written, lost, or reused before its page is armed.
 *
 * <pre>
 *  vCPU                                    | user
 *  writes slot and flag DIRTY              |
 *                                          | sees DIRTY, reads the offset of one lap ago
 *  writes the offset                       |   -- copies a page that is clean, and never the dirty one
 * </pre>
 */
final class DirtyRingRaceTest {
    private static final int NO_LIMIT = 1_000_000;

    /** Laps of before, so that entries hold old offsets and the indexes of proof runs leave the signed range. */
    private static final int EARLIER_PUSHES = 4;

    /** Page n belongs to slot n + {@link #SLOT_OF_PAGE_0}; pages are pushed in order, each once. */
    private static final int SLOT_OF_PAGE_0 = 100;

    private static final class RingWorld implements Scenario {
        private final MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);
        private final FrameAllocator frames = new FrameAllocator(account);
        /** Frames are handed out from the bottom: what lies below the ring, where a negative position would write. */
        private final FrameRun below = frames.allocate(1, HostMemory.PAGE_SIZE);

        private final DirtyRing ring;
        private final int pushes;
        private final List<Actor> actors = new ArrayList<>();
        private long pushed;
        private long collected;
        private long armed;
        private long reset;

        RingWorld(int entries, int pushes) {
            this.ring = new DirtyRing(frames, entries, 0);
            this.pushes = pushes;
            for (int i = 0; i < EARLIER_PUSHES; i++) {
                push();
                ring.collect(this::take, 1);
                reset += ring.reset(this::arm, 1);
            }
        }

        private long end() {
            return EARLIER_PUSHES + pushes;
        }

        private void push() {
            ring.push((int) pushed + SLOT_OF_PAGE_0, pushed);
            pushed++;
        }

        private void take(int slotId, long page) {
            assertEquals(collected, page, "page of another entry");
            assertEquals(collected + SLOT_OF_PAGE_0, slotId, "slot of another entry");
            collected++;
        }

        private void arm(int slotId, long firstPage, long mask) {
            assertEquals(armed, firstPage, "page of another entry");
            assertEquals(armed + SLOT_OF_PAGE_0, slotId, "slot of another entry");
            assertEquals(1, mask, "pages of different slots in one mask");
            assertTrue(armed < collected, "page is armed that was not collected");
            Interleave.step();
            assertTrue(pushed <= armed + ring.entries(), "entry was reused before its page was armed");
            armed++;
        }

        RingWorld vcpu() {
            actors.add(Actor.of("vcpu", () -> {
                while (pushed < end()) {
                    if (ring.isSoftFull()) {
                        Interleave.blocked();
                    } else {
                        assertTrue(ring.used() < ring.entries());
                        push();
                        assertTrue(pushed <= armed + ring.entries(), "entry was reused before its page was armed");
                    }
                }
            }));
            return this;
        }

        RingWorld user(int max) {
            actors.add(Actor.of("user", () -> {
                while (collected < end()) {
                    if (ring.collect(this::take, max) == 0) {
                        Interleave.blocked();
                    }
                }
            }));
            return this;
        }

        RingWorld resetter(int max) {
            actors.add(Actor.of("resetter", () -> {
                while (reset < end()) {
                    int count = ring.reset(this::arm, max);
                    assertTrue(count <= max);
                    reset += count;
                    if (count == 0) {
                        Interleave.blocked();
                    }
                }
            }));
            return this;
        }

        RingWorld resettingUser(int max) {
            actors.add(Actor.of("user", () -> {
                while (reset < end()) {
                    int count = ring.collect(this::take, max);
                    reset += ring.reset(this::arm, max);
                    if (count == 0) {
                        Interleave.blocked();
                    }
                }
            }));
            return this;
        }

        @Override
        public List<Actor> actors() {
            return actors;
        }

        @Override
        public void check() {
            assertEquals(end(), pushed);
            assertEquals(end(), collected);
            assertEquals(end(), armed);
            assertEquals(end(), reset);
            assertEquals(0, ring.used());
            for (long hpa = below.hpa(); hpa < below.hpa() + below.bytes(); hpa += FrameWords.BLOCK_BYTES) {
                assertEquals(0, FrameWords.orPlain(hpa), "entry was written below the ring");
            }
        }

        @Override
        public void close() {
            ring.release();
            below.close();
            assertEquals(0, account.usedInBytes());
        }
    }

    @Test
    void entryIsNeverSeenHalfWritten() {
        explore("ring of two", () -> new RingWorld(2, 4).vcpu().resettingUser(2), 3);
    }

    @Test
    void entryIsNeverReusedBeforeItsPageIsArmed() {
        explore("ring of one", () -> new RingWorld(1, 3).vcpu().user(1).resetter(1), 1);
    }

    @Test
    void boundedCallsLoseNoEntry() {
        explore(
                "ring of two, one entry a call",
                () -> new RingWorld(2, 3).vcpu().user(1).resetter(1),
                1);
    }

    private static void explore(String name, Scenario.Factory factory, int preemptions) {
        ScheduleExplorer explorer =
                ScheduleExplorer.of(name, factory).trustLocks().preemptions(preemptions);

        System.out.println(explorer.exhaustive(NO_LIMIT).requireExhausted());
        System.out.println(explorer.sample(Seeds.announce(name).seed(), 200));
    }
}
