package dev.tdpmmu.sync;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Debug;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** Slots are handed out once at a time and reused; scans see them all. */
final class ReaderSlotsTest {
    private final ReaderSlots slots = new ReaderSlots();

    @Test
    void slotsAreDistinctBeyondTheFirstArray() {
        List<ReaderSlot> taken = new ArrayList<>();

        for (int i = 0; i < 40; i++) {
            taken.add(slots.take("reader " + i));
        }

        assertEquals(40, new HashSet<>(taken).size());
        assertEquals(40, slots.size());
        for (int i = 0; i < 40; i++) {
            assertSame(taken.get(i), slots.at(i));
            assertEquals("reader " + i, taken.get(i).name());
        }
    }

    @Test
    void givenSlotIsHandedOutAgainWithItsStatistics() {
        ReaderSlot first = slots.take("first");
        first.count(Counter.PF_TAKEN, 5);
        slots.give(first);
        assertEquals("free slot 0", first.name());

        ReaderSlot second = slots.take("second");

        assertSame(first, second);
        assertEquals(1, slots.size());
        assertEquals(5, slots.sum(Counter.PF_TAKEN));
    }

    @Test
    void givenSlotIsOutside() {
        ReaderSlot slot = slots.take("handling");
        slot.leave(ReaderSlot.HANDLING);

        slots.give(slot);

        assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(slot.state()));
    }

    @Test
    void slotInsideSectionIsNotTakenBack() {
        Assumptions.assumeTrue(Debug.CHECK);
        ReaderSlot slot = slots.take("inside");
        slot.enter(ReaderSlot.WALKING);

        assertThrows(IllegalStateException.class, () -> slots.give(slot));
    }

    @Test
    void foreignSlotIsNotTakenBack() {
        ReaderSlot foreign = new ReaderSlots().take("foreign");

        var thrown = assertThrows(IllegalArgumentException.class, () -> slots.give(foreign));

        assertTrue(thrown.getMessage().contains("foreign"), thrown.getMessage());
    }

    @Test
    void sumIsOverAllSlots() {
        ReaderSlot first = slots.take("first");
        ReaderSlot second = slots.take("second");
        assertNotSame(first, second);

        first.count(Counter.PAGES_4K, 7);
        second.count(Counter.PAGES_4K, -3);

        assertEquals(4, slots.sum(Counter.PAGES_4K));
        assertEquals(0, slots.sum(Counter.PAGES_2M));
    }

    @Test
    void scanFindsReadersOfEarlierEpochsOnly() {
        ReaderSlot early = slots.take("early");
        ReaderSlot late = slots.take("late");
        early.enter(ReaderSlot.IN_GUEST);
        long epoch = slots.advanceEpoch();
        late.enter(ReaderSlot.WALKING);

        assertSame(early, slots.findReaderUpTo(epoch));
        early.leave(ReaderSlot.HANDLING);
        assertNull(slots.findReaderUpTo(epoch));
        assertSame(late, slots.findReaderUpTo(epoch + 1));
    }
}
