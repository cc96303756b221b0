package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.slot.DirtyBitmap;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * Marks against harvests: no bit is lost, and no store goes by unseen.
 *
 * <pre>
 *  fault                                   | harvest
 *  makes the entry writable                |
 *                                          | reads the word, finds another page's bit
 *  marks the page                          |
 *                                          | writes the word to 0: the mark is gone
 *  stores                                  |   -- a dirty page that nobody copies
 * </pre>
 */
final class DirtyBitmapRaceTest {
    private static final int NO_LIMIT = 1_000_000;
    private static final int PAGES = 70;
    private static final long WRITABLE = 1;
    private static final long ONE_STORE = 2;

    /** A bitmap, with one word a page that stands for its entry and its content: a count of stores, and bit 0. */
    private static final class LogWorld implements Scenario {
        private final MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);
        private final FrameAllocator frames = new FrameAllocator(account);
        private final DirtyBitmap bitmap = new DirtyBitmap(frames, PAGES);
        private final FrameRun entries = frames.allocate(1, 4096);
        private final long[] stores = new long[PAGES];
        private final long[] copied = new long[PAGES];
        private final DirtyPages marked = new DirtyPages(PAGES);
        private final DirtyPages taken = new DirtyPages(PAGES);
        private final List<Actor> actors = new ArrayList<>();

        LogWorld marker(String name, long... pages) {
            actors.add(Actor.of(name, () -> {
                for (long page : pages) {
                    bitmap.mark(page);
                    marked.add(page);
                }
            }));
            return this;
        }

        LogWorld rangeMarker(String name, long firstPage, long count) {
            actors.add(Actor.of(name, () -> {
                bitmap.markRange(firstPage, count);
                for (long page = firstPage; page < firstPage + count; page++) {
                    marked.add(page);
                }
            }));
            return this;
        }

        LogWorld taker(String name, int rounds) {
            actors.add(Actor.of(name, () -> {
                var found = new DirtyPages(PAGES);
                for (int i = 0; i < rounds; i++) {
                    assertEquals(bitmap.harvest(found), found.count());
                    taken.addAll(found);
                }
            }));
            return this;
        }

        /** A vCPU that stores to a page some times; it faults where the entry is not writable. */
        LogWorld vcpu(String name, long page, int times) {
            long entry = entry(page);
            actors.add(Actor.of(name, () -> {
                int done = 0;
                while (done < times) {
                    long old = GuestBytes.getLongVolatile(entry);
                    if ((old & WRITABLE) == 0) {
                        if (GuestBytes.compareAndSetLong(entry, old, old | WRITABLE)) {
                            bitmap.mark(page);
                        }
                    } else if (GuestBytes.compareAndSetLong(entry, old, old + ONE_STORE)) {
                        stores[(int) page]++;
                        done++;
                    }
                }
            }));
            return this;
        }

        LogWorld harvester(String name, int rounds) {
            actors.add(Actor.of(name, () -> {
                var found = new DirtyPages(PAGES);
                for (int i = 0; i < rounds; i++) {
                    bitmap.harvest(found);
                    armAndCopy(found);
                }
            }));
            return this;
        }

        /** Reads the log by one call and clears it word by word by another, as manual protection does. */
        LogWorld clearer(String name, int rounds) {
            actors.add(Actor.of(name, () -> {
                var found = new DirtyPages(PAGES);
                var cleared = new DirtyPages(PAGES);
                for (int i = 0; i < rounds; i++) {
                    bitmap.copy(found);
                    cleared.clear();
                    for (int index = 0; index < found.words(); index++) {
                        long bits = bitmap.clearWord(index, found.word(index));
                        assertEquals(found.word(index), bits, "a bit that nobody else clears is gone");
                        for (; bits != 0; bits &= bits - 1) {
                            cleared.add(index * 64L + Long.numberOfTrailingZeros(bits));
                        }
                    }
                    armAndCopy(cleared);
                }
            }));
            return this;
        }

        private void armAndCopy(DirtyPages found) {
            for (long page = found.next(0); page >= 0; page = found.next(page + 1)) {
                long entry = entry(page);
                long old = GuestBytes.getLongVolatile(entry);
                while (!GuestBytes.compareAndSetLong(entry, old, old & ~WRITABLE)) {
                    old = GuestBytes.getLongVolatile(entry);
                }
            }
            for (long page = found.next(0); page >= 0; page = found.next(page + 1)) {
                copied[(int) page] = GuestBytes.getLongVolatile(entry(page)) / ONE_STORE;
            }
        }

        private long entry(long page) {
            return entries.hpa() + page * Long.BYTES;
        }

        @Override
        public List<Actor> actors() {
            return actors;
        }

        @Override
        public void check() {
            for (long page = 0; page < PAGES; page++) {
                boolean dirty = bitmap.isDirty(page);
                boolean writable = (GuestBytes.getLongVolatile(entry(page)) & WRITABLE) != 0;
                assertTrue(dirty || copied[(int) page] == stores[(int) page], "store was neither copied nor logged");
                assertTrue(dirty || !writable, "page is writable and its next store goes by unseen");
                assertFalse(marked.isDirty(page) && !dirty && !taken.isDirty(page), "mark was lost");
                assertFalse(taken.isDirty(page) && !marked.isDirty(page), "page was never marked");
            }
        }

        @Override
        public void close() {
            bitmap.release();
            entries.close();
            assertEquals(0, account.usedInBytes());
        }
    }

    @Test
    void markOfOneWordSurvivesHarvest() {
        explore(
                "two markers against harvest",
                () -> new LogWorld()
                        .marker("first", 3, 4)
                        .marker("second", 4, 69)
                        .taker("taker", 2),
                3);
    }

    @Test
    void markedRangeSurvivesHarvest() {
        explore(
                "marker and range marker against harvest",
                () -> new LogWorld()
                        .rangeMarker("range", 62, 4)
                        .marker("marker", 63, 64)
                        .taker("taker", 2),
                3);
    }

    @Test
    void storeIsCopiedOrLogged() {
        explore("store against harvest", () -> new LogWorld().vcpu("vcpu", 5, 2).harvester("harvester", 2), 6);
    }

    @Test
    void storesOfTwoVcpusAreCopiedOrLogged() {
        explore(
                "two vCPUs against harvest",
                () -> new LogWorld().vcpu("first", 5, 1).vcpu("second", 5, 1).harvester("harvester", 2),
                3);
    }

    @Test
    void storesToPagesOfOneWordAreCopiedOrLogged() {
        explore(
                "two pages against harvest",
                () -> new LogWorld().vcpu("first", 5, 1).vcpu("second", 6, 1).harvester("harvester", 2),
                3);
    }

    @Test
    void storesAreCopiedOrLoggedWhenTheLogIsClearedByHand() {
        explore(
                "two pages against manual clear",
                () -> new LogWorld().vcpu("first", 5, 1).vcpu("second", 6, 1).clearer("clearer", 2),
                3);
    }

    private static void explore(String name, Scenario.Factory factory, int preemptions) {
        ScheduleExplorer explorer =
                ScheduleExplorer.of(name, factory).trustLocks().preemptions(preemptions);

        System.out.println(explorer.exhaustive(NO_LIMIT).requireExhausted());
        System.out.println(explorer.sample(Seeds.announce(name).seed(), 200));
    }
}
