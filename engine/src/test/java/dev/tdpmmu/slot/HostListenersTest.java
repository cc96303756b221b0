package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.GuestBytes;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Who hears of changes, and what is left where one who hears of them fails. */
final class HostListenersTest {
    private static final long PAGE = 4096;

    private final HostPages pages = HostPages.allocate(4 * PAGE);
    private final HostRecorder first = new HostRecorder();
    private final HostRecorder second = new HostRecorder();
    private final IllegalStateException failure = new IllegalStateException("planted");

    @AfterEach
    void closeReturnsEverything() {
        pages.close();

        assertEquals(0, pages.frames().usedInBytes());
    }

    private void fail() {
        throw failure;
    }

    private void assertFails(Runnable operation) {
        assertSame(failure, assertThrows(IllegalStateException.class, operation::run));
    }

    @Test
    void everyListenerHearsOnceHoweverOftenItWasAdded() {
        pages.addListener(first);
        pages.addListener(second);
        pages.addListener(first);

        pages.discard(1, 2);

        assertEquals(List.of("start 1 3", "wait", "end 1 3"), first.heard);
        assertEquals(first.heard, second.heard);
    }

    @Test
    void listenerHearsUntilItIsRemovedAsOftenAsAdded() {
        pages.addListener(first);
        pages.addListener(first);

        pages.removeListener(first);
        pages.unprotect(0, 1);
        pages.removeListener(first);
        pages.unprotect(1, 1);

        assertEquals(List.of("start 0 1", "end 0 1"), first.heard);
        assertThrows(IllegalArgumentException.class, () -> pages.removeListener(first));
        assertThrows(NullPointerException.class, () -> pages.addListener(null));
    }

    @Test
    void startThatFailsIsTakenBackWhereItHadBegunAndChangesNothing() {
        pages.faultIn(0, true);
        GuestBytes.putLong(HostPageWord.hpa(pages.word(0)), 5);
        long word = pages.word(0);
        pages.addListener(first);
        pages.addListener(second);
        second.atStart = this::fail;

        assertFails(() -> pages.discard(0, 2));
        assertFails(() -> pages.discardWithoutBlocking(0, 2));
        assertFails(() -> pages.protect(0, 2));
        assertFails(() -> pages.unprotect(0, 2));
        assertFails(() -> pages.migrate(0));

        assertEquals(word, pages.word(0));
        assertEquals(5, GuestBytes.getLong(HostPageWord.hpa(word)));
        assertEquals(List.of(), second.heard);
        assertEquals(10, first.heard.size(), first.heard.toString());
        assertEquals(List.of("start 0 2", "end 0 2", "start 0 2 now", "end 0 2"), first.heard.subList(0, 4));
    }

    @Test
    void waitThatFailsLeavesAPageThatWasToMoveAsItWas() {
        pages.faultIn(0, true);
        pages.faultIn(1, true);
        long word = pages.word(0);
        long used = pages.frames().usedInBytes();
        pages.addListener(first);
        first.atWait = this::fail;

        assertFails(() -> pages.migrate(0));
        assertFails(() -> pages.merge(0, 1));

        assertEquals(word, pages.word(0));
        assertEquals(used, pages.frames().usedInBytes());
        assertEquals(List.of("start 0 1", "end 0 1", "start 0 1", "end 0 1"), first.heard);
    }

    @Test
    void secondPageWhoseMergeFailsLeavesTheFirstUnshared() {
        pages.faultIn(0, true);
        pages.faultIn(1, true);
        pages.addListener(first);
        int[] waits = {0};
        first.atWait = () -> {
            waits[0]++;
            if (waits[0] == 2) {
                fail();
            }
        };

        assertFails(() -> pages.merge(0, 1));

        assertFalse(pages.isMerged(0) || pages.isMerged(1));
        assertTrue(HostPageWord.isWritable(pages.word(0)) && HostPageWord.isWritable(pages.word(1)));
        assertEquals(0, pages.mergedPages());
    }

    @Test
    void waitThatFailsStillLeavesDiscardedPagesZero() {
        pages.faultIn(0, true);
        long frame = HostPageWord.hpa(pages.word(0));
        GuestBytes.putLong(frame, 5);
        pages.addListener(first);
        first.atWait = this::fail;

        assertFails(() -> pages.discard(0, 1));

        assertFalse(pages.isPresent(0));
        assertEquals(0, GuestBytes.getLong(frame));
        assertEquals(List.of("start 0 1", "end 0 1"), first.heard);
    }

    @Test
    void endReachesAllListenersThoughOneFails() {
        pages.addListener(first);
        pages.addListener(second);
        first.atEnd = this::fail;

        assertFails(() -> pages.unprotect(0, 1));

        assertEquals(List.of("start 0 1", "end 0 1"), second.heard);
        first.atEnd = () -> {};
        pages.unprotect(0, 1);
    }
}
