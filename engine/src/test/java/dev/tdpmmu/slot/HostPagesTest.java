package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.memory.GuestBytes;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What the host does to pages, and what those who map them hear of it and in which order. */
final class HostPagesTest {
    private static final long PAGE = 4096;
    private static final long COUNT = 8;
    private static final long LAST_LONG = PAGE - Long.BYTES;

    private final HostPages pages = HostPages.allocate(COUNT * PAGE);
    private final HostRecorder vm = new HostRecorder();

    /** Frames and words of pages that are all at home or absent. */
    private final long usedAtHome = pages.frames().usedInBytes();

    @BeforeEach
    void listen() {
        pages.addListener(vm);
    }

    @AfterEach
    void closeReturnsEverything() {
        pages.close();

        assertEquals(0, pages.frames().usedInBytes());
    }

    private long hpa(long page) {
        return HostPageWord.hpa(pages.word(page));
    }

    /** Stores as a guest does: the page is made ready, then both ends of it are written. */
    private void store(long page, long value) {
        assertEquals(HostFaultResult.READY, pages.faultIn(page, true));
        assertTrue(HostPageWord.isWritable(pages.word(page)));
        GuestBytes.putLong(hpa(page), value);
        GuestBytes.putLong(hpa(page) + LAST_LONG, ~value);
    }

    private void assertContent(long page, long value) {
        assertEquals(HostFaultResult.READY, pages.faultIn(page, false));
        assertEquals(value, GuestBytes.getLong(hpa(page)));
        assertEquals(~value, GuestBytes.getLong(hpa(page) + LAST_LONG));
    }

    private void assertZero(long page) {
        assertEquals(HostFaultResult.READY, pages.faultIn(page, false));
        for (long offset = 0; offset < PAGE; offset += Long.BYTES) {
            assertEquals(0, GuestBytes.getLong(hpa(page) + offset));
        }
    }

    @Test
    void pageComesAtItsFirstTouchAsZerosAndUnannounced() {
        long before = pages.word(3);

        HostFaultResult result = pages.faultIn(3, false);

        assertEquals(0, before);
        assertEquals(HostFaultResult.READY, result);
        assertEquals(HostPageWord.PRESENT | HostPageWord.WRITABLE, pages.word(3) - hpa(3));
        assertEquals(1, pages.presentPages());
        assertEquals(List.of(), vm.heard);
        assertZero(3);
    }

    @Test
    void pageThatIsThereStaysAsItIs() {
        store(3, 5);
        long word = pages.word(3);

        pages.faultIn(3, false);
        pages.faultIn(3, true);

        assertEquals(word, pages.word(3));
        assertContent(3, 5);
        assertEquals(List.of(), vm.heard);
    }

    @Test
    void discardedPagesComeBackAsZeros() {
        for (long page = 0; page < COUNT; page++) {
            store(page, page + 1);
        }

        pages.discard(2, 3);

        assertEquals(List.of("start 2 5", "wait", "end 2 5"), vm.heard);
        assertEquals(COUNT - 3, pages.presentPages());
        assertFalse(pages.isPresent(2) || pages.isPresent(4));
        for (long page = 0; page < COUNT; page++) {
            if (page >= 2 && page < 5) {
                assertZero(page);
            } else {
                assertContent(page, page + 1);
            }
        }
    }

    @Test
    void lastStoresBeforeTheUnmapAreGoneAfterDiscard() {
        store(2, 5);
        long frame = hpa(2);
        vm.atStart = () -> GuestBytes.putLong(frame, 6);
        vm.atWait = () -> GuestBytes.putLong(frame + 8, 7);

        pages.discard(2, 1);

        assertZero(2);
    }

