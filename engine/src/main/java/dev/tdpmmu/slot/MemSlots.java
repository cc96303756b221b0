package dev.tdpmmu.slot;

import dev.tdpmmu.base.HotPath;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/**
 * All slots of a VM at one moment: an immutable snapshot with a generation.
 *
 * <p>An operation takes one snapshot and stays with it. A fault that looks up a frame number in a snapshot which is
 * then replaced is told by the invalidation that the change opens, not by the snapshot.
 *
 * @kvm kvm_memslots
 */
public final class MemSlots {
    /** Most slots of a VM; ids are below it. */
    public static final int MAX_SLOTS = 32_764;

    private static final int CHUNK_BITS = 8;
    private static final int CHUNK_SLOTS = 1 << CHUNK_BITS;
    private static final int CHUNK_MASK = CHUNK_SLOTS - 1;
    private static final int CHUNKS = (MAX_SLOTS + CHUNK_SLOTS - 1) >>> CHUNK_BITS;

    private final long generation;

    /** First frames in ascending order, behind an entry below every frame that stands for {@link MemSlot#NONE}. */
    private final long[] baseGfns;

    /** The slots of {@link #baseGfns}, in the same places. */
    private final MemSlot[] slots;

    /** Slots by id, in chunks of {@link #CHUNK_SLOTS}; holes are {@link MemSlot#NONE}. */
    private final MemSlot[][] chunks;

    // Design note. Every change copies the two sorted arrays and shares the rest: of the table by id, only the one
    // chunk that changes is copied. The slot objects know neither their place nor their snapshot, so that they are
    // shared as well; "is this slot part of this snapshot" is asked of the table by id, which costs two loads and
    // cannot be fooled by a slot of another VM or by an earlier version of the same slot. The entry below every frame
    // spares the search its empty case.

    private MemSlots(long generation, long[] baseGfns, MemSlot[] slots, MemSlot[][] chunks) {
        this.generation = generation;
        this.baseGfns = baseGfns;
        this.slots = slots;
        this.chunks = chunks;
    }

    /** The snapshot without slots. */
    static MemSlots empty(long generation) {
        MemSlot[] holes = new MemSlot[CHUNK_SLOTS];
        Arrays.fill(holes, MemSlot.NONE);
        MemSlot[][] chunks = new MemSlot[CHUNKS][];
        Arrays.fill(chunks, holes);
        return new MemSlots(generation, new long[] {Long.MIN_VALUE}, new MemSlot[] {MemSlot.NONE}, chunks);
    }

    /**
     * Returns the number of the snapshot, which grows by one with each change of slots.
     *
     * @return 64 bits, never reused by a VM
     */
    @HotPath
    public long generation() {
        return generation;
    }

    /**
     * Returns the number of slots.
     *
     * @return 0 to {@link #MAX_SLOTS}
     */
    @HotPath
    public int size() {
        return slots.length - 1;
    }

    /**
     * Finds the slot that contains a frame.
     *
     * @param gfn guest frame number
     * @return the slot, or {@link MemSlot#NONE}
     * @kvm search_memslots
     */
    @HotPath
    public MemSlot find(long gfn) {
        MemSlot slot = slots[lastAtOrBelow(gfn)];
        return slot.contains(gfn) ? slot : MemSlot.NONE;
    }

    /**
     * Finds the slot that contains a frame, first in the slot that the caller found last.
     *
     * @param gfn guest frame number
     * @param last any slot, also one of an earlier snapshot or of another VM, which is then ignored
     * @return the slot of this snapshot, or {@link MemSlot#NONE}
     * @kvm try_get_memslot
     */
    @HotPath
    public MemSlot find(long gfn, MemSlot last) {
        return last.contains(gfn) && has(last) ? last : find(gfn);
    }

    /**
     * Finds a slot by its id.
     *
     * @param id any number
     * @return the slot, or {@link MemSlot#NONE}
     */
    public MemSlot byId(int id) {
        return id < 0 || id >= MAX_SLOTS ? MemSlot.NONE : chunks[id >>> CHUNK_BITS][id & CHUNK_MASK];
    }

    /**
     * Returns all slots in ascending order of their frames. For control paths.
     *
     * @return unmodifiable list
     */
    public List<MemSlot> asList() {
        return Collections.unmodifiableList(Arrays.asList(slots).subList(1, slots.length));
    }

    /** Whether an existing slot is part of this snapshot. */
    @HotPath
    private boolean has(MemSlot slot) {
        int id = slot.id();
        return chunks[id >>> CHUNK_BITS][id & CHUNK_MASK] == slot;
    }

    /** Place of the last slot that starts at or below a frame; the halves are chosen without a branch to mispredict. */
    @HotPath
    private int lastAtOrBelow(long gfn) {
        long[] bases = baseGfns;
        int place = 0;
        int length = bases.length;
        while (length > 1) {
            int half = length >>> 1;
            place = bases[place + half] <= gfn ? place + half : place;
            length -= half;
        }
        return place;
    }

    /**
     * Finds a slot that shares a frame with a range.
     *
     * @param startGfn first frame
     * @param endGfn exclusive
     * @param except slot that does not count, or {@link MemSlot#NONE}
     * @return such a slot, or {@link MemSlot#NONE}
     */
    MemSlot overlapping(long startGfn, long endGfn, MemSlot except) {
        for (int place = lastAtOrBelow(startGfn); place < slots.length && baseGfns[place] < endGfn; place++) {
            MemSlot slot = slots[place];
            if (slot != except && slot.endGfn() > startGfn && slot.exists()) {
                return slot;
            }
        }
        return MemSlot.NONE;
    }

    /** This snapshot and one more slot, which overlaps none and whose id is free. */
    MemSlots with(MemSlot slot, long newGeneration) {
        int place = lastAtOrBelow(slot.baseGfn()) + 1;
        int length = slots.length;
        long[] newBases = new long[length + 1];
        System.arraycopy(baseGfns, 0, newBases, 0, place);
        System.arraycopy(baseGfns, place, newBases, place + 1, length - place);
        newBases[place] = slot.baseGfn();
        MemSlot[] newSlots = new MemSlot[length + 1];
        System.arraycopy(slots, 0, newSlots, 0, place);
        System.arraycopy(slots, place, newSlots, place + 1, length - place);
        newSlots[place] = slot;
        return new MemSlots(newGeneration, newBases, newSlots, chunksWith(slot.id(), slot));
    }

    /** This snapshot without one of its slots. */
    MemSlots without(MemSlot slot, long newGeneration) {
        int place = lastAtOrBelow(slot.baseGfn());
        int length = slots.length;
        long[] newBases = new long[length - 1];
        System.arraycopy(baseGfns, 0, newBases, 0, place);
        System.arraycopy(baseGfns, place + 1, newBases, place, length - place - 1);
        MemSlot[] newSlots = new MemSlot[length - 1];
        System.arraycopy(slots, 0, newSlots, 0, place);
        System.arraycopy(slots, place + 1, newSlots, place, length - place - 1);
        return new MemSlots(newGeneration, newBases, newSlots, chunksWith(slot.id(), MemSlot.NONE));
    }

    private MemSlot[][] chunksWith(int id, MemSlot slot) {
        MemSlot[][] newChunks = chunks.clone();
        MemSlot[] chunk = newChunks[id >>> CHUNK_BITS].clone();
        chunk[id & CHUNK_MASK] = slot;
        newChunks[id >>> CHUNK_BITS] = chunk;
        return newChunks;
    }

    @Override
    public String toString() {
        return "generation " + generation + " " + asList();
    }
}
