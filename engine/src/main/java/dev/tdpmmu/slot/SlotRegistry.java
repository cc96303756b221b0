package dev.tdpmmu.slot;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.RequiresLock;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.slot.SlotException.Reason;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The slots of one VM: publishes snapshots, checks changes, owns the frames.
 *
 * <p>Each change checks everything first, then takes frames, then publishes a new snapshot with the next generation in
 * one store. A change that throws has changed nothing and holds nothing.
 *
 * @kvm kvm_set_memory_region
 */
public final class SlotRegistry {
    /** Most pages of a slot: bitmap indexes are ints. */
    private static final long MAX_PAGES = Integer.MAX_VALUE;

    /** MMIO entries hold this many low bits of the generation; tests under proof pass their wrap. */
    private static final long MMIO_GENERATION_MASK = 0x3ffff;

    private static final long STEPS_BEFORE_WRAP = 3;

    private final VmConfig config;
    private final FrameAllocator frames;
    private final int vmId;

    /** Removals whose frames still wait; added under the slots lock, taken out by completion, emptied by {@link #close}. */
    private final Set<SlotChange> waiting = ConcurrentHashMap.newKeySet();

    /**
     * Written under the slots lock, read by everybody. Volatile: a reader that sees the snapshot sees its arrays, and a
     * writer that has published and then waits for a grace period knows that later readers see this one or a newer one.
     */
    @GuardedBy("slots lock for writing")
    private volatile MemSlots current;

    @GuardedBy("slots lock")
    private boolean closed;

    /**
     * Makes a registry without slots.
     *
     * @param config of the VM; gives the limits of guest and host addresses
     * @param frames allocator of the VM, for anonymous backings
     * @param vmId the VM's number, for messages
     */
    public SlotRegistry(VmConfig config, FrameAllocator frames, int vmId) {
        this(config, frames, vmId, Debug.PROVE ? MMIO_GENERATION_MASK - STEPS_BEFORE_WRAP : 0);
    }

    SlotRegistry(VmConfig config, FrameAllocator frames, int vmId, long firstGeneration) {
        this.config = Objects.requireNonNull(config, "config");
        this.frames = Objects.requireNonNull(frames, "frames");
        this.vmId = vmId;
        this.current = MemSlots.empty(firstGeneration);
    }

    /**
     * Returns the slots as they are now.
     *
     * @return newest snapshot
     * @locking none; what the snapshot leads to is safe inside the epoch in which it was read
     * @ordering volatile read; pairs with the store in which a change publishes its snapshot
     */
    @HotPath
    public MemSlots current() {
        Interleave.step();
        return current;
    }

    /**
     * Adds a slot.
     *
     * @param id number that no live slot has, 0 to {@link MemSlots#MAX_SLOTS} - 1
     * @param gpa first guest physical address, multiple of 4096
     * @param bytes length, multiple of 4096, at least 4096, at most 2^31 - 1 pages
     * @param backing what stands behind it
     * @param flags what else to say of it, may be empty
     * @return the change, with the live slot as {@link SlotChange#newSlot}
     * @throws SlotException if a rule forbids the slot; {@link SlotException#reason} says which
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if the frames do not fit under the VM's cap
     * @throws IllegalStateException if the registry is closed
     */
    @RequiresLock("slots")
    public SlotChange add(int id, long gpa, long bytes, Backing backing, Set<SlotFlag> flags) {
        Objects.requireNonNull(backing, "backing");
        Set<SlotFlag> ownFlags = copyOf(flags);
        checkOpen();
        MemSlots before = current;
        checkId(before, id);
        checkLength(gpa, bytes);
        checkPlace(before, gpa, bytes, MemSlot.NONE);

        SlotFrames held = SlotFrames.take(backing, gpa, bytes, config, frames);
        MemSlot slot = MemSlot.NONE;
        DirtyBitmap bitmap = DirtyBitmap.NONE;
        try {
            bitmap = newBitmap(ownFlags, bytes);
            MemSlot added = new MemSlot(this, id, gpa, bytes, backing, held, ownFlags, bitmap);
            SlotChange change = new SlotChange(this, SlotChange.Kind.ADD, MemSlot.NONE, added);
            publish(before.with(added, before.generation() + 1));
            slot = added;
            return change;
        } finally {
            // The heap may be exhausted between taking the frames and publishing; they would then have no owner.
            if (!slot.exists()) {
                bitmap.release();
                held.release();
            }
        }
    }

