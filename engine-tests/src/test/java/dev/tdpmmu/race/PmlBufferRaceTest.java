package dev.tdpmmu.race;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.PmlBuffer;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.ExplorationReport;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The page-modification log while it is filled and emptied at once: each address is consumed once, in order.
 *
 * <pre>
 *  vCPU                                    | collector
 *  index := index - 1                      |
 *                                          | takes the entry above the index: what an earlier round left there
 *  entry[index + 1] := P                   | -- P is lost
 *
 *                                          | reads drained = d, takes the last address
 *  resets without the lock                 |
 *  index := drained := 511                 |
 *                                          | drained := d - 1  -- what is logged from 511 to d is lost
 * </pre>
 */
final class PmlBufferRaceTest {
    private static final int NO_LIMIT = 1_000_000;

    private static long page(int number) {
        return (long) number << 12;
    }

    /** A log in its second round, whose entries still hold addresses of the first. */
    private static final class LogWorld implements Scenario {
        private static final int STALE = 0x1000;

        private final PmlBuffer log = new PmlBuffer();
        private final List<Actor> actors = new ArrayList<>();
        private final List<Long> logged = new ArrayList<>();
        private final List<Long> consumed = new ArrayList<>();

        LogWorld(int alreadyUsed) {
            for (int i = 0; i < PmlBuffer.ENTRIES; i++) {
                log.log(page(STALE + i));
            }
            drain(PmlBuffer.ENTRIES, true);
            for (int i = 0; i < alreadyUsed; i++) {
                log.log(page(STALE + i));
            }
            drain(alreadyUsed, false);
            consumed.clear();
        }

        /** An address is put down while the lock is held, as consumers must. */
        private void drain(int most, boolean resets) {
            log.lock();
            for (int i = 0; i < most || resets; i++) {
                long gpa = log.next();
                if (gpa == PmlBuffer.NONE) {
                    break;
                }
                consumed.add(gpa);
            }
            if (resets) {
                log.reset();
            }
            log.unlock();
        }

        LogWorld vcpu(int stores, int drainedAfter) {
            actors.add(Actor.of("vcpu", () -> {
                for (int i = 0; i < stores; i++) {
                    if (i == drainedAfter || log.isFull()) {
                        drain(PmlBuffer.ENTRIES, true);
                    }
                    logged.add(page(i));
                    log.log(page(i));
                }
                drain(PmlBuffer.ENTRIES, true);
            }));
            return this;
        }