    @Test
    void wordsChangeAfterStartAndBeforeEnd() {
        store(0, 5);
        long own = pages.word(0);

        pages.protect(0, 1);
        pages.unprotect(0, 1);
        pages.migrate(0);
        pages.discard(0, 1);

        long moved = vm.wordsAtEnd.get(2);
        long protectedWord = own & ~HostPageWord.WRITABLE | HostPageWord.PROTECTED;
        assertEquals(List.of(own, protectedWord, own, moved), vm.wordsAtStart);
        assertEquals(List.of(protectedWord, 0L, 0L), vm.wordsAtWait);
        assertEquals(List.of(protectedWord, own, moved, 0L), vm.wordsAtEnd);
        assertNotEquals(own, moved);
    }

    @Test
    void discardOfAbsentPagesIsAnnouncedAndChangesNothing() {
        pages.discard(0, COUNT);

        assertEquals(List.of("start 0 8", "wait", "end 0 8"), vm.heard);
        assertEquals(0, pages.presentPages());
    }

    @Test
    void storesToProtectedPagesAreRefusedUntilTheyAreUnprotected() {
        store(1, 5);

        pages.protect(0, 2);

        assertEquals(HostFaultResult.PROTECTED, pages.faultIn(1, true));
        assertEquals(HostFaultResult.PROTECTED, pages.faultIn(0, true));
        assertFalse(pages.isPresent(0));
        assertZero(0);
        assertContent(1, 5);
        assertFalse(HostPageWord.isWritable(pages.word(0)) || HostPageWord.isWritable(pages.word(1)));
        assertTrue(pages.isProtected(0));
        pages.unprotect(0, 2);
        assertFalse(pages.isProtected(0));
        store(0, 6);
        store(1, 7);
        assertEquals(
                List.of("start 0 2", "wait", "end 0 2", "start 0 2", "end 0 2"),
                vm.heard,
                "nobody waits for those who may do more now");
    }

    @Test
    void absentPageThatIsUnprotectedStaysAbsent() {
        pages.protect(4, 1);

        pages.unprotect(4, 1);

        assertEquals(0, pages.word(4));
    }

    @Test
    void protectionOutlivesDiscardMergeAndMigration() {
        store(0, 5);
        store(1, 5);
        pages.protect(0, 2);

        assertTrue(pages.merge(0, 1));
        assertEquals(HostFaultResult.PROTECTED, pages.faultIn(0, true));
        assertTrue(pages.isMerged(0));
        pages.discard(0, 2);
        assertEquals(HostFaultResult.PROTECTED, pages.faultIn(0, true));
        assertEquals(HostFaultResult.READY, pages.faultIn(0, false));
        assertTrue(pages.migrate(0));

        assertEquals(HostFaultResult.PROTECTED, pages.faultIn(0, true));
        assertFalse(HostPageWord.isWritable(pages.word(0)));
        assertZero(0);
    }

    @Test
    void unprotectedMergedPageStillNeedsACopy() {
        store(0, 5);
        store(1, 5);
        pages.protect(0, 1);
        pages.merge(0, 1);

        pages.unprotect(0, 1);

        assertFalse(HostPageWord.isWritable(pages.word(0)));
        store(0, 6);
        assertContent(1, 5);
    }

