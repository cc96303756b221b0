package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** The word of a reader slot says mode and epoch; its statistics have one writer. */
final class ReaderSlotTest {
    private static final int[] SECTIONS = {ReaderSlot.IN_GUEST, ReaderSlot.WALKING, ReaderSlot.FAULTING};

    private final ReaderSlots slots = new ReaderSlots();
    private final ReaderSlot slot = slots.take("reader");

    @Test
    void newSlotIsOutside() {
        assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(slot.state()));
        assertFalse(ReaderSlot.holdsEpoch(slot.state()));
        assertEquals("reader", slot.name());
    }

    @Test
    void sectionShowsModeAndEpoch() {
        for (int mode : SECTIONS) {
            slots.advanceEpoch();

            slot.enter(mode);

            assertEquals(mode, ReaderSlot.modeOf(slot.state()));
            assertTrue(ReaderSlot.holdsEpoch(slot.state()));
            assertEquals(0, ReaderSlot.compareEpochs(slots.epoch(), ReaderSlot.epochOf(slot.state())));
            slot.leave(ReaderSlot.OUTSIDE);
        }
    }

    @Test
    void epochOfSectionStaysWhileTheEpochMovesOn() {
        slot.enter(ReaderSlot.WALKING);
        long entered = ReaderSlot.epochOf(slot.state());

        slots.advanceEpoch();

        assertEquals(entered, ReaderSlot.epochOf(slot.state()));
        assertTrue(ReaderSlot.compareEpochs(slots.epoch(), entered) > 0);
    }

    @Test
    void handlingHoldsNoEpoch() {
        slot.enter(ReaderSlot.IN_GUEST);

        slot.leave(ReaderSlot.HANDLING);

        assertFalse(ReaderSlot.holdsEpoch(slot.state()));
        assertEquals(ReaderSlot.HANDLING, ReaderSlot.modeOf(slot.state()));
    }

    @Test
    void epochsCompareAcrossTheirWrap() {
        long last = (1L << 61) - 1;

        assertTrue(ReaderSlot.compareEpochs(0, last) > 0);
        assertTrue(ReaderSlot.compareEpochs(last, 0) < 0);
        assertEquals(0, ReaderSlot.compareEpochs(last, last));
        // The word of the epoch counts on beyond 61 bits, the state keeps only those.
        assertEquals(0, ReaderSlot.compareEpochs(1L << 61, 0));
    }

    @Test
    void sectionInSectionIsRefused() {
        Assumptions.assumeTrue(Debug.CHECK);
        slot.enter(ReaderSlot.WALKING);

        assertThrows(IllegalStateException.class, () -> slot.enter(ReaderSlot.IN_GUEST));
        assertThrows(IllegalStateException.class, slot::assertNoSection);

        slot.leave(ReaderSlot.OUTSIDE);
        assertThrows(IllegalStateException.class, slot::assertInside);
    }

    @Test
    void acknowledgementIsKeptBesideTheState() {
        slot.enter(ReaderSlot.IN_GUEST);

        slot.acknowledge(42);

        assertEquals(42, slot.acknowledged());
        assertEquals(ReaderSlot.IN_GUEST, ReaderSlot.modeOf(slot.state()));
    }

    @Test
    void countersAreSeparateAndMayFall() {
        for (int counter = 0; counter < Counter.COUNT; counter++) {
            slot.count(counter, counter + 1);
        }

        slot.count(Counter.TABLES, -10);

        for (int counter = 0; counter < Counter.COUNT; counter++) {
            assertEquals(counter + 1 - (counter == Counter.TABLES ? 10 : 0), slot.counted(counter));
        }
        assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(slot.state()));
    }
}
