package dev.tdpmmu.hardware;

import static dev.tdpmmu.hardware.CoherenceOracle.Coverage.APART;
import static dev.tdpmmu.hardware.CoherenceOracle.Coverage.COVERED;
import static dev.tdpmmu.hardware.CoherenceOracle.Coverage.LOST;
import static dev.tdpmmu.hardware.CoherenceOracle.Coverage.PENDING;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The history of flushes, and the judgement of one entry by it. */
final class CoherenceOracleTest {
    private static final long GPA = 0x4060_3000L;
    private static final long GFN = Gfn.of(GPA);
    private static final int SLOT = 4;

    /** Also across the wrap of the sequence. */
    @ParameterizedTest
    @ValueSource(longs = {1, Long.MAX_VALUE - 2})
    void entryIsStaleAfterACompletedFlushThatMeetsIt(long first) {
        long[][] ranges = {
            // start, end, level of the page, whether it is met
            {GFN, GFN + 1, 1, 1},
            {GFN - 1, GFN, 1, 0},
            {GFN + 1, GFN + 9, 1, 0},
            {GFN - 1, GFN + 9, 1, 1},
            {0, Long.MAX_VALUE, 1, 1},
            {0x40600, 0x40601, 2, 1},
            {0x407ff, 0x40800, 2, 1},
            {0x40800, 0x40801, 2, 0},
            {0x405ff, 0x40600, 2, 0},
            {0x7ffff, 0x80000, 3, 1},
            {0x80000, 0x80001, 3, 0},
        };

        for (long[] range : ranges) {
            var oracle = new CoherenceOracle(first);
            FillRecord fills = oracle.newRecord("vCPU 3", first);
            fills.fill(SLOT);
            for (int i = 1; i <= 5; i++) {
                oracle.publish(first + i, 1, 2);
            }
            oracle.publish(first + 6, range[0], range[1]);

            if (range[3] == 1) {
                var stale = assertThrows(StaleTranslationException.class, () -> judge(fills, (int) range[2]));
                assertTrue(stale.getMessage().contains("vcpu=vCPU 3, gpa=0x40603000, access=r--"), stale.getMessage());
                assertTrue(stale.getMessage().contains("filled=" + first + "]"), stale.getMessage());
                String flush = (first + 6) + ":0x" + Long.toHexString(range[0]) + "-0x" + Long.toHexString(range[1]);
                assertTrue(stale.getMessage().contains("flushes=[" + flush + "]"), stale.getMessage());
            } else {
                assertDoesNotThrow(() -> judge(fills, (int) range[2]));
            }
        }
    }

    private static void judge(FillRecord fills, int level) {
        fills.judge(SLOT, GPA, Access.READ, level, false, 0x5000 | Access.READ);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4})
    void tableIsStaleAfterAFlushBelowIt(int level) {
        var oracle = new CoherenceOracle(7);
        FillRecord fills = oracle.newRecord("vCPU", 7);
        fills.fill(SLOT);
        long end = Gfn.alignDown(GFN, level + 1) + (1L << 9 * level);

        oracle.publish(8, end, end + 1);
        assertDoesNotThrow(() -> fills.judge(SLOT, GPA, 0, level, true, 0x5000));
        oracle.publish(9, end - 1, end);

        assertThrows(StaleTranslationException.class, () -> fills.judge(SLOT, GPA, 0, level, true, 0x5000));
    }

    @Test
    void flushThatTheOwnerHadAppliedBeforeTheFillDoesNotCount() {
        var oracle = new CoherenceOracle(1);
        FillRecord fills = oracle.newRecord("vCPU", 1);
        oracle.publish(2, GFN, GFN + 1);
        fills.applied(2);
        fills.fill(SLOT);

        assertDoesNotThrow(() -> judge(fills, 1));
        assertDoesNotThrow(() -> fills.judgeHoarded(2, GPA, Access.READ, 1, false, 0x5000));
        assertThrows(StaleTranslationException.class, () -> fills.judgeHoarded(1, GPA, Access.READ, 1, false, 0x5000));
    }

    @Test
    void flushThatCompletesLateIsNotForgotten() {
        var oracle = new CoherenceOracle(1);
        FillRecord fills = oracle.newRecord("vCPU", 1);
        fills.fill(SLOT);
        oracle.publish(4, 0, 1);
        judge(fills, 1);
        oracle.publish(2, 0, 1);
        judge(fills, 1);

        oracle.publish(3, GFN, GFN + 1);

        assertThrows(StaleTranslationException.class, () -> judge(fills, 1));
    }

    @Test
    void pieceIsAsOldAsTheHugePageItCameFrom() {
        var oracle = new CoherenceOracle(1);
        FillRecord fills = oracle.newRecord("vCPU", 1);
        fills.fill(2 * SLOT);
        oracle.publish(2, GFN, GFN + 1);
        fills.applied(2);
        fills.inherit(SLOT, 2 * SLOT);

        assertThrows(StaleTranslationException.class, () -> judge(fills, 1));
    }

    @Test
    void everyUseFailsAfterTheFirstStaleOne() {
        var oracle = new CoherenceOracle(1);
        FillRecord fills = oracle.newRecord("vCPU 0", 1);
        FillRecord others = oracle.newRecord("vCPU 1", 1);
        oracle.publish(2, GFN, GFN + 1);
        assertThrows(StaleTranslationException.class, () -> judge(fills, 1));

        var later = assertThrows(StaleTranslationException.class, () -> others.applied(2));

        assertTrue(later.getMessage().startsWith("VM was stopped: "), later.getMessage());
        assertTrue(later.getMessage().contains("vcpu=vCPU 0"), later.getMessage());
        assertThrows(StaleTranslationException.class, oracle::requireIntact);
        assertThrows(StaleTranslationException.class, () -> judge(others, 1));
    }

    @Test
    void whatTheHistoryHasLostIsCounted() {
        var oracle = new CoherenceOracle(0);
        FillRecord fills = oracle.newRecord("vCPU", 0);
        fills.fill(SLOT);
        oracle.publish(1, GFN, GFN + 1);
        for (long sequence = 2; sequence <= CoherenceOracle.HISTORY + 3; sequence++) {
            oracle.publish(sequence, 0, 1);
        }

        judge(fills, 1);
        long afterTheFirst = oracle.unknown();
        judge(fills, 1);

        assertEquals(3, afterTheFirst);
        assertEquals(3, oracle.unknown());
        assertEquals(LOST, oracle.coverage(1, GFN, GFN + 1));
        assertEquals(LOST, oracle.coverage(3, GFN, GFN + 1));
        assertEquals(APART, oracle.coverage(4, GFN, GFN + 1));
        assertEquals(COVERED, oracle.coverage(4, 0, 1));
        assertEquals(PENDING, oracle.coverage(CoherenceOracle.HISTORY + 4, 0, 1));
    }

    @Test
    void flushThatWasHeldUpForAWholeTurnDoesNotReplaceALaterOne() {
        var oracle = new CoherenceOracle(0);
        oracle.publish(1 + CoherenceOracle.HISTORY, 5, 6);

        oracle.publish(1, GFN, GFN + 1);

        assertEquals(COVERED, oracle.coverage(1 + CoherenceOracle.HISTORY, 5, 6));
        assertEquals(LOST, oracle.coverage(1, GFN, GFN + 1));
    }
}
