package dev.tdpmmu.memory;

import dev.tdpmmu.base.HotPath;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * Access to the 64-bit words of the engine that lie in frames: dirty bitmaps and dirty rings.
 *
 * <p>A word is named by its host physical address, a multiple of 8, in native byte order. Addresses are masked into
 * the reserved range. {@link HostWords} reaches only the words below the frames, {@link GuestBytes} is what
 * guests do.
 */
public final class FrameWords {
    /** Words that {@link #orPlain} reads at once. */
    public static final int BLOCK_WORDS = 8;

    /** Bytes that {@link #orPlain} reads at once. */
    public static final int BLOCK_BYTES = BLOCK_WORDS * Long.BYTES;

    private static final MemorySegment RANGE = HostMemory.RANGE;
    private static final VarHandle LONG = ValueLayout.JAVA_LONG.varHandle().withInvokeExactBehavior();
    private static final long WORD_MASK = HostMemory.SIZE - Long.BYTES;
    private static final long BLOCK_MASK = HostMemory.SIZE - BLOCK_BYTES;

    private FrameWords() {}

    private static void point(Interleave.Kind kind, long hpa) {
        if (Interleave.ON) {
            Interleave.reach(kind, hpa);
        }
    }

    /**
     * Reads a word whose value is only a hint, or that nobody changes meanwhile.
     *
     * @param hpa host physical address, multiple of 8
     * @return the word
     * @ordering plain
     */
    @HotPath
    public static long readPlain(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (long) LONG.get(RANGE, hpa & WORD_MASK);
    }

    /**
     * Reads {@link #BLOCK_WORDS} words and tells which bits are set in any of them. One interleaving point: the words
     * are read in no order, so a caller may conclude nothing from one about another.
     *
     * @param hpa host physical address, multiple of {@link #BLOCK_BYTES}
     * @return the words or-ed together
     * @ordering plain
     */
    @HotPath
    public static long orPlain(long hpa) {
        point(Interleave.Kind.READ, hpa);
        long block = hpa & BLOCK_MASK;
        long low = (long) LONG.get(RANGE, block)
                | (long) LONG.get(RANGE, block + Long.BYTES)
                | (long) LONG.get(RANGE, block + 2 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 3 * Long.BYTES);
        long high = (long) LONG.get(RANGE, block + 4 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 5 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 6 * Long.BYTES)
                | (long) LONG.get(RANGE, block + 7 * Long.BYTES);
        return low | high;
    }

    /**
     * Reads a word that others publish.
     *
     * @param hpa host physical address, multiple of 8
     * @return the word
     * @ordering acquire; pairs with {@link #setRelease} and the updates
     */
    @HotPath
    public static long readAcquire(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (long) LONG.getAcquire(RANGE, hpa & WORD_MASK);
    }

    /**
     * Reads a word in the one order that all volatile accesses share.
     *
     * @param hpa host physical address, multiple of 8
     * @return the word
     * @ordering volatile
     */
    @HotPath
    public static long readVolatile(long hpa) {
        point(Interleave.Kind.READ, hpa);
        return (long) LONG.getVolatile(RANGE, hpa & WORD_MASK);
    }

    /**
     * Writes a word that a later {@link #setRelease} of the same thread publishes, or that nobody else reaches yet.
     *
     * @param hpa host physical address, multiple of 8
     * @param value new value
     * @ordering plain
     */
    @HotPath
    public static void setPlain(long hpa, long value) {
        point(Interleave.Kind.WRITE, hpa);
        LONG.set(RANGE, hpa & WORD_MASK, value);
    }

    /**
     * Writes a word at once for all, without order against other words.
     *
     * @param hpa host physical address, multiple of 8
     * @param value new value
     * @ordering opaque
     */
    @HotPath
    public static void setOpaque(long hpa, long value) {
        point(Interleave.Kind.WRITE, hpa);
        LONG.setOpaque(RANGE, hpa & WORD_MASK, value);
    }

    /**
     * Publishes a word.
     *
     * @param hpa host physical address, multiple of 8
     * @param value new value
     * @ordering release; pairs with {@link #readAcquire}
     */
    @HotPath
    public static void setRelease(long hpa, long value) {
        point(Interleave.Kind.WRITE, hpa);
        LONG.setRelease(RANGE, hpa & WORD_MASK, value);
    }

    /**
     * Sets bits atomically.
     *
     * @param hpa host physical address, multiple of 8
     * @param bits bits to set
     * @return the word before
     * @ordering volatile
     */
    @HotPath
    public static long getAndBitwiseOr(long hpa, long bits) {
        point(Interleave.Kind.UPDATE, hpa);
        return (long) LONG.getAndBitwiseOr(RANGE, hpa & WORD_MASK, bits);
    }

    /**
     * Clears bits atomically.
     *
     * @param hpa host physical address, multiple of 8
     * @param bits bits to keep
     * @return the word before
     * @ordering volatile
     */
    @HotPath
    public static long getAndBitwiseAnd(long hpa, long bits) {
        point(Interleave.Kind.UPDATE, hpa);
        return (long) LONG.getAndBitwiseAnd(RANGE, hpa & WORD_MASK, bits);
    }

    /**
     * Replaces a word atomically.
     *
     * @param hpa host physical address, multiple of 8
     * @param value new value
     * @return the word before
     * @ordering volatile
     */
    @HotPath
    public static long exchange(long hpa, long value) {
        point(Interleave.Kind.UPDATE, hpa);
        return (long) LONG.getAndSet(RANGE, hpa & WORD_MASK, value);
    }
}
