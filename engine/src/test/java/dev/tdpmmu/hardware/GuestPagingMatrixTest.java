package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.FieldSource;

/**
 * The walker of guest tables against the model, over all legal combinations of flags after kvm-unit-tests' access
 * test, or a sample of them.
 */
final class GuestPagingMatrixTest {
    /** Of each shape, under the usual second level and under each other one. */
    private static final int SAMPLES = 30_000;

    private static final int FEWER_SAMPLES = 4_000;

    private static final VmConfig USUAL = config(PagingMode.EPT4, AccessedDirty.ON);

    static final List<VmConfig> SECOND_LEVELS = List.of(
            USUAL,
            config(PagingMode.EPT4, AccessedDirty.OFF),
            config(PagingMode.EPT5, AccessedDirty.ON),
            config(PagingMode.NPT4, AccessedDirty.ON),
            config(PagingMode.NPT5, AccessedDirty.ON));

    private static VmConfig config(PagingMode mode, AccessedDirty accessedDirty) {
        return VmConfig.builder().pagingMode(mode).accessedDirty(accessedDirty).build();
    }

    @ParameterizedTest
    @FieldSource("SECOND_LEVELS")
    void walkerAgreesWithTheModelInASample(VmConfig config) {
        long seed = Long.getLong("tdpmmu.seed", System.nanoTime());
        System.out.println(
                "GuestPagingMatrixTest " + config.pagingMode() + " A/D " + config.accessedDirty() + " seed=" + seed);
        long samples = config == USUAL ? SAMPLES : FEWER_SAMPLES;
        for (GuestPagingShape shape : GuestPagingShape.values()) {
            var random = new SplittableRandom(seed + shape.ordinal());
            var matrix = GuestPagingMatrix.of(shape);
            try (var judge = new GuestPagingJudge(config, shape)) {
                for (GuestPagingMatrix.Part part : matrix.parts()) {
                    judgeSample(judge, part, random, samples * part.count() / matrix.count());
                }
                assertTrue(judge.faults > 0 && judge.faults < judge.accesses, shape.name());
            }
        }
    }

    /** Registers change seldom, because the walker makes tables of permissions from them. */
    private static void judgeSample(
            GuestPagingJudge judge, GuestPagingMatrix.Part part, SplittableRandom random, long samples) {
        int atOnce = 20;
        for (long done = 0; done < samples; done += atOnce) {
            int situation = part.situations()[random.nextInt(part.situations().length)];
            for (int i = 0; i < atOnce; i++) {
                int entries = part.entries()[random.nextInt(part.entries().length)];
                judge.judge(entries, situation);
                judge.judgeSecondAccess(entries, situation);
                judge.judgeBesideNeighbour(entries, situation);
            }
        }
    }

    @Test
    @Tag("exhaustive")
    void walkerAgreesWithTheModelEverywhere() throws Exception {
        long start = System.nanoTime();
        long combinations = 0;
        var work = new ArrayList<Callable<long[]>>();
        for (GuestPagingShape shape : GuestPagingShape.values()) {
            var matrix = GuestPagingMatrix.of(shape);
            combinations += matrix.count();
            for (GuestPagingMatrix.Part part : matrix.parts()) {
                work.add(() -> judgeAll(shape, part));
            }
        }
        long[] sums = new long[2];
        int threads = Math.min(work.size(), Runtime.getRuntime().availableProcessors());
        try (var executor = Executors.newFixedThreadPool(threads)) {
            for (Future<long[]> done : executor.invokeAll(work)) {
                sums[0] += done.get()[0];
                sums[1] += done.get()[1];
            }
        }
        System.out.printf(
                "GuestPagingMatrixTest: combinations=%,d, accesses=%,d, faults=%,d, seconds=%.1f, threads=%d%n",
                combinations, sums[0], sums[1], (System.nanoTime() - start) / 1e9, threads);
        assertEquals(5 * combinations, sums[0]);
    }

    private static long[] judgeAll(GuestPagingShape shape, GuestPagingMatrix.Part part) {
        try (var judge = new GuestPagingJudge(USUAL, shape)) {
            for (int situation : part.situations()) {
                for (int entries : part.entries()) {
                    judge.judge(entries, situation);
                }
                for (int entries : part.entries()) {
                    judge.judgeSecondAccess(entries, situation);
                }
                for (int entries : part.entries()) {
                    judge.judgeBesideNeighbour(entries, situation);
                }
            }
            return new long[] {judge.accesses, judge.faults};
        }
    }

    @ParameterizedTest
    @EnumSource(GuestPagingShape.class)
    void matrixHoldsWhatTheRulesAdmit(GuestPagingShape shape) {
        var random = new SplittableRandom(shape.ordinal());
        var matrix = GuestPagingMatrix.of(shape);
        int legal = 0;
        for (int i = 0; i < 300_000; i++) {
            int situation = random.nextInt(1 << GuestPagingModel.SITUATION_FLAGS);
            int leaf = random.nextInt(1 << GuestPagingModel.ENTRY_FLAGS);
            int table = random.nextInt(1 << GuestPagingModel.ENTRY_FLAGS) & random.nextInt(1 << 6);
            int upper = GuestPagingMatrix.PLAIN;
            if (GuestPagingMatrix.isLegal(shape, leaf, table, upper, situation)) {
                legal++;
                assertTrue(contains(matrix, GuestPagingMatrix.pack(leaf, table, upper), situation));
            }
        }
        System.out.printf("GuestPagingMatrixTest %s: combinations=%,d%n", shape, matrix.count());
        assertTrue(legal > 10, "legal=" + legal);
    }

    /** What the matrix leaves out: the entries far above the leaf, one flag of one of them at a time. */
    @ParameterizedTest
    @EnumSource(GuestPagingShape.class)
    void everyLevelCountsLikeEveryOther(GuestPagingShape shape) {
        int[] differences = {
            GuestPagingModel.PRESENT,
            GuestPagingModel.WRITABLE,
            GuestPagingModel.USER,
            GuestPagingModel.ACCESSED,
            GuestPagingModel.NO_EXECUTE,
            GuestPagingModel.BIT_51,
            GuestPagingModel.BIT_36,
            GuestPagingModel.PAGE_SIZE
        };
        int[] flags = new int[6];
        try (var judge = new GuestPagingJudge(USUAL, shape)) {
            for (GuestPagingMatrix.Part part : GuestPagingMatrix.of(shape).parts()) {
                for (int situation : part.situations()) {
                    for (int level = shape.leafLevel + 1; level <= shape.levels; level++) {
                        for (int difference : differences) {
                            if (difference == GuestPagingModel.PAGE_SIZE && level <= PagingLevel.MAX_HUGE) {
                                continue;
                            }
                            Arrays.fill(flags, GuestPagingMatrix.PLAIN);
                            flags[shape.leafLevel] = GuestPagingMatrix.plainLeaf(shape);
                            flags[level] ^= difference;
                            judge.judgeLevels(flags, situation);
                        }
                    }
                }
            }
            assertTrue(judge.faults > 0 && judge.faults < judge.accesses);
        }
    }

    private static boolean contains(GuestPagingMatrix matrix, int entries, int situation) {
        for (GuestPagingMatrix.Part part : matrix.parts()) {
            if (Arrays.binarySearch(part.situations(), situation) >= 0) {
                for (int legal : part.entries()) {
                    if (legal == entries) {
                        return true;
                    }
                }
            }
        }
        return false;
    }
}