    private DirtyBitmap newBitmap(Set<SlotFlag> flags, long bytes) {
        if (!flags.contains(SlotFlag.LOG_DIRTY)) {
            return DirtyBitmap.NONE;
        }
        DirtyBitmap bitmap = new DirtyBitmap(frames, bytes >>> Gfn.PAGE_SHIFT);
        if (config.dirtyLog().tracking() == DirtyTracking.INITIALLY_SET) {
            bitmap.fill();
        }
        return bitmap;
    }

    /**
     * Removes a slot. Its frames are released by {@link SlotChange#complete}.
     *
     * @param slot live slot of this VM
     * @return the change, which needs a zap
     * @throws SlotException if the slot is not live or not of this VM
     * @throws IllegalStateException if the registry is closed
     */
    @RequiresLock("slots")
    public SlotChange remove(MemSlot slot) {
        MemSlots before = checkLive(slot);

        SlotChange change = new SlotChange(this, SlotChange.Kind.REMOVE, slot, MemSlot.NONE);
        MemSlots after = before.without(slot, before.generation() + 1);
        waiting.add(change);
        publish(after);
        return change;
    }

    /**
     * Moves a slot to other guest addresses, together with its memory.
     *
     * @param slot live slot of this VM
     * @param newGpa first guest physical address, multiple of 4096; the slot may overlap its own old place
     * @return the change, which needs a zap of the old place
     * @throws SlotException if the slot is not live or not of this VM, or if a rule forbids the new place
     * @throws IllegalStateException if the registry is closed
     */
    @RequiresLock("slots")
    public SlotChange move(MemSlot slot, long newGpa) {
        MemSlots before = checkLive(slot);
        checkLength(newGpa, slot.bytes());
        checkPlace(before, newGpa, slot.bytes(), slot);

        SlotFrames held = slot.frames().at(slot.backing(), newGpa, slot.bytes(), config);
        MemSlot moved = new MemSlot(
                this, slot.id(), newGpa, slot.bytes(), slot.backing(), held, slot.flags(), slot.dirtyBitmap());
        return replace(before, SlotChange.Kind.MOVE, slot, moved);
    }

    /**
     * Gives a slot other flags.
     *
     * @param slot live slot of this VM
     * @param flags all flags that it shall have; {@link SlotFlag#READ_ONLY} must be there if, and only if, it is there
     *     now
     * @return the change, which needs a zap if large leaves became forbidden
     * @throws SlotException if the slot is not live or not of this VM, or if a flag cannot change
     * @throws dev.tdpmmu.memory.MemoryCapExceededException if a dirty bitmap does not fit under the VM's cap
     * @throws IllegalStateException if the registry is closed
     */
    @RequiresLock("slots")
    public SlotChange changeFlags(MemSlot slot, Set<SlotFlag> flags) {
        Set<SlotFlag> ownFlags = copyOf(flags);
        MemSlots before = checkLive(slot);
        if (ownFlags.contains(SlotFlag.READ_ONLY) != slot.isReadOnly()) {
            throw new SlotException(
                    Reason.FLAG_FIXED,
                    "flag is fixed for the life of a slot: flag=READ_ONLY, wanted=" + ownFlags + ", slot=" + slot);
        }

        boolean keepsLog = slot.logsDirty() && ownFlags.contains(SlotFlag.LOG_DIRTY);
        DirtyBitmap bitmap = keepsLog ? slot.dirtyBitmap() : newBitmap(ownFlags, slot.bytes());
        MemSlot changed =
                new MemSlot(this, slot.id(), slot.gpa(), slot.bytes(), slot.backing(), slot.frames(), ownFlags, bitmap);
        return replace(before, SlotChange.Kind.CHANGE_FLAGS, slot, changed);
    }

    private SlotChange replace(MemSlots before, SlotChange.Kind kind, MemSlot oldSlot, MemSlot newSlot) {
        SlotChange change = new SlotChange(this, kind, oldSlot, newSlot);
        long generation = before.generation() + 1;
        publish(before.without(oldSlot, generation).with(newSlot, generation));
        return change;
    }

