package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

final class InterleaveTest {
    @Test
    void nobodyIsControlledWithoutAHook() {
        assertFalse(Interleave.blocked());
        assertSame(Thread.currentThread(), Interleave.actor());
    }

    @Test
    void hookIsRefusedWherePointsDoNotExist() {
        if (Interleave.ON) {
            return;
        }

        IllegalStateException refusal = assertThrows(IllegalStateException.class, () -> Interleave.install(null));

        assertTrue(refusal.getMessage().startsWith("interleaving points are off: tdpmmu.debug="), refusal::getMessage);
    }
}