        LogWorld collector(String name, int times, int most) {
            actors.add(Actor.of(name, () -> {
                for (int i = 0; i < times; i++) {
                    drain(most, false);
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
            assertEquals(logged, consumed);
            assertEquals(0, log.pending());
            assertEquals(PmlBuffer.ENTRIES - 1, log.index());
        }

        @Override
        public void close() {
            log.close();
        }
    }

    private static void explore(String name, Scenario.Factory factory, int preemptions) {
        ScheduleExplorer explorer = ScheduleExplorer.of(name, factory).preemptions(preemptions);

        ExplorationReport report = explorer.exhaustive(NO_LIMIT).requireExhausted();
        System.out.println(report);
        assertTrue(report.schedules() > 50, report.toString());
        System.out.println(explorer.sample(Seeds.announce(name).seed(), 300));
    }

    @Test
    void collectorAndOwnerConsumeEachAddressOnce() {
        explore("log against collector", () -> new LogWorld(0).vcpu(4, 2).collector("collector", 2, 2), 3);
    }

    @Test
    void twoCollectorsAndOwnerConsumeEachAddressOnce() {
        explore(
                "log against two collectors",
                () -> new LogWorld(0).vcpu(3, 2).collector("first", 1, 2).collector("second", 1, 2),
                2);
    }

    @Test
    void fullLogLosesNothing() {
        int nearlyFull = PmlBuffer.ENTRIES - 2;

        explore(
                "full log against collector",
                () -> new LogWorld(nearlyFull).vcpu(4, NO_LIMIT).collector("collector", 2, 2),
                2);
    }

    /** Two vCPUs with a log each store to one page while its D is cleared. */
    private static final class WalkWorld implements Scenario {
        private static final long RWX = 7;
        private static final long WRITE_BACK = 6L << 3;
        private static final long ACCESSED = 1L << 8;
        private static final long DIRTY = 1L << 9;
        private static final long GPA = 0x1234_5678L;
        private static final int VM = 1;

        private final TablePool pool = new TablePool(VM, new MemoryAccount(Long.MAX_VALUE));
        private final List<Long> tables = new ArrayList<>();
        private final List<PmlBuffer> logs = new ArrayList<>();
        private final List<Actor> actors = new ArrayList<>();
        private final HardwareWalker walker;
        private final long root;
        private final long leafAddress;
        private int cleared;

        WalkWorld(int levels, boolean tablesAccessed) {
            walker = HardwareWalker.of(VmConfig.builder()
                    .pagingMode(levels == 4 ? PagingMode.EPT4 : PagingMode.EPT5)
                    .accessedDirty(AccessedDirty.ON)
                    .build());
            long below = 0x3_4000_0000L | RWX | WRITE_BACK;
            long lowest = 0;
            for (int level = 1; level <= levels; level++) {
                long table = pool.take();
                tables.add(table);
                long address = SpteAccess.addressOf(table, Gfn.of(GPA), level);
                SpteAccess.setPlain(address, below);
                lowest = level == 1 ? address : lowest;
                below = table | RWX | (tablesAccessed ? ACCESSED : 0);
            }
            leafAddress = lowest;
            root = walker.makeRootPointer(tables.getLast());
        }

        WalkWorld vcpu(String name) {
            var log = new PmlBuffer();
            var tlb = new Tlb();
            var result = new WalkResult();
            logs.add(log);
            result.logStoresTo(log);
            actors.add(Actor.of(
                    name, () -> assertEquals(HardwareWalker.OK, walker.walk(tlb, root, GPA, Access.WRITE, result))));
            return this;
        }

        WalkWorld cleaner() {
            actors.add(Actor.of("cleaner", () -> {
                long leaf = SpteAccess.readAcquire(leafAddress);
                if ((leaf & DIRTY) != 0 && SpteAccess.compareAndSet(leafAddress, leaf, leaf & ~DIRTY)) {
                    cleared++;
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
            boolean dirtyNow = (SpteAccess.readAcquire(leafAddress) & DIRTY) != 0;
            int transitions = cleared + (dirtyNow ? 1 : 0);
            int entries = 0;
            for (PmlBuffer log : logs) {
                entries += log.pending();
            }
            assertEquals(transitions, entries, () -> "cleared=" + cleared + ", dirtyNow=" + dirtyNow);
            assertTrue(entries > 0);
        }

        @Override
        public String outcome() {
            return "cleared " + cleared;
        }

        @Override
        public void close() {
            logs.forEach(PmlBuffer::close);
            tables.forEach(pool::give);
            pool.close();
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void storesOfTwoVcpusLogEachTransitionOnce(boolean tablesAccessed) {
        String kind = tablesAccessed ? "fast" : "slow";

        explore(
                "two " + kind + " stores to one page",
                () -> new WalkWorld(4, tablesAccessed).vcpu("first").vcpu("second"),
                4);
    }

    @ParameterizedTest
    @CsvSource({"4,true", "4,false", "5,true", "5,false"})
    void clearingDirtyMeanwhileKeepsLogAndTransitionsEqual(int levels, boolean tablesAccessed) {
        String kind = levels + (tablesAccessed ? " levels, fast" : " levels, slow");

        explore(
                "stores against clearing, " + kind,
                () -> new WalkWorld(levels, tablesAccessed)
                        .vcpu("first")
                        .vcpu("second")
                        .cleaner(),
                2);
    }
}
