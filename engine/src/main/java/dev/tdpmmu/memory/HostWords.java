package dev.tdpmmu.memory;

import dev.tdpmmu.base.HotPath;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * Access to the 64-bit words of the engine that are not page-table entries: reader slots, epochs, pool heads, headers,
 * sequences, counters.
 *
 * <p>A word is named by its host physical address, a multiple of 8. Pairing is that of {@link SpteAccess}.
 */
public final class HostWords {
    private static final MemorySegment RANGE = HostMemory.RANGE;
    private static final VarHandle LONG = ValueLayout.JAVA_LONG.varHandle().withInvokeExactBehavior();
    private static final long WORD_MASK = HostMemory.TABLES_END - Long.BYTES;

    private HostWords() {}

    /**
     * Reads a word that others may change.
     *
     * @param address host physical address, multiple of 8
     * @return the word
     * @ordering acquire; pairs with {@link #setRelease}, {@link #setVolatile} and the updates
     */
    @HotPath
    public static long readAcquire(long address) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.READ, address);
        }
        return (long) LONG.getAcquire(RANGE, address & WORD_MASK);
    }

    /**
     * Reads a word in the one order that all volatile accesses share.
     *
     * @param address host physical address, multiple of 8
     * @return the word
     * @ordering volatile
     */
    @HotPath
    public static long readVolatile(long address) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.READ, address);
        }
        return (long) LONG.getVolatile(RANGE, address & WORD_MASK);
    }

    /**
     * Reads a word that nobody else writes, or whose value is only a hint. Not an interleaving point.
     *
     * @param address host physical address, multiple of 8
     * @return the word
     * @ordering opaque
     */
    @HotPath
    public static long readOpaque(long address) {
        return (long) LONG.getOpaque(RANGE, address & WORD_MASK);
    }

    /**
     * Writes a word that has one writer and whose readers need no order (statistics). Not an interleaving point.
     *
     * @param address host physical address, multiple of 8
     * @param value new value
     * @ordering opaque
     */
    @HotPath
    public static void setOpaque(long address, long value) {
        LONG.setOpaque(RANGE, address & WORD_MASK, value);
    }

    /**
     * Adds to a word that has one writer. Not an interleaving point; not atomic against a second writer.
     *
     * @param address host physical address, multiple of 8
     * @param delta amount
     * @ordering opaque
     */
    @HotPath
    public static void addOpaque(long address, long delta) {
        setOpaque(address, readOpaque(address) + delta);
    }

    /**
     * Publishes a word.
     *
     * @param address host physical address, multiple of 8
     * @param value new value
     * @ordering release; pairs with {@link #readAcquire}
     */
    @HotPath
    public static void setRelease(long address, long value) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.WRITE, address);
        }
        LONG.setRelease(RANGE, address & WORD_MASK, value);
    }

    /**
     * Publishes a word with a full fence behind it: no later load of this thread is done before the store is seen.
     *
     * @param address host physical address, multiple of 8
     * @param value new value
     * @ordering volatile
     */
    @HotPath
    public static void setVolatile(long address, long value) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.WRITE, address);
        }
        LONG.setVolatile(RANGE, address & WORD_MASK, value);
    }

    /**
     * Replaces a word if it still has the expected value.
     *
     * @param address host physical address, multiple of 8
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @ordering volatile
     */
    @HotPath
    public static boolean compareAndSet(long address, long expected, long value) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.UPDATE, address);
        }
        return LONG.compareAndSet(RANGE, address & WORD_MASK, expected, value);
    }

    /**
     * Adds atomically.
     *
     * @param address host physical address, multiple of 8
     * @param delta amount
     * @return the value before
     * @ordering volatile
     */
    @HotPath
    public static long getAndAdd(long address, long delta) {
        if (Interleave.ON) {
            Interleave.reach(Interleave.Kind.UPDATE, address);
        }
        return (long) LONG.getAndAdd(RANGE, address & WORD_MASK, delta);
    }
}
