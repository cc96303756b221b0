package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class GuestBytesTest {
    private final FrameRun run = new FrameAllocator(new MemoryAccount(1L << 30)).allocate(1, 3 * 4096);
    private final long base = run.hpa();

    @AfterEach
    void releaseFrames() {
        run.close();
    }

    @Test
    void valuesAreLittleEndian() {
        GuestBytes.putLong(base, 0x8877_6655_4433_2211L);

        for (int i = 0; i < 8; i++) {
            assertEquals((byte) (0x11 * (i + 1)), GuestBytes.getByte(base + i));
        }
        assertEquals((short) 0x2211, GuestBytes.getShort(base));
        assertEquals(0x8877_6655, GuestBytes.getInt(base + 4));
        assertEquals((short) 0x2211, GuestBytes.getShortVolatile(base));
        assertEquals(0x8877_6655, GuestBytes.getIntVolatile(base + 4));
        assertEquals(0x8877_6655_4433_2211L, GuestBytes.getLongVolatile(base));
        assertEquals((byte) 0x88, GuestBytes.getByteVolatile(base + 7));
    }

    @Test
    void plainAccessesOfAllSizesTakeAnyAlignmentAcrossPages() {
        for (int offset = -9; offset <= 9; offset++) {
            long hpa = base + 4096 + offset;

            GuestBytes.putLong(hpa, 0x0102_0304_0506_0708L + offset);
            assertEquals(0x0102_0304_0506_0708L + offset, GuestBytes.getLong(hpa));
            GuestBytes.putInt(hpa, 0x8000_0001 + offset);
            assertEquals(0x8000_0001 + offset, GuestBytes.getInt(hpa));
            GuestBytes.putShort(hpa, (short) (0x8001 + offset));
            assertEquals((short) (0x8001 + offset), GuestBytes.getShort(hpa));
            GuestBytes.putByte(hpa, (byte) (0x81 + offset));
            assertEquals((byte) (0x81 + offset), GuestBytes.getByte(hpa));
        }
    }

    @Test
    void storesTouchNothingBesideThem() {
        for (int size = 1; size <= 8; size *= 2) {
            byte[] image = new byte[64];
            GuestBytes.copyIn(base, image, 0, 64);

            store(base + 21, size);

            GuestBytes.copyOut(base, image, 0, 64);
            for (int i = 0; i < 64; i++) {
                assertEquals(i >= 21 && i < 21 + size, image[i] != 0, "size=" + size + ", byte=" + i);
            }
        }
    }

    private static void store(long hpa, int size) {
        switch (size) {
            case 1 -> GuestBytes.putByte(hpa, (byte) -1);
            case 2 -> GuestBytes.putShort(hpa, (short) -1);
            case 4 -> GuestBytes.putInt(hpa, -1);
            default -> GuestBytes.putLong(hpa, -1);
        }
    }

    @Test
    void randomStoresAgreeWithAByteArray() {
        long seed = System.nanoTime();
        System.out.println("GuestBytesTest seed=" + seed);
        Random random = new Random(seed);
        byte[] oracle = new byte[2 * 4096];

        for (int i = 0; i < 20_000; i++) {
            int size = 1 << random.nextInt(4);
            int offset = random.nextInt(oracle.length - size + 1);
            long value = random.nextLong();
            switch (size) {
                case 1 -> GuestBytes.putByte(base + offset, (byte) value);
                case 2 -> GuestBytes.putShort(base + offset, (short) value);
                case 4 -> GuestBytes.putInt(base + offset, (int) value);
                default -> GuestBytes.putLong(base + offset, value);
            }
            for (int b = 0; b < size; b++) {
                oracle[offset + b] = (byte) (value >>> 8 * b);
            }
        }

        byte[] image = new byte[oracle.length];
        GuestBytes.copyOut(base, image, 0, image.length);
        assertArrayEquals(oracle, image, () -> "seed=" + seed);
    }

    @Test
    void volatileStoresOfAllSizesAreReadBack() {
        GuestBytes.putByteVolatile(base + 1, (byte) -2);
        GuestBytes.putShortVolatile(base + 2, (short) -3);
        GuestBytes.putIntVolatile(base + 4, -4);
        GuestBytes.putLongVolatile(base + 8, -5);

        assertEquals(-2, GuestBytes.getByteVolatile(base + 1));
        assertEquals(-3, GuestBytes.getShortVolatile(base + 2));
        assertEquals(-4, GuestBytes.getIntVolatile(base + 4));
        assertEquals(-5, GuestBytes.getLongVolatile(base + 8));
    }

    @Test
    void misalignedVolatileAccessIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> GuestBytes.getShortVolatile(base + 1));
        assertThrows(IllegalArgumentException.class, () -> GuestBytes.putShortVolatile(base + 1, (short) 1));
        for (int offset : new int[] {1, 2, 3}) {
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.getIntVolatile(base + offset));
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.putIntVolatile(base + offset, 1));
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.compareAndSetInt(base + offset, 0, 1));
        }
        for (int offset : new int[] {1, 2, 4, 7}) {
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.getLongVolatile(base + offset));
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.putLongVolatile(base + offset, 1));
            assertThrows(IllegalArgumentException.class, () -> GuestBytes.compareAndSetLong(base + offset, 0, 1));
        }
        assertEquals(0, GuestBytes.getLong(base));
    }

    @Test
    void compareAndSetReplacesOnlyTheExpectedValue() {
        GuestBytes.putLong(base, 0x8877_6655_4433_2211L);

        boolean wrongInt = GuestBytes.compareAndSetInt(base, 0x1122_3344, 1);
        boolean rightInt = GuestBytes.compareAndSetInt(base, 0x4433_2211, 1);
        boolean wrongLong = GuestBytes.compareAndSetLong(base, 0x8877_6655_4433_2211L, 2);
        long between = GuestBytes.getLong(base);
        boolean rightLong = GuestBytes.compareAndSetLong(base, 0x8877_6655_0000_0001L, 2);

        assertFalse(wrongInt);
        assertTrue(rightInt);
        assertFalse(wrongLong);
        assertEquals(0x8877_6655_0000_0001L, between);
        assertTrue(rightLong);
        assertEquals(2, GuestBytes.getLong(base));
    }

    @Test
    void compareAndSetOfTwoThreadsLosesNoCount() throws InterruptedException {
        int rounds = 20_000;
        Thread[] threads = new Thread[2];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = Thread.ofPlatform().start(() -> {
                for (int round = 0; round < rounds; round++) {
                    long old = GuestBytes.getLongVolatile(base);
                    while (!GuestBytes.compareAndSetLong(base, old, old + 1)) {
                        old = GuestBytes.getLongVolatile(base);
                    }
                }
            });
        }
        for (Thread thread : threads) {
            thread.join();
        }

        assertEquals(2 * rounds, GuestBytes.getLong(base));
    }

    @Test
    void copiesHonourOffsetsAndCrossPages() {
        byte[] source = new byte[6000];
        new Random(1).nextBytes(source);
        byte[] target = new byte[6000];

        GuestBytes.copyIn(base + 1000, source, 10, 5000);
        GuestBytes.copyOut(base + 1000, target, 10, 5000);

        assertArrayEquals(Arrays.copyOfRange(source, 10, 5010), Arrays.copyOfRange(target, 10, 5010));
        assertEquals(0, target[9]);
        assertEquals(0, target[5010]);
        assertEquals(0, GuestBytes.getByte(base + 999));
        assertEquals(0, GuestBytes.getByte(base + 6000));
        assertThrows(IndexOutOfBoundsException.class, () -> GuestBytes.copyOut(base, target, 5999, 2));
        assertThrows(IndexOutOfBoundsException.class, () -> GuestBytes.copyIn(base, source, -1, 2));
    }

    @Test
    void addressBeyondTheRangeStaysInIt() {
        GuestBytes.putLong(base + HostMemory.SIZE, 99);

        assertEquals(99, GuestBytes.getLong(base));
        assertEquals(99, GuestBytes.getLong(base | Long.MIN_VALUE));
        assertEquals(GuestBytes.getLong(HostMemory.SIZE - 1), GuestBytes.getLong(-1));
    }
}
