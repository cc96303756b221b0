package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

final class FrameAllocatorTest {
    private static final long[] FRAME_BYTES = {0, 1L << 12, 1L << 21, 1L << 30};

    private final MemoryAccount account = new MemoryAccount(1L << 40);
    private final FrameAllocator frames = new FrameAllocator(account);

    @Test
    void framesOfEachSizeAreAlignedChargedAndReturned() {
        for (int level = 1; level <= 3; level++) {
            long before = HostMemory.bytesHandedOut();

            try (FrameRun run = frames.allocate(level, 2 * FRAME_BYTES[level])) {
                assertEquals(0, run.hpa() % FRAME_BYTES[level]);
                assertEquals(level, run.level());
                assertEquals(2 * FRAME_BYTES[level], run.bytes());
                assertTrue(HostMemory.isFrame(run.hpa()) && HostMemory.isFrame(run.hpa() + run.bytes() - 1));
                assertEquals(run.bytes(), account.usedInBytes());
                assertEquals(before + run.bytes(), HostMemory.bytesHandedOut());
            }

            assertEquals(0, account.usedInBytes());
            assertEquals(before, HostMemory.bytesHandedOut());
        }
    }

    @Test
    void unknownFrameSizeIsRefused() {
        for (int level : new int[] {Integer.MIN_VALUE, -1, 0, 4, 5}) {
            IllegalArgumentException refusal =
                    assertThrows(IllegalArgumentException.class, () -> frames.allocate(level, 1L << 30));
            assertEquals("no such frame size: level=" + level + ", min=1, max=3", refusal.getMessage());
        }
    }

    @Test
    void lengthThatIsNoPositiveMultipleOfTheFrameSizeIsRefused() {
        for (int level = 1; level <= 3; level++) {
            long frameBytes = FRAME_BYTES[level];
            for (long bytes : new long[] {0, -frameBytes, 1, frameBytes - 1, frameBytes + 1, Long.MAX_VALUE}) {
                int frameLevel = level;
                IllegalArgumentException refusal =
                        assertThrows(IllegalArgumentException.class, () -> frames.allocate(frameLevel, bytes));
                assertTrue(refusal.getMessage().endsWith("bytes=" + bytes + ", frameBytes=" + frameBytes));
            }
        }
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void capOneByteShortIsRefusedWithAllFigures() {
        MemoryAccount small = new MemoryAccount(3 * 4096 - 1);
        FrameAllocator allocator = new FrameAllocator(small);
        FrameRun first = allocator.allocate(1, 4096);

        MemoryCapExceededException refusal =
                assertThrows(MemoryCapExceededException.class, () -> allocator.allocate(1, 8192));

        assertEquals(8192, refusal.requestedInBytes());
        assertEquals(4096, refusal.usedInBytes());
        assertEquals(12_287, refusal.capInBytes());
        assertEquals(
                "memory cap exceeded: for=guest frames, requested=8192, used=4096, cap=12287", refusal.getMessage());
        first.close();
        allocator.allocate(1, 8192).close();
        assertEquals(0, small.usedInBytes());
    }

    @Test
    void exhaustedReservedRangeIsRefusedAndRefunded() {
        MemoryAccount unlimited = new MemoryAccount(Long.MAX_VALUE);
        FrameAllocator allocator = new FrameAllocator(unlimited);

        MemoryCapExceededException refusal =
                assertThrows(MemoryCapExceededException.class, () -> allocator.allocate(1, HostMemory.SIZE));

        assertTrue(refusal.getMessage().contains("reserved range"), refusal::getMessage);
        assertEquals(0, unlimited.usedInBytes());
    }

    @Test
    void framesLiveUntilTheLastHolderLetsGo() {
        FrameRun run = frames.allocate(1, 4096);
        run.retain();
        run.retain();

        run.close();
        run.close();
        run.release();
        long usedByLastHolder = account.usedInBytes();
        run.release();

        assertEquals(4096, usedByLastHolder);
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void releasedFramesCanBeNeitherHeldNorReleasedAgain() {
        FrameRun run = frames.allocate(1, 4096);
        run.release();

        IllegalStateException held = assertThrows(IllegalStateException.class, run::retain);
        IllegalStateException released = assertThrows(IllegalStateException.class, run::release);

        String place = "hpa=0x" + Long.toHexString(run.hpa());
        assertEquals("frames are released: " + place, held.getMessage());
        assertEquals("frames released too often: " + place, released.getMessage());
        assertEquals(0, account.usedInBytes());
    }

    @Test
    void holdersOfTwoThreadsReleaseOnce() throws InterruptedException {
        FrameRun[] runs = new FrameRun[5_000];
        for (int i = 0; i < runs.length; i++) {
            runs[i] = frames.allocate(1, 4096);
            runs[i].retain();
        }
        AtomicInteger arrivals = new AtomicInteger();

        Thread other = Thread.ofPlatform().start(() -> releaseInStep(runs, arrivals));
        releaseInStep(runs, arrivals);
        other.join();

        assertEquals(0, account.usedInBytes());
        for (FrameRun run : runs) {
            assertThrows(IllegalStateException.class, run::retain);
        }
    }

    /** Both threads reach each run together, or the race for the last hold would seldom happen. */
    private static void releaseInStep(FrameRun[] runs, AtomicInteger arrivals) {
        for (int i = 0; i < runs.length; i++) {
            arrivals.incrementAndGet();
            while (arrivals.get() < 2 * (i + 1)) {
                Thread.onSpinWait();
            }
            runs[i].release();
        }
    }

    @Test
    void reusedFramesAreZero() {
        FrameRun run = frames.allocate(1, 3 * 4096);
        for (long offset = 0; offset < run.bytes(); offset += 8) {
            GuestBytes.putLong(run.hpa() + offset, -1);
        }
        run.close();

        try (FrameRun again = frames.allocate(1, 3 * 4096)) {
            assertEquals(run.hpa(), again.hpa(), "first fit");
            for (long offset = 0; offset < again.bytes(); offset += 8) {
                assertEquals(0, GuestBytes.getLong(again.hpa() + offset));
            }
        }
    }
}