    @Test
    void mergedPagesShareOneFrameThatNobodyStoresTo() {
        store(1, 5);
        store(6, 5);
        vm.forget();

        boolean merged = pages.merge(1, 6);

        assertTrue(merged);
        assertEquals(List.of("start 1 2", "wait", "end 1 2", "start 6 7", "wait", "end 6 7"), vm.heard);
        assertEquals(List.of(0L, 0L), vm.wordsAtWait, "absent while content moves");
        assertEquals(pages.word(1), pages.word(6));
        assertEquals(HostPageWord.PRESENT | HostPageWord.MERGED, pages.word(1) - hpa(1));
        assertTrue(pages.isMerged(1) && pages.isMerged(6));
        assertEquals(2, pages.mergedPages());
        assertEquals(2, pages.presentPages());
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes());
        assertContent(1, 5);
    }

    @Test
    void homesOfMergedPagesAreGivenBack() {
        store(1, 5);
        store(6, 5);

        pages.merge(1, 6);

        assertEquals(0, GuestBytes.getLong(pages.frames().homeOf(1)));
        assertEquals(0, GuestBytes.getLong(pages.frames().homeOf(6) + LAST_LONG));
    }

    @Test
    void storeToMergedPageIsACopyOfItsOwn() {
        store(1, 5);
        store(6, 5);
        pages.merge(1, 6);
        long shared = pages.word(1);
        vm.forget();

        HostFaultResult result = pages.faultIn(1, true);

        assertEquals(HostFaultResult.READY, result);
        assertEquals(List.of("start 1 2", "end 1 2"), vm.heard);
        assertEquals(List.of(shared), vm.wordsAtStart);
        assertContent(1, 5);
        store(1, 7);
        assertContent(6, 5);
        assertContent(1, 7);
        assertFalse(pages.isMerged(1));
        assertTrue(pages.isMerged(6));
        assertEquals(1, pages.mergedPages());
    }

    @Test
    void loadOfMergedPageLeavesItShared() {
        store(1, 5);
        store(6, 5);
        pages.merge(1, 6);
        vm.forget();

        assertEquals(HostFaultResult.READY, pages.faultIn(1, false));

        assertTrue(pages.isMerged(1));
        assertEquals(List.of(), vm.heard);
    }

    @Test
    void morePagesJoinASharedFrameFromBothSides() {
        for (long page = 0; page < 5; page++) {
            store(page, 5);
        }

        assertTrue(pages.merge(0, 1));
        vm.forget();
        assertTrue(pages.merge(0, 2));
        assertTrue(pages.merge(3, 1));
        assertEquals(List.of("start 2 3", "wait", "end 2 3", "start 3 4", "wait", "end 3 4"), vm.heard);
        vm.forget();
        assertTrue(pages.merge(2, 3), "they share already");

        assertEquals(List.of(), vm.heard);
        assertEquals(4, pages.mergedPages());
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes());
        for (long page = 0; page < 4; page++) {
            assertEquals(pages.word(0), pages.word(page));
        }
    }

    @Test
    void twoSharedFramesBecomeOne() {
        for (long page = 0; page < 4; page++) {
            store(page, 5);
        }
        pages.merge(0, 1);
        pages.merge(2, 3);
        assertEquals(usedAtHome + 2 * PAGE, pages.frames().usedInBytes());

        assertTrue(pages.merge(0, 2));
        assertTrue(pages.merge(1, 3));

        assertEquals(4, pages.mergedPages());
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes());
        assertContent(3, 5);
    }

    @Test
    void sharedFrameIsFreeWhenItsLastPageLeftAndReadersHaveEnded() {
        store(0, 5);
        store(1, 5);
        pages.merge(0, 1);

        store(0, 6);
        store(1, 7);
        long kept = pages.frames().usedInBytes();
        pages.protect(4, 1);

        assertEquals(usedAtHome + PAGE, kept, "a device may still read it");
        assertEquals(usedAtHome, pages.frames().usedInBytes());
        assertEquals(0, pages.mergedPages());
    }

    @Test
    void pagesThatDifferAreNotMergedNorAnnounced() {
        store(0, 5);
        store(1, 5);
        GuestBytes.putByte(hpa(1) + 100, (byte) 1);
        pages.faultIn(2, false);

        assertFalse(pages.merge(0, 1));
        assertFalse(pages.merge(0, 7), "absent");
        assertFalse(pages.merge(7, 0), "absent");

        assertEquals(List.of(), vm.heard);
        assertEquals(0, pages.mergedPages());
        assertEquals(usedAtHome, pages.frames().usedInBytes());
    }

    @Test
    void storeThatComesBetweenComparisonAndUnmapIsNotLost() {
        store(0, 5);
        store(1, 5);
        long frame = hpa(1);
        vm.atStart = () -> GuestBytes.putLong(frame + 16, 9);

        boolean merged = pages.merge(0, 1);

        assertFalse(merged);
        assertEquals(9, GuestBytes.getLong(hpa(1) + 16));
        assertTrue(HostPageWord.isWritable(pages.word(0)) && HostPageWord.isWritable(pages.word(1)));
        assertEquals(0, pages.mergedPages());
        assertContent(0, 5);
    }

    @Test
    void storeOfADeviceThatIsWaitedForIsNotLostByMerge() {
        store(0, 5);
        store(1, 5);
        long frame = hpa(0);
        vm.atWait = () -> GuestBytes.putLong(frame + 16, 9);

        boolean merged = pages.merge(0, 1);

        assertFalse(merged);
        assertEquals(9, GuestBytes.getLong(hpa(0) + 16));
        assertEquals(0, GuestBytes.getLong(hpa(1) + 16));
    }

    @Test
    void migratedPageKeepsItsContentThereAndBack() {
        store(2, 5);
        long home = hpa(2);

        assertTrue(pages.migrate(2));

        assertNotEquals(home, hpa(2));
        assertEquals(HostPageWord.PRESENT | HostPageWord.WRITABLE, pages.word(2) - hpa(2));
        assertEquals(0, GuestBytes.getLong(home), "given back");
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes());
        assertContent(2, 5);
        store(2, 6);
        assertTrue(pages.migrate(2));
        assertEquals(home, hpa(2));
        assertEquals(usedAtHome, pages.frames().usedInBytes());
        assertContent(2, 6);
        assertEquals(List.of("start 2 3", "wait", "end 2 3", "start 2 3", "wait", "end 2 3"), vm.heard);
    }

    @Test
    void lastStoresOfGuestAndDeviceMoveWithThePage() {
        store(2, 5);
        for (int time = 0; time < 2; time++) {
            long frame = hpa(2);
            vm.atStart = () -> GuestBytes.putLong(frame + 16, 8);
            vm.atWait = () -> GuestBytes.putLong(frame + 24, 9);

            assertTrue(pages.migrate(2));

            assertEquals(8, GuestBytes.getLong(hpa(2) + 16));
            assertEquals(9, GuestBytes.getLong(hpa(2) + 24));
            GuestBytes.putLong(hpa(2) + 16, 0);
            GuestBytes.putLong(hpa(2) + 24, 0);
        }
    }

    @Test
    void absentAndMergedPagesAreNotMigrated() {
        store(0, 5);
        store(1, 5);
        pages.merge(0, 1);
        vm.forget();

        assertFalse(pages.migrate(0));
        assertFalse(pages.migrate(2));

        assertEquals(List.of(), vm.heard);
    }

    @Test
    void migratedPagesCanBeMergedAndDiscarded() {
        store(0, 5);
        store(1, 5);
        pages.migrate(0);
        pages.migrate(1);

        assertTrue(pages.merge(0, 1));
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes());
        pages.discard(0, 1);

        assertEquals(1, pages.mergedPages());
        assertZero(0);
        assertContent(1, 5);
        pages.discard(1, 1);
        assertEquals(usedAtHome, pages.frames().usedInBytes());
        assertZero(1);
    }

    @Test
    void discardWithoutBlockingWaitsForNobodyAndFreesLater() {
        store(0, 5);
        pages.migrate(0);
        store(1, 6);
        vm.forget();

        boolean done = pages.discardWithoutBlocking(0, 2);

        assertTrue(done);
        assertEquals(List.of("start 0 2 now", "end 0 2"), vm.heard);
        assertEquals(usedAtHome + PAGE, pages.frames().usedInBytes(), "a device may still use it");
        assertZero(0);
        assertZero(1);
        pages.discard(3, 1);
        assertEquals(usedAtHome, pages.frames().usedInBytes());
    }

    @Test
    void discardWithoutBlockingDoesNothingDuringAnotherOperation() {
        store(0, 5);
        store(1, 6);
        boolean[] done = {true};
        vm.atStart = () -> inAnotherThread(() -> done[0] = pages.discardWithoutBlocking(1, 1));

        pages.discard(0, 1);

        assertFalse(done[0]);
        assertContent(1, 6);
    }

    private static void inAnotherThread(Runnable work) {
        Thread thread = new Thread(work);
        thread.start();
        try {
            thread.join();
        } catch (InterruptedException interrupt) {
            throw new AssertionError(interrupt);
        }
    }

    @Test
    void pagesOutsideTheRangeAreNamed() {
        String limit = "limit=8";

        assertOutside(limit, () -> pages.discard(0, 9));
        assertOutside("firstPage=-1", () -> pages.discard(-1, 1));
        assertOutside("count=0", () -> pages.discardWithoutBlocking(0, 0));
        assertOutside(limit, () -> pages.protect(8, 1));
        assertOutside(limit, () -> pages.unprotect(1, Long.MAX_VALUE));
        assertOutside(limit, () -> pages.merge(0, 8));
        assertOutside(limit, () -> pages.merge(-1, 0));
        assertOutside(limit, () -> pages.migrate(8));
        assertOutside(limit, () -> pages.isPresent(8));
        assertOutside(limit, () -> pages.faultIn(8, false));
        assertOutside(limit, () -> pages.word(8));
        assertOutside(limit, () -> pages.word(-1));
        assertOutside("page=3", () -> pages.merge(3, 3));
        assertOutside("bytes=0", () -> HostPages.allocate(0));
        assertOutside("bytes=4097", () -> HostPages.allocate(4097));
        assertOutside("bytes=-4096", () -> HostPages.allocate(-4096));
        assertEquals(List.of(), vm.heard);
    }

    private static void assertOutside(String text, Runnable call) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        assertTrue(message.contains(text), message);
    }

    @Test
    void faultsAtOneTimeBringEachPageOnceAndBreakEachShareOnce() throws Exception {
        int threads = 4;
        store(0, 5);
        store(1, 5);
        pages.merge(0, 1);
        vm.forget();
        CyclicBarrier together = new CyclicBarrier(threads);
        try (ExecutorService executor = Executors.newFixedThreadPool(threads)) {
            List<Future<?>> faults = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                faults.add(executor.submit(() -> {
                    together.await();
                    for (long page = 0; page < COUNT; page++) {
                        assertEquals(HostFaultResult.READY, pages.faultIn(page, true));
                    }
                    return null;
                }));
            }
            for (Future<?> fault : faults) {
                fault.get();
            }
        }

        assertEquals(COUNT, pages.presentPages());
        assertEquals(0, pages.mergedPages());
        assertEquals(List.of("start 0 1", "end 0 1", "start 1 2", "end 1 2"), vm.heard);
        assertContent(0, 5);
        assertContent(1, 5);
    }

    @Test
    void faultDuringAnOperationWaitsForItsEnd() throws Exception {
        store(0, 5);
        boolean[] ended = {false};
        Thread[] fault = new Thread[1];
        boolean[] endedBefore = {false};
        vm.atStart = () -> {
            fault[0] = new Thread(() -> {
                pages.faultIn(0, true);
                endedBefore[0] = ended[0];
            });
            fault[0].start();
            awaitParkedOrEnded(fault[0]);
        };
        vm.atEnd = () -> ended[0] = true;

        pages.discard(0, 1);
        fault[0].join();

        assertTrue(endedBefore[0]);
        assertTrue(pages.isPresent(0));
    }

    private static void awaitParkedOrEnded(Thread thread) {
        while (thread.getState() != Thread.State.WAITING && thread.isAlive()) {
            Thread.onSpinWait();
        }
    }
}
