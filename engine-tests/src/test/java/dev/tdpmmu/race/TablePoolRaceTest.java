package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.ExplorationReport;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/**
 * The stack of free table pages under actors that take and give: no page has two owners and none is lost.
 *
 * <pre>
 *  taker                                  recycler
 *  reads head = P1, link of P1 = P2
 *                                         takes P1, takes P2, gives P1: head = P1 again, its link now P3
 *  exchanges head P1 for P2               ... if only the page were compared: P2 is in the stack and in use
 * </pre>
 */
final class TablePoolRaceTest {
    private static final int VM = 1;
    private static final int FREE_PAGES = 4;

    /** A pool with a few free pages, and who holds which. */
    private static final class PoolWorld implements Scenario {
        private final MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);
        private final TablePool pool = new TablePool(VM, account);
        private final List<Long> held = new ArrayList<>();
        private final int takers;
        private final boolean chain;

        PoolWorld(int takers, boolean chain) {
            this.takers = takers;
            this.chain = chain;
            pool.prewarm(FREE_PAGES);
        }

        @Override
        public List<Actor> actors() {
            List<Actor> actors = new ArrayList<>();
            actors.add(Actor.of("recycler", () -> {
                long first = pool.take();
                held.add(pool.take());
                pool.give(first);
            }));
            for (int i = 0; i < takers; i++) {
                actors.add(Actor.of("taker" + i, () -> held.add(pool.take())));
            }
            if (chain) {
                actors.add(Actor.of("chain", () -> {
                    long[] stock = new long[2];
                    assertEquals(2, pool.take(stock, 0, 2));
                    held.add(stock[0]);
                    held.add(stock[1]);
                }));
            }
            return actors;
        }

        @Override
        public void check() {
            // Counting the free pages would not end in a stack that has become a ring, taking them does.
            while (held.size() < FREE_PAGES) {
                held.add(pool.take());
            }
            Set<Long> distinct = new HashSet<>(held);
            assertEquals(held.size(), distinct.size(), "page with two owners: held=" + held);
            assertEquals(FREE_PAGES, pool.pagesCharged());
        }

        @Override
        public void close() {
            held.forEach(pool::give);
            pool.close();
            assertEquals(0, account.usedInBytes());
        }
    }

    @Test
    void pageNeverHasTwoOwners() {
        ExplorationReport report = ScheduleExplorer.of("take against recycle", () -> new PoolWorld(1, false))
                .exhaustive(100_000)
                .requireExhausted();

        System.out.println(report);
        assertTrue(report.schedules() > 100, report.toString());
    }

    @Test
    void chainNeverHasAPageOfAnotherOwner() {
        ExplorationReport report = ScheduleExplorer.of("chain against recycle", () -> new PoolWorld(0, true))
                .exhaustive(100_000)
                .requireExhausted();

        System.out.println(report);
        assertTrue(report.schedules() > 50, report.toString());
    }

    @Test
    void pageNeverHasTwoOwnersAmongThree() {
        Seeds seeds = Seeds.announce("pageNeverHasTwoOwnersAmongThree");
        ScheduleExplorer explorer = ScheduleExplorer.of("two take against recycle", () -> new PoolWorld(2, false));

        System.out.println(explorer.preemptions(2).exhaustive(20_000));
        System.out.println(explorer.sample(seeds.seed(), 2_000));
    }
}
