package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What a yield waits for, where one thread can show it. */
final class StampedGateTest {
    private final StampedGate gate = new StampedGate();

    @Test
    void yieldEndsAtOnceWhenNobodyWaits() {
        long admissions = gate.admissions();

        gate.letOthersIn(admissions);

        assertEquals(admissions, gate.admissions());
        gate.close();
    }

    /** An exclusive locker that never waited is never counted as admitted; a yield must not wait for that. */
    @Test
    @Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
    void yieldEndsAlthoughNobodyIsEverAdmitted() {
        long stamp = gate.lockExclusive();
        long admissions = gate.admissions();
        assertTrue(gate.hasExclusive());

        gate.letOthersIn(admissions);

        assertEquals(admissions, gate.admissions());
        gate.unlockExclusive(stamp);
        gate.close();
    }
}
