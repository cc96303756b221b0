package dev.tdpmmu.memory;

import dev.tdpmmu.base.HotPath;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * Access to the bytes of guest frames: what a load or store does after its translation.
 *
 * <p>Values are little-endian, as guests of EPT and NPT are. {@code get} and {@code put} take any alignment and are
 * atomic when naturally aligned; the volatile and compare-and-set forms need natural alignment. Addresses are masked
 * into the reserved range; an access of up to 8 bytes may end in its slack.
 */
public final class GuestBytes {
    private static final MemorySegment RANGE = HostMemory.RANGE;
    private static final long MASK = HostMemory.SIZE - 1;

    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final VarHandle ALIGNED_BYTE =
            ValueLayout.JAVA_BYTE.varHandle().withInvokeExactBehavior();
    private static final VarHandle ALIGNED_SHORT = ValueLayout.JAVA_SHORT
            .withOrder(ByteOrder.LITTLE_ENDIAN)
            .varHandle()
            .withInvokeExactBehavior();
    private static final VarHandle ALIGNED_INT =
            ValueLayout.JAVA_INT.withOrder(ByteOrder.LITTLE_ENDIAN).varHandle().withInvokeExactBehavior();
    private static final VarHandle ALIGNED_LONG =
            ValueLayout.JAVA_LONG.withOrder(ByteOrder.LITTLE_ENDIAN).varHandle().withInvokeExactBehavior();

    private GuestBytes() {}

    private static void point(Interleave.Kind kind, long hpa) {
        if (Interleave.ON) {
            Interleave.reach(kind, hpa);
        }
    }

    /**
     * Loads one byte.
     *
     * @param hpa host physical address
     * @return the byte
     * @ordering plain
     */
    @HotPath
    public static byte getByte(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return RANGE.get(ValueLayout.JAVA_BYTE, hpa & MASK);
    }

    /**
     * Loads two bytes.
     *
     * @param hpa host physical address, any alignment
     * @return the value
     * @ordering plain
     */
    @HotPath
    public static short getShort(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return RANGE.get(SHORT, hpa & MASK);
    }

    /**
     * Loads four bytes.
     *
     * @param hpa host physical address, any alignment
     * @return the value
     * @ordering plain
     */
    @HotPath
    public static int getInt(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return RANGE.get(INT, hpa & MASK);
    }

    /**
     * Loads eight bytes.
     *
     * @param hpa host physical address, any alignment
     * @return the value
     * @ordering plain
     */
    @HotPath
    public static long getLong(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return RANGE.get(LONG, hpa & MASK);
    }

    /**
     * Stores one byte.
     *
     * @param hpa host physical address
     * @param value the byte
     * @ordering plain
     */
    @HotPath
    public static void putByte(long hpa, byte value) {
        point(Interleave.Kind.WRITE, hpa);
        RANGE.set(ValueLayout.JAVA_BYTE, hpa & MASK, value);
    }

    /**
     * Stores two bytes.
     *
     * @param hpa host physical address, any alignment
     * @param value the value
     * @ordering plain
     */
    @HotPath
    public static void putShort(long hpa, short value) {
        point(Interleave.Kind.WRITE, hpa);
        RANGE.set(SHORT, hpa & MASK, value);
    }

    /**
     * Stores four bytes.
     *
     * @param hpa host physical address, any alignment
     * @param value the value
     * @ordering plain
     */
    @HotPath
    public static void putInt(long hpa, int value) {
        point(Interleave.Kind.WRITE, hpa);
        RANGE.set(INT, hpa & MASK, value);
    }

    /**
     * Stores eight bytes.
     *
     * @param hpa host physical address, any alignment
     * @param value the value
     * @ordering plain
     */
    @HotPath
    public static void putLong(long hpa, long value) {
        point(Interleave.Kind.WRITE, hpa);
        RANGE.set(LONG, hpa & MASK, value);
    }

    /**
     * Loads one byte in the volatile order.
     *
     * @param hpa host physical address
     * @return the byte
     * @ordering volatile
     */
    @HotPath
    public static byte getByteVolatile(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (byte) ALIGNED_BYTE.getVolatile(RANGE, hpa & MASK);
    }

