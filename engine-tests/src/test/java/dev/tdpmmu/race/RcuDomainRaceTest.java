package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.memory.WordBlocks;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.sync.RetiredBatch;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * Readers against retirement: a page that a section can still reach does not come back to the pool.
 *
 * <pre>
 *  reader                                  | remover
 *  enters, reads the link: page P          |
 *                                          | unlinks P, retires P with the epoch of now
 *                                          | moves the epoch on, finds no reader that it looks for, frees P
 *  reads P                                 |   -- somebody else's page
 * </pre>
 */
final class RcuDomainRaceTest {
    private static final int NO_LIMIT = 1_000_000;
    private static final int ADVANCES_TO_WRAP = 63;

    /** A word that links one page; readers follow it, removers unlink it. */
    private static final class RcuWorld implements Scenario {
        private final ReaderSlots slots = new ReaderSlots();
        private final MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);
        private final TablePool pool = new TablePool(1, account);
        private final RcuDomain domain = new RcuDomain(slots, pool, 100, Duration.ofSeconds(10));
        private final long link = WordBlocks.take(CacheLines.PAIR_BYTES);
        private final List<Actor> actors = new ArrayList<>();

        RcuWorld() {
            pool.prewarm(4);
            relink();
            // In proof runs the epoch starts just before its 61 bits wrap: let it wrap while the actors run.
            for (int i = 0; i < ADVANCES_TO_WRAP; i++) {
                domain.synchronize();
            }
        }

        private void relink() {
            long page = pool.take();
            TableHeaders.describe(page, 0, 1, 0);
            HostWords.setRelease(link, page);
        }

        RcuWorld reader(String name, int sections) {
            ReaderSlot slot = slots.take(name);
            actors.add(Actor.of(name, () -> {
                for (int i = 0; i < sections; i++) {
                    slot.enter(ReaderSlot.WALKING);
                    long page = HostWords.readAcquire(link);
                    if (page != 0) {
                        long generation = TableHeaders.generation(page);
                        for (int step = 0; step < 2; step++) {
                            Interleave.step();
                            assertTrue(TableHeaders.state(page) != TableHeaders.FREE, "page is free under a reader");
                            assertEquals(generation, TableHeaders.generation(page), "page was reused under a reader");
                        }
                    }
                    slot.leave(ReaderSlot.OUTSIDE);
                }
            }));
            return this;
        }

        RcuWorld remover(String name, int reclaims) {
            actors.add(Actor.of(name, () -> {
                long page = HostWords.readAcquire(link);
                if (page != 0 && HostWords.compareAndSet(link, page, 0)) {
                    RetiredBatch batch = new RetiredBatch();
                    batch.add(page);
                    domain.retire(batch);
                }
                for (int i = 0; i < reclaims; i++) {
                    domain.reclaim();
                }
            }));
            return this;
        }

        RcuWorld relinker(String name) {
            actors.add(Actor.of(name, () -> {
                long page = HostWords.readAcquire(link);
                if (page != 0 && HostWords.compareAndSet(link, page, 0)) {
                    RetiredBatch batch = new RetiredBatch();
                    batch.add(page);
                    domain.retire(batch);
                }
                domain.barrier();
                relink();
            }));
            return this;
        }

        /** A section that has begun has ended when the wait returns. */
        RcuWorld synchronizer(String reader) {
            ReaderSlot slot = slots.take(reader);
            boolean[] inside = new boolean[1];
            int[] section = new int[1];
            actors.add(Actor.of(reader, () -> {
                for (int i = 0; i < 2; i++) {
                    slot.enter(ReaderSlot.WALKING);
                    inside[0] = true;
                    section[0]++;
                    Interleave.step();
                    Interleave.step();
                    inside[0] = false;
                    slot.leave(ReaderSlot.OUTSIDE);
                }
            }));
            actors.add(Actor.of("synchronizer", () -> {
                int before = inside[0] ? section[0] : -1;
                domain.synchronize();
                assertTrue(!inside[0] || section[0] != before, "section outlived the grace period");
            }));
            return this;
        }

        @Override
        public List<Actor> actors() {
            return actors;
        }

        @Override
        public void check() {
            domain.barrier();
            assertEquals(0, domain.pendingPages());
            assertEquals(HostWords.readAcquire(link) == 0 ? 0 : 1, pool.pagesInUse());
        }

        @Override
        public void close() {
            long page = HostWords.readAcquire(link);
            if (page != 0) {
                pool.give(page);
            }
            pool.close();
            assertEquals(0, account.usedInBytes());
            WordBlocks.give(link, CacheLines.PAIR_BYTES);
        }
    }

    @Test
    void retiredPageOutlivesSectionsThatReachIt() {
        explore(
                "reader against reclaim",
                () -> new RcuWorld().reader("reader", 2).remover("remover", 2),
                4);
    }

    @Test
    void retiredPageOutlivesSectionsOfTwoReaders() {
        explore(
                "two readers against reclaim",
                () -> new RcuWorld().reader("first", 1).reader("second", 1).remover("remover", 2),
                2);
    }

    @Test
    void pageIsNotReusedUnderReader() {
        explore("reader against reuse", () -> new RcuWorld().reader("reader", 2).relinker("relinker"), 3);
    }

    @Test
    void twoReclaimersFreeEachPageOnce() {
        explore(
                "two reclaimers",
                () -> new RcuWorld().reader("reader", 1).remover("first", 2).remover("second", 2),
                2);
    }

    @Test
    void gracePeriodEndsBehindSectionsThatHadBegun() {
        explore("section against grace period", () -> new RcuWorld().synchronizer("reader"), 6);
    }

    private static void explore(String name, Scenario.Factory factory, int preemptions) {
        // No actor takes an owned lock; saying so spares the search for them.
        ScheduleExplorer explorer =
                ScheduleExplorer.of(name, factory).trustLocks().preemptions(preemptions);

        System.out.println(explorer.exhaustive(NO_LIMIT).requireExhausted());
        System.out.println(explorer.sample(Seeds.announce(name).seed(), 60));
    }
}
