package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/** Pages of a run that are given back while the run is held. */
final class FrameRunTest {
    private static final long PAGE = HostMemory.PAGE_SIZE;

    private final MemoryAccount account = new MemoryAccount(Long.MAX_VALUE);

    @Test
    void discardedPagesAreZeroAndStillCharged() {
        try (FrameRun run = new FrameAllocator(account).allocate(1, 4 * PAGE)) {
            for (long offset = 0; offset < run.bytes(); offset += Long.BYTES) {
                GuestBytes.putLong(run.hpa() + offset, -1);
            }

            run.discard(PAGE, 2 * PAGE);

            for (long offset = 0; offset < run.bytes(); offset += Long.BYTES) {
                boolean discarded = offset >= PAGE && offset < 3 * PAGE;
                assertEquals(discarded ? 0 : -1, GuestBytes.getLong(run.hpa() + offset));
            }
            assertEquals(4 * PAGE, account.usedInBytes());
        }
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void pagesOutsideTheRunAreNotDiscarded() {
        try (FrameRun run = new FrameAllocator(account).allocate(1, 4 * PAGE)) {
            assertRefused(run, -PAGE, PAGE);
            assertRefused(run, 0, 5 * PAGE);
            assertRefused(run, 4 * PAGE, PAGE);
            assertRefused(run, 1, PAGE);
            assertRefused(run, 0, 8);
            assertRefused(run, 0, -PAGE);
            assertRefused(run, PAGE, Long.MAX_VALUE & -PAGE);
        }
    }

    private static void assertRefused(FrameRun run, long offsetInBytes, long bytes) {
        String message = assertThrows(IllegalArgumentException.class, () -> run.discard(offsetInBytes, bytes))
                .getMessage();
        assertTrue(message.contains("discardedBytes=" + bytes), message);
    }
}
