package dev.tdpmmu.bench;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.config.LockPolicy;
import org.junit.jupiter.api.Test;

/** The tests of this module run with debug checks on, and so see every measurement refuse. */
class BenchGuardTest {
    @Test
    void testsRunWithChecks() {
        assertEquals(Debug.Level.CHECK, Debug.LEVEL);
    }

    @Test
    void guardRefusesCheckingProcess() {
        IllegalStateException refused = assertThrows(IllegalStateException.class, BenchGuard::check);

        assertTrue(refused.getMessage().contains("tdpmmu.debug=CHECK"), refused.getMessage());
    }

    @Test
    void guardRefusesEveryLevelButOff() {
        assertThrows(IllegalStateException.class, () -> BenchGuard.require(Debug.Level.PROVE));

        assertDoesNotThrow(() -> BenchGuard.require(Debug.Level.OFF));
    }

    @Test
    void everyVmOfABenchmarkRefuses() {
        for (LockPolicy policy : LockPolicy.values()) {
            assertThrows(IllegalStateException.class, () -> BenchVm.synthetic(policy, 512));
        }

        assertThrows(IllegalStateException.class, () -> ViolationSteps.warmFrames(512));
    }

    @Test
    void mixIsBijective() {
        int bits = 12;
        boolean[] seen = new boolean[1 << bits];

        for (int i = 0; i < seen.length; i++) {
            seen[(int) Work.mix(i, bits)] = true;
        }

        for (boolean hit : seen) {
            assertTrue(hit);
        }
    }
}
