package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.testkit.ExplorationReport;
import dev.tdpmmu.testkit.PointFilter;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;

/**
 * How the race tests search: all schedules with one preemption, a share of those with two, and random ones; the random
 * ones with TLBs that hold on to everything until it is flushed.
 */
final class Explore {
    private static final int NO_LIMIT = 1_000_000;

    private static final long USED_ENTRIES_BYTES = 16 * Long.BYTES;

    /** How the vCPUs of the worlds that are made now cache. Confined to the exploring thread, as the next field. */
    private static TlbMode tlb = TlbMode.TYPICAL;

    /** Word of the last point that counted; a load of the same word right after it is no new point. */
    private static long lastAddress;

    /**
     * All points but loads that repeat the one before them, as of a lock's waiters at each step of a cursor, and those
     * of table entries that no world uses: taking a table apart would else be 512 steps.
     */
    static final PointFilter USED_ENTRIES = (kind, address) -> {
        if (HostMemory.isTable(address) && (address & Gfn.PAGE_OFFSET_MASK) >= USED_ENTRIES_BYTES) {
            return false;
        }
        boolean repeats = kind == Interleave.Kind.READ && address == lastAddress;
        lastAddress = address;
        return !repeats;
    };

    /** Nothing but the table entries that a world uses, for races about a few entries. */
    static final PointFilter TABLES =
            (kind, address) -> HostMemory.isTable(address) && (address & Gfn.PAGE_OFFSET_MASK) < USED_ENTRIES_BYTES;

    /** As {@link #TABLES}, and between two accesses of a vCPU, for races with what it has cached. */
    static final PointFilter TABLES_AND_STEPS =
            (kind, address) -> kind == Interleave.Kind.STEP || TABLES.includes(kind, address);

    private Explore() {}

    /**
     * Explores one scenario and prints what was covered.
     *
     * @param name of the scenario
     * @param factory makes its worlds
     * @param withTwo schedules with up to two preemptions, depth first
     * @param sampled random schedules
     */
    static void all(String name, Scenario.Factory factory, int withTwo, int sampled) {
        // The only owned locks are short ones without points inside, or used by one actor alone: slots lock, pages
        // lock, the lock of the reader slots.
        ScheduleExplorer explorer =
                ScheduleExplorer.of(name, afresh(factory)).trustLocks().points(USED_ENTRIES);

        print(explorer.preemptions(1).exhaustive(NO_LIMIT).requireExhausted());
        if (withTwo > 0) {
            print(explorer.preemptions(2).exhaustive(withTwo));
        }
        tlb = TlbMode.UNHELPFUL;
        try {
            print(explorer.sample(Seeds.announce(name).seed(), sampled));
        } finally {
            tlb = TlbMode.TYPICAL;
        }
    }

    /** The processor of the worlds that are made now. */
    static HardwareConfig hardware() {
        return HardwareConfig.DEFAULT.withTlb(tlb);
    }

    /**
     * Explores all schedules with two preemptions at few points, for a race whose schedules would lie beyond the bound
     * of {@link #all}.
     *
     * @param name of the scenario
     * @param factory makes its worlds
     * @param points where a switch may happen
     */
    static void narrow(String name, Scenario.Factory factory, PointFilter points) {
        print(ScheduleExplorer.of(name, factory)
                .trustLocks()
                .points(points)
                .preemptions(2)
                .exhaustive(NO_LIMIT)
                .requireExhausted());
    }

    /** Each schedule begins without a last point, so that it can be repeated. */
    static Scenario.Factory afresh(Scenario.Factory factory) {
        return () -> {
            Scenario world = factory.create();
            lastAddress = 0;
            return world;
        };
    }

    private static void print(ExplorationReport report) {
        System.out.println(report);
    }
}
