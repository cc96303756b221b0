package dev.tdpmmu.slot;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.FrameWords;
import dev.tdpmmu.memory.Interleave;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * The dirty log of one vCPU: an off-heap ring of page numbers, with the layout that KVM shares with user space.
 *
 * <p>Three parties: the vCPU pushes, one user thread collects, one thread at a time resets. They meet only in the
 * flags of the entries and in the reset index. A vCPU whose ring {@link #isSoftFull} leaves the guest until the ring
 * was reset; the reserved entries hold what it may still push on its way out.
 *
 * @kvm struct kvm_dirty_ring
 */
public final class DirtyRing {
    private static final VarHandle DIRTY_INDEX = indexHandle("dirtyIndex");
    private static final VarHandle RESET_INDEX = indexHandle("resetIndex");

    private static final int ENTRY_SHIFT = 4;
    private static final int OFFSET_BYTES = Long.BYTES;
    private static final int SLOT_SHIFT = 32;
    private static final long FLAGS_MASK = 0xFFFF_FFFFL;
    private static final long PAGE_MASK = 4095;

    private static final long FLAG_DIRTY = 1;
    private static final long FLAG_RESET = 2;

    /** In proof runs the signed range ends, and the ring wraps, after few pushes. */
    private static final long FIRST_INDEX = Debug.PROVE ? Long.MAX_VALUE - 5 : 0;

    /** The ring of a vCPU without one: ignores pushes, is never full, has nothing to collect. */
    public static final DirtyRing NONE = new DirtyRing();

    private final int entries;
    private final int softLimit;
    private final long hpa;

    /** Absent in {@link #NONE}. Immutable. */
    private final FrameRun run;

    /** Entries ever pushed. One writer at a time; {@link #used} of other threads reads it opaque. */
    @GuardedBy("confined to the vCPU's thread, or to who holds its log lock")
    private long dirtyIndex = FIRST_INDEX;

    /** Entries ever collected. */
    @GuardedBy("confined to the collecting thread")
    private long collectIndex = FIRST_INDEX;

    /** Entries ever reset. One writer, release; read by the vCPU, acquire. */
    @GuardedBy("slots lock for writing; acquire for reading")
    private long resetIndex = FIRST_INDEX;

    /** Written once by {@link #release}; read at debug level check to catch whoever still pushes. */
    private volatile boolean released;

    /*
     * An entry:
     *
     *   byte 0        4        8                16
     *        | flags  | slot   | offset         |
     *
     * States of the flags, and who moves an entry on:
     *
     *   0      free                    push     writes the offset, then flags and slot by one release store
     *   DIRTY  holds a page            collect  reads flags and slot by acquire, then the offset; hands over; release
     *   RESET  may be reused           reset    acquire; arms the page; writes 0
     *   0      free, but the vCPU takes it only once the reset index (release) has passed it
     *
     * Flags and slot are one 64-bit word, so that a flag is never seen without its slot; the release keeps the offset
     * before it. Without, collect would hand over the page that the entry held one lap ago (KVM had that bug).
     *
     * Indexes count in 64 bits and wrap; only their differences are compared.
     */

    private DirtyRing() {
        this.entries = 0;
        this.softLimit = 0;
        this.hpa = 0;
        this.run = null;
    }

    /**
     * Takes memory for the ring of a vCPU.
     *
     * @param frames allocator of the VM, charged with 16 bytes an entry, in whole frames
     * @param entries a power of two
     * @param reserved entries that are free when the ring counts as full, 0 to {@code entries} - 1
     * @throws IllegalArgumentException if a number is out of range
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the memory cannot be had; nothing is taken then
     */
    public DirtyRing(FrameAllocator frames, int entries, int reserved) {
        if (entries <= 0 || Integer.bitCount(entries) != 1) {
            throw new IllegalArgumentException("ring size is no power of two: entries=" + entries);
        }
        if (reserved < 0 || reserved >= entries) {
            throw new IllegalArgumentException(
                    "reserved entries are out of range: reserved=" + reserved + ", min=0, limit=" + entries);
        }
        this.entries = entries;
        this.softLimit = entries - reserved;
        this.run = frames.allocate(1, (((long) entries << ENTRY_SHIFT) + PAGE_MASK) & ~PAGE_MASK);
        this.hpa = run.hpa();
    }

    private static VarHandle indexHandle(String name) {
        try {
            return MethodHandles.lookup()
                    .findVarHandle(DirtyRing.class, name, long.class)
                    .withInvokeExactBehavior();
        } catch (ReflectiveOperationException impossible) {
            throw new ExceptionInInitializerError(impossible);
        }
    }

    /**
     * Logs a page.
     *
     * @param slotId id of the slot, not negative
     * @param offset page number in the slot, not negative
     * @throws IllegalStateException if every entry is used: the caller went on after {@link #isSoftFull}
     * @locking the vCPU's own thread, or its log lock; the entry that lets the guest store was made writable before
     * @ordering release; pairs with the acquire in {@link #collect}
     * @kvm kvm_dirty_ring_push
     */
    @HotPath
    public void push(int slotId, long offset) {
        long index = dirtyIndex;
        if (index - resetIndexAcquire() >= entries) {
            if (run == null) {
                return;
            }
            throw hardFull(slotId, offset);
        }
        if (Debug.CHECK) {
            checkPush(slotId, offset, index);
        }
        long address = entryAddress(index);
        FrameWords.setPlain(address + OFFSET_BYTES, offset);
        FrameWords.setRelease(address, (long) slotId << SLOT_SHIFT | FLAG_DIRTY);
        DIRTY_INDEX.setOpaque(this, index + 1);
    }

    /**
     * Tells whether the vCPU must leave the guest until the ring was reset.
     *
     * @return whether only the reserved entries are left
     * @locking the vCPU's own thread, or its log lock
     * @kvm kvm_dirty_ring_soft_full
     */
    @HotPath
    public boolean isSoftFull() {
        return dirtyIndex - resetIndexAcquire() >= softLimit && run != null;
    }

    /**
     * Returns how many entries wait to be collected or reset.
     *
     * @return entries; a snapshot of no one moment for threads other than the vCPU's
     */
    public long used() {
        // The reset index first: it can only grow meanwhile, as can the other, so the difference is never negative.
        long reset = resetIndexAcquire();
        return (long) DIRTY_INDEX.getOpaque(this) - reset;
    }

    /**
     * Hands over logged pages and lets their entries be reset. Stops at the first entry that holds none.
     *
     * <p>A page may still be stored to until {@link #reset} has armed it and the TLBs were flushed: whoever copies a
     * page copies it after that, or the stores between are never copied.
     *
     * @param consumer takes the pages; if it throws, its page is handed over again by the next call
     * @param max most entries, above 0
     * @return how many entries were handed over
     * @throws IllegalArgumentException if the bound is not positive
     * @locking none; one thread at a time
     * @ordering acquire of the flag that {@link #push} releases; release of the flag that {@link #reset} acquires
     */
    public int collect(DirtyRingConsumer consumer, int max) {
        checkBound(max);
        int collected = 0;
        while (collected < max && collected < entries) {
            long address = entryAddress(collectIndex);
            long word = FrameWords.readAcquire(address);
            if ((word & FLAGS_MASK) != FLAG_DIRTY) {
                break;
            }
            consumer.dirty(slotId(word), FrameWords.readPlain(address + OFFSET_BYTES));
            FrameWords.setRelease(address, word & ~FLAGS_MASK | FLAG_RESET);
            collectIndex++;
            collected++;
        }
        return collected;
    }

    /**
     * Arms the pages of collected entries again and frees the entries. Stops at the first entry that was not
     * collected.
     *
     * <p>Neighbouring pages of one slot become one call: those in a window of 64 pages that the first of them opens,
     * and that moves down for a page below it as long as none falls out at the top.
     *
     * @param target arms the pages; if it throws, its entries are reset by the next call
     * @param max most entries, above 0: the MMU lock is held for them
     * @return how many entries were reset
     * @throws IllegalArgumentException if the bound is not positive
     * @locking slots lock; the target wants the MMU lock
     * @ordering acquire of the flag that {@link #collect} releases; release of the reset index
     * @kvm kvm_dirty_ring_reset
     */
    public int reset(RingReset target, int max) {
        checkBound(max);
        // The bound is also one lap, or a user who collects as fast as we reset would keep us here, under a lock.
        int limit = Math.min(max, entries);
        int done = 0;
        while (done < limit) {
            int merged = resetWindow(target, limit - done);
            if (merged == 0) {
                break;
            }
            done += merged;
        }
        return done;
    }

    /** Resets the entries from the reset index on that fit one mask, at most {@code limit}; returns how many. */
    private int resetWindow(RingReset target, int limit) {
        long start = resetIndex;
        long word = FrameWords.readAcquire(entryAddress(start));
        if ((word & FLAGS_MASK) != FLAG_RESET) {
            return 0;
        }
        int slotId = slotId(word);
        long firstPage = FrameWords.readPlain(entryAddress(start) + OFFSET_BYTES);
        long mask = 1;
        int merged = 1;
        while (merged < limit) {
            long address = entryAddress(start + merged);
            long next = FrameWords.readAcquire(address);
            if ((next & FLAGS_MASK) != FLAG_RESET || slotId(next) != slotId) {
                break;
            }
            long delta = FrameWords.readPlain(address + OFFSET_BYTES) - firstPage;
            if (delta >= 0 && delta < Long.SIZE) {
                mask |= 1L << delta;
            } else if (delta < 0 && delta >= -Long.numberOfLeadingZeros(mask)) {
                mask = mask << -delta | 1;
                firstPage += delta;
            } else {
                break;
            }
            merged++;
        }
        // Arms before any entry is freed: if it throws, the entries stay, and no page is left writable and forgotten.
        target.rearm(slotId, firstPage, mask);
        free(start, merged);
        return merged;
    }

    private void free(long start, int count) {
        for (int i = 0; i < count; i++) {
            // Flags of an earlier lap would let collect and reset run past the last push. The vCPU reuses the entry
            // only behind the release of the index, so these stores need no order of their own.
            FrameWords.setOpaque(entryAddress(start + i), 0);
        }
        if (Interleave.ON) {
            Interleave.step();
        }
        RESET_INDEX.setRelease(this, start + count);
    }

    /**
     * Returns the ring's size.
     *
     * @return entries; 0 for {@link #NONE}
     */
    public int entries() {
        return entries;
    }

    /**
     * Gives the memory back; a second call does nothing.
     *
     * @locking none; the vCPU is gone and nobody collects or resets
     */
    public void release() {
        if (run != null) {
            released = true;
            run.close();
        }
    }

    private long resetIndexAcquire() {
        if (Interleave.ON) {
            Interleave.step();
        }
        return (long) RESET_INDEX.getAcquire(this);
    }

    private long entryAddress(long index) {
        return hpa + ((index & entries - 1) << ENTRY_SHIFT);
    }

    private static int slotId(long word) {
        return (int) (word >>> SLOT_SHIFT);
    }

    private void checkPush(int slotId, long offset, long index) {
        checkLive();
        long word = FrameWords.readPlain(entryAddress(index));
        if (slotId < 0 || offset < 0 || (word & FLAGS_MASK) != 0) {
            throw new IllegalStateException("page cannot be logged: slotId=" + slotId + ", offset=" + offset
                    + ", flags=" + (word & FLAGS_MASK) + ", index=" + index);
        }
    }

    private void checkLive() {
        if (released) {
            throw new IllegalStateException(
                    "dirty ring is released: hpa=0x" + Long.toHexString(hpa) + ", entries=" + entries);
        }
    }

    private void checkBound(int max) {
        checkLive();
        if (max <= 0) {
            throw new IllegalArgumentException("bound is not positive: max=" + max + ", min=1");
        }
    }

    private IllegalStateException hardFull(int slotId, long offset) {
        return new IllegalStateException("dirty ring is full: used=" + used() + ", entries=" + entries + ", softLimit="
                + softLimit + ", slotId=" + slotId + ", offset=" + offset);
    }
}