    /**
     * Loads two bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 2
     * @return the value
     * @ordering volatile
     */
    @HotPath
    public static short getShortVolatile(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (short) ALIGNED_SHORT.getVolatile(RANGE, hpa & MASK);
    }

    /**
     * Loads four bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 4
     * @return the value
     * @ordering volatile
     */
    @HotPath
    public static int getIntVolatile(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (int) ALIGNED_INT.getVolatile(RANGE, hpa & MASK);
    }

    /**
     * Loads eight bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 8
     * @return the value
     * @ordering volatile
     */
    @HotPath
    public static long getLongVolatile(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (long) ALIGNED_LONG.getVolatile(RANGE, hpa & MASK);
    }

    /**
     * Stores one byte in the volatile order.
     *
     * @param hpa host physical address
     * @param value the byte
     * @ordering volatile
     */
    @HotPath
    public static void putByteVolatile(long hpa, byte value) {
        point(Interleave.Kind.WRITE, hpa);
        ALIGNED_BYTE.setVolatile(RANGE, hpa & MASK, value);
    }

    /**
     * Stores two bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 2
     * @param value the value
     * @ordering volatile
     */
    @HotPath
    public static void putShortVolatile(long hpa, short value) {
        point(Interleave.Kind.WRITE, hpa);
        ALIGNED_SHORT.setVolatile(RANGE, hpa & MASK, value);
    }

    /**
     * Stores four bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 4
     * @param value the value
     * @ordering volatile
     */
    @HotPath
    public static void putIntVolatile(long hpa, int value) {
        point(Interleave.Kind.WRITE, hpa);
        ALIGNED_INT.setVolatile(RANGE, hpa & MASK, value);
    }

    /**
     * Stores eight bytes in the volatile order.
     *
     * @param hpa host physical address, multiple of 8
     * @param value the value
     * @ordering volatile
     */
    @HotPath
    public static void putLongVolatile(long hpa, long value) {
        point(Interleave.Kind.WRITE, hpa);
        ALIGNED_LONG.setVolatile(RANGE, hpa & MASK, value);
    }

    /**
     * Replaces four bytes if they still have the expected value.
     *
     * @param hpa host physical address, multiple of 4
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @ordering volatile
     */
    @HotPath
    public static boolean compareAndSetInt(long hpa, int expected, int value) {
        point(Interleave.Kind.UPDATE, hpa);
        return ALIGNED_INT.compareAndSet(RANGE, hpa & MASK, expected, value);
    }

    /**
     * Replaces eight bytes if they still have the expected value.
     *
     * @param hpa host physical address, multiple of 8
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @ordering volatile
     */
    @HotPath
    public static boolean compareAndSetLong(long hpa, long expected, long value) {
        point(Interleave.Kind.UPDATE, hpa);
        return ALIGNED_LONG.compareAndSet(RANGE, hpa & MASK, expected, value);
    }

    /**
     * Copies bytes out of a frame.
     *
     * @param hpa host physical address of the first byte
     * @param target where to
     * @param offset first index in the target
     * @param length bytes; source and target must hold them
     * @ordering plain, byte by byte at worst
     */
    public static void copyOut(long hpa, byte[] target, int offset, int length) {
        point(Interleave.Kind.READ, hpa);
        MemorySegment.copy(RANGE, ValueLayout.JAVA_BYTE, hpa & MASK, target, offset, length);
    }

    /**
     * Copies bytes into a frame.
     *
     * @param hpa host physical address of the first byte
     * @param source where from
     * @param offset first index in the source
     * @param length bytes; source and target must hold them
     * @ordering plain, byte by byte at worst
     */
    public static void copyIn(long hpa, byte[] source, int offset, int length) {
        point(Interleave.Kind.WRITE, hpa);
        MemorySegment.copy(source, offset, RANGE, ValueLayout.JAVA_BYTE, hpa & MASK, length);
    }
}
