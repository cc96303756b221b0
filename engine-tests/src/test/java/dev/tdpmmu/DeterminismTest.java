package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * What one thread does to a VM depends on the seed alone: not on clocks, on where memory lies, or on hashes of objects.
 *
 * <p>The same script runs twice, each time in a VM of its own. The result of every operation, every entry of the
 * tables in table order and all statistics must be the same; host physical addresses count by the order in which the
 * tables name them. That the explorer's schedules repeat is the test kit's own test.
 */
class DeterminismTest {
    private static final int OPERATIONS = 1_000;

    private static final Seeds SEEDS = Seeds.announce("DeterminismTest");

    /** Deals the ways of tracking, so that each is used in each run. */
    private static final AtomicInteger CELLS = new AtomicInteger();

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix
    void sameSeedDoesTheSame(VmConfig.Builder builder) {
        String cell = builder.build().name();
        VmConfig config = settings(builder, SEEDS.random(cell + " settings"));

        Run first = run(config, SEEDS.random(cell));
        Run second = run(config, SEEDS.random(cell));

        assertEquals(
                -1,
                Arrays.mismatch(first.results, second.results),
                () -> "operation differs: " + SEEDS + ", config=" + config);
        assertEquals(first.stats, second.stats, () -> SEEDS + ", config=" + config);
        assertEquals(first.tables, second.tables, () -> "tables differ: " + SEEDS + ", config=" + config);
    }

    @EngineMatrix(policies = LockPolicy.PARALLEL)
    void otherSeedDoesSomethingElse(VmConfig.Builder builder) {
        VmConfig config = settings(builder, new SplittableRandom(1));

        Run first = run(config, new SplittableRandom(1));
        Run other = run(config, new SplittableRandom(2));

        assertNotEquals(-1, Arrays.mismatch(first.results, other.results));
        assertNotEquals(first.tables, other.tables);
    }

    private static VmConfig settings(VmConfig.Builder builder, SplittableRandom random) {
        DirtyTracking[] trackings = DirtyTracking.values();
        // Nothing runs but the test: a reclaimer of its own would take retired pages when it likes.
        return builder.backgroundReclaim(false)
                .hugePages(random.nextBoolean() ? PageSize.SIZE_2M : PageSize.SIZE_1G)
                .dirtyTracking(trackings[CELLS.getAndIncrement() % trackings.length])
                .dirtyRingEntries(1024)
                .pml(random.nextBoolean())
                .eagerSplit(random.nextBoolean())
                .build();
    }

    private Run run(VmConfig config, SplittableRandom random) {
        Vm vm = engine.vm(config);
        long[] results = new long[OPERATIONS];
        DeterminismScript script = new DeterminismScript(vm, random);
        for (int i = 0; i < OPERATIONS; i++) {
            results[i] = script.step();
        }
        vm.barrier();
        Run run = new Run(results, vm.stats(), TableHash.of(vm));
        vm.close();
        return run;
    }

    /** What a run has left behind. */
    private record Run(long[] results, VmStats stats, long tables) {}
}
