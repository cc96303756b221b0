package dev.tdpmmu.sync;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.HostWords;

/**
 * One vCPU's or worker's off-heap word that says what it is doing, and so serves as reader lock, epoch and shoot-down
 * mark at once.
 *
 * <pre>
 *    +0  state: epoch (63:3) | mode (2:0)      written by the owner, read by everybody who waits for it
 *    +8  acknowledged: flush sequence          same line: both are written together
 *  +128  counters, one writer                  read by who asks for statistics
 *
 *  mode     | holds the epoch | MMU lock shared | in the guest | meaning
 *  OUTSIDE  |                 |                 |              | not in the engine
 *  IN_GUEST |        x        |                 |      x       | an access runs: TLB, hardware walk, load or store
 *  WALKING  |        x        |                 |              | reads tables
 *  FAULTING |        x        |        x        |              | changes tables by compare-and-set
 *  HANDLING |                 |                 |              | between exit and re-entry, outside every section
 * </pre>
 *
 * <p>Guarantee: after {@link #enter} returns, every thread that changes shared memory with a volatile update and then
 * reads this word either sees the mode and epoch, or made its change before anything that the owner reads from here on.
 * That is what a store with a full fence buys; it touches no line that another reader writes.
 *
 * <p>Belongs to one thread at a time. A section never parks, yields or waits for a grace period.
 */
public final class ReaderSlot {
    /** Not in the engine. */
    public static final int OUTSIDE = 0;

    /** An access of the guest runs. */
    public static final int IN_GUEST = 1;

    /** Tables are read. */
    public static final int WALKING = 2;

    /** The MMU lock is held shared through this slot. */
    public static final int FAULTING = 3;

    /** An exit is being handled, outside every section. */
    public static final int HANDLING = 4;

    static final int BLOCK_BYTES = 2 * CacheLines.PAIR_BYTES;

    private static final int MODE_BITS = 3;
    private static final long MODE_MASK = (1L << MODE_BITS) - 1;
    private static final int ACKNOWLEDGED = 8;
    private static final int COUNTERS = CacheLines.PAIR_BYTES;

    private final long address;
    private final long epochAddress;
    private final int index;

    /** Keeps the set, and so this slot's memory, alive for as long as somebody can reach the slot. */
    private final ReaderSlots owner;

    /** Confined to the owner: the stamp of the StampedLock while it holds one. */
    private long stamp;

    /** Confined to the owner: {@link #OUTSIDE} or {@link #HANDLING}, its mode before it took the MMU lock. */
    private int rest;

    /** Written by who hands the slot out; read by reports, where a stale name does no harm. */
    private volatile String name;

    ReaderSlot(ReaderSlots owner, int index, long address, long epochAddress) {
        this.owner = owner;
        this.index = index;
        this.address = address;
        this.epochAddress = epochAddress;
        this.name = "free slot " + index;
    }

    /**
     * Begins a section.
     *
     * @param mode {@link #IN_GUEST}, {@link #WALKING} or {@link #FAULTING}
     * @ordering volatile store, full fence behind it; pairs with the scans in {@link RcuDomain}, {@link
     *     ParallelMmuLock} and the shoot-down
     */
    @HotPath
    public void enter(int mode) {
        if (Debug.CHECK) {
            assertNoSection();
        }
        enter(address, epochAddress, mode);
    }

    /**
     * Begins a section, for an owner that keeps the addresses at hand: before the fence every load on the way to them
     * counts, because none of it overlaps with the access before.
     *
     * @param stateAddress of the slot
     * @param epochAddress of the slot
     * @param mode as for {@link #enter(int)}
     * @ordering as for {@link #enter(int)}
     */
    @HotPath
    public static void enter(long stateAddress, long epochAddress, int mode) {
        HostWords.setVolatile(stateAddress, HostWords.readAcquire(epochAddress) << MODE_BITS | mode);
    }

    /** {@return where the state is, for {@link #enter(long, long, int)} and {@link #leave(long, int)}} */
    public long stateAddress() {
        return address;
    }

    /** {@return where the epoch is that all slots of the set share} */
    public long epochAddress() {
        return epochAddress;
    }