    /**
     * Removes all slots and releases all frames, also those of removals that were never completed. Nobody may use the
     * VM's memory any more. A second call does nothing.
     */
    @RequiresLock("slots")
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        MemSlots before = current;
        publish(MemSlots.empty(before.generation() + 1));
        for (MemSlot slot : before.asList()) {
            slot.dirtyBitmap().release();
            slot.frames().release();
        }
        for (SlotChange change : waiting) {
            release(change);
        }
    }

    /** Lets go of the frames of a removed slot, once; a completion may meet {@link #close} here. */
    void release(SlotChange removal) {
        waiting.remove(removal);
        removal.oldSlot().dirtyBitmap().release();
        removal.oldSlot().frames().release();
    }

    private void publish(MemSlots next) {
        Interleave.step();
        current = next;
    }

    private static Set<SlotFlag> copyOf(Set<SlotFlag> flags) {
        Objects.requireNonNull(flags, "flags");
        EnumSet<SlotFlag> copy = EnumSet.noneOf(SlotFlag.class);
        for (SlotFlag flag : flags) {
            copy.add(Objects.requireNonNull(flag, "flag"));
        }
        return Collections.unmodifiableSet(copy);
    }

    private void checkOpen() {
        if (closed) {
            throw new IllegalStateException("slots are closed: vm=" + vmId);
        }
    }

    private MemSlots checkLive(MemSlot slot) {
        Objects.requireNonNull(slot, "slot");
        checkOpen();
        MemSlots now = current;
        if (slot.exists() && !slot.belongsTo(this)) {
            throw new SlotException(Reason.FOREIGN_SLOT, "slot belongs to another VM: vm=" + vmId + ", slot=" + slot);
        }
        if (!slot.exists() || now.byId(slot.id()) != slot) {
            throw new SlotException(
                    Reason.UNKNOWN_SLOT,
                    "slot is removed or replaced: vm=" + vmId + ", slot=" + slot + ", live=" + now.byId(slot.id()));
        }
        return now;
    }

    private static void checkId(MemSlots before, int id) {
        if (id < 0 || id >= MemSlots.MAX_SLOTS) {
            throw new SlotException(
                    Reason.BAD_ID, "slot id is out of range: id=" + id + ", min=0, max=" + (MemSlots.MAX_SLOTS - 1));
        }
        if (before.size() == MemSlots.MAX_SLOTS) {
            throw new SlotException(
                    Reason.TOO_MANY_SLOTS, "no more slots: slots=" + before.size() + ", max=" + MemSlots.MAX_SLOTS);
        }
        if (before.byId(id).exists()) {
            throw new SlotException(Reason.ID_IN_USE, "slot id is in use: id=" + id + ", slot=" + before.byId(id));
        }
    }

    /** Addresses and lengths are unsigned here, as a guest means them. */
    private static void checkLength(long gpa, long bytes) {
        if (bytes == 0) {
            throw new SlotException(Reason.EMPTY, "slot is empty: bytes=0, min=" + Gfn.PAGE_SIZE);
        }
        if (((gpa | bytes) & Gfn.PAGE_OFFSET_MASK) != 0) {
            throw new SlotException(
                    Reason.MISALIGNED, "slot is misaligned: " + text(gpa, bytes) + ", granule=" + Gfn.PAGE_SIZE);
        }
        if (Long.compareUnsigned(gpa + bytes, gpa) < 0) {
            throw new SlotException(Reason.WRAPS, "slot wraps around the address space: " + text(gpa, bytes));
        }
        long pages = bytes >>> Gfn.PAGE_SHIFT;
        if (pages > MAX_PAGES) {
            throw new SlotException(
                    Reason.TOO_MANY_PAGES,
                    "slot has too many pages: " + text(gpa, bytes) + ", pages=" + pages + ", max=" + MAX_PAGES);
        }
    }

    private void checkPlace(MemSlots before, long gpa, long bytes, MemSlot except) {
        long limit = config.guestAddressLimit();
        if (Long.compareUnsigned(gpa + bytes, limit) > 0) {
            throw new SlotException(
                    Reason.BEYOND_ADDRESS_LIMIT,
                    "slot ends beyond the last guest address: " + text(gpa, bytes) + ", limit=0x"
                            + Long.toHexString(limit));
        }
        MemSlot other = before.overlapping(Gfn.of(gpa), Gfn.of(gpa + bytes), except);
        if (other.exists()) {
            throw new SlotException(Reason.OVERLAP, "slot overlaps another: " + text(gpa, bytes) + ", other=" + other);
        }
    }

    private static String text(long gpa, long bytes) {
        return "gpa=0x" + Long.toHexString(gpa) + ", bytes=0x" + Long.toHexString(bytes);
    }
}