    /**
     * Ends a section.
     *
     * @param mode {@link #OUTSIDE} or {@link #HANDLING}
     * @ordering release: nothing that the section read or wrote moves behind it
     */
    @HotPath
    public void leave(int mode) {
        leave(address, mode);
    }

    /**
     * Ends a section, for an owner that keeps the address at hand.
     *
     * @param stateAddress of the slot
     * @param mode as for {@link #leave(int)}
     * @ordering as for {@link #leave(int)}
     */
    @HotPath
    public static void leave(long stateAddress, int mode) {
        HostWords.setRelease(stateAddress, mode);
    }

    /**
     * Says that the owner has applied every flush up to a sequence.
     *
     * @param sequence flush sequence
     * @ordering release; pairs with {@link #acknowledged}
     */
    @HotPath
    public void acknowledge(long sequence) {
        HostWords.setRelease(address + ACKNOWLEDGED, sequence);
    }

    /**
     * Returns the last flush sequence that the owner has applied.
     *
     * @return flush sequence
     * @ordering volatile
     */
    public long acknowledged() {
        return HostWords.readVolatile(address + ACKNOWLEDGED);
    }

    /**
     * Returns the state word as others see it.
     *
     * @return epoch and mode
     * @ordering volatile; pairs with {@link #enter}
     */
    public long state() {
        return HostWords.readVolatile(address);
    }

    /**
     * Extracts the mode of a state word.
     *
     * @param state as {@link #state} returned it
     * @return one of the modes
     */
    public static int modeOf(long state) {
        return (int) (state & MODE_MASK);
    }

    /**
     * Extracts the epoch of a state word.
     *
     * @param state as {@link #state} returned it
     * @return epoch, 61 bits
     */
    static long epochOf(long state) {
        return state >>> MODE_BITS;
    }

    /** Tells whether a state word holds an epoch. */
    static boolean holdsEpoch(long state) {
        int mode = modeOf(state);
        return mode != OUTSIDE && mode != HANDLING;
    }

    /** Compares 61-bit epochs so that a wrap does no harm: above 0 if {@code a} is later than {@code b}. */
    static long compareEpochs(long a, long b) {
        return (a - b) << MODE_BITS;
    }

    /**
     * Asserts at debug level {@code check} that the owner is inside a section.
     *
     * @throws IllegalStateException if it is not
     */
    public void assertInside() {
        if (Debug.CHECK && !holdsEpoch(HostWords.readOpaque(address))) {
            throw new IllegalStateException(
                    "no epoch is held: slot=" + name + ", mode=" + modeOf(HostWords.readOpaque(address)));
        }
    }

    /**
     * Asserts at debug level {@code check} that the owner is in no section.
     *
     * @throws IllegalStateException if it is in one
     */
    public void assertNoSection() {
        if (Debug.CHECK && holdsEpoch(HostWords.readOpaque(address))) {
            throw new IllegalStateException(
                    "an epoch is held: slot=" + name + ", mode=" + modeOf(HostWords.readOpaque(address)));
        }
    }

    /**
     * Adds to one of the owner's statistics.
     *
     * @param counter index from {@link Counter}
     * @param delta amount, may be negative
     * @ordering opaque, one writer
     */
    @HotPath
    public void count(int counter, long delta) {
        HostWords.addOpaque(address + COUNTERS + ((long) counter << 3), delta);
    }

    /**
     * Reads one of the owner's statistics.
     *
     * @param counter index from {@link Counter}
     * @return sum of the deltas
     */
    public long counted(int counter) {
        return HostWords.readOpaque(address + COUNTERS + ((long) counter << 3));
    }

    /**
     * Returns who owns the slot, for reports.
     *
     * @return name
     */
    public String name() {
        return name;
    }

    void rename(String newName) {
        name = newName;
    }

    boolean belongsTo(ReaderSlots slots) {
        return owner == slots;
    }

    int index() {
        return index;
    }

    long stamp() {
        return stamp;
    }

    /**
     * Remembers what the owner does outside sections, to return to it. A vCPU that loads a root must stay
     * {@link #HANDLING}: to a VM that is being closed, outside would mean that nobody uses the vCPU any more.
     */
    void keepRest() {
        rest = modeOf(HostWords.readOpaque(address));
    }

    int rest() {
        return rest;
    }

    void keepStamp(long newStamp) {
        stamp = newStamp;
    }
}
