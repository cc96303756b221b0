package dev.tdpmmu.slot;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Set;

/**
 * A range of guest frames {@code [baseGfn, endGfn)} and the contiguous host frames behind it.
 *
 * <p>Immutable: a move or a change of flags makes another object, and the old one is then unknown to the VM. Safe for
 * use by many threads.
 *
 * @kvm kvm_memory_slot
 */
public final class MemSlot {
    /** What a lookup finds where no slot is: contains no frame and does not exist. */
    public static final MemSlot NONE = new MemSlot();

    private final int id;
    private final long baseGfn;
    private final long endGfn;

    /** Host address minus guest address, so that a lookup is one addition. */
    private final long hpaMinusGpa;

    /** Largest level that backing, congruence and flags allow; the slot's ends may allow less. */
    private final int largestLevel;

    private final int access;
    private final boolean hasBytes;
    private final Set<SlotFlag> flags;
    private final Backing backing;
    private final SlotFrames frames;

    /** Whose slot it is; compared by identity. Absent in {@link #NONE}. */
    private final SlotRegistry registry;

    MemSlot(
            SlotRegistry registry,
            int id,
            long gpa,
            long bytes,
            Backing backing,
            SlotFrames frames,
            Set<SlotFlag> flags) {
        this.registry = registry;
        this.id = id;
        this.baseGfn = Gfn.of(gpa);
        this.endGfn = Gfn.of(gpa + bytes);
        this.backing = backing;
        this.frames = frames;
        this.flags = flags;
        this.hpaMinusGpa = frames.hpa() - gpa;
        this.largestLevel = flags.contains(SlotFlag.SMALL_PAGES)
                ? PagingLevel.L4K
                : frames.congruentLevel(gpa, backing.pageSize().level());
        this.access = flags.contains(SlotFlag.READ_ONLY) ? Access.READ | Access.EXECUTE : Access.ALL;
        this.hasBytes = backing.hasBytes();
    }

    private MemSlot() {
        this.registry = null;
        this.id = -1;
        this.baseGfn = 0;
        this.endGfn = 0;
        this.backing = new SyntheticBacking(PageSize.SIZE_4K);
        this.frames = SlotFrames.NONE;
        this.flags = Collections.unmodifiableSet(EnumSet.noneOf(SlotFlag.class));
        this.hpaMinusGpa = 0;
        this.largestLevel = PagingLevel.L4K;
        this.access = 0;
        this.hasBytes = false;
    }

    /**
     * Tells whether this is a slot at all.
     *
     * @return false for {@link #NONE}, else true
     */
    @HotPath
    public boolean exists() {
        return endGfn != 0;
    }

    /**
     * Tells whether a frame belongs to the slot.
     *
     * @param gfn guest frame number
     * @return whether it is in {@code [baseGfn, endGfn)}
     */
    @HotPath
    public boolean contains(long gfn) {
        return gfn >= baseGfn && gfn < endGfn;
    }

    /**
     * Returns the host physical address of a frame's first byte.
     *
     * @param gfn guest frame number in the slot
     * @return bytes, multiple of 4096
     * @kvm __gfn_to_hva_memslot and what follows it
     */
    @HotPath
    public long hpa(long gfn) {
        if (Debug.CHECK && !contains(gfn)) {
            throw outside(gfn);
        }
        return Gfn.toGpa(gfn) + hpaMinusGpa;
    }

    /**
     * Returns the level of the largest leaf that may map a frame: bounded by the backing's pages, by the flag {@link
     * SlotFlag#SMALL_PAGES}, by whether guest and host blocks start together, and by the slot's ends, since a leaf must
     * not map what is outside the slot.
     *
     * @param gfn guest frame number in the slot
     * @return 1, 2 or 3
     * @kvm kvm_mmu_max_mapping_level
     */
    @HotPath
    public int maxLevel(long gfn) {
        if (Debug.CHECK && !contains(gfn)) {
            throw outside(gfn);
        }
        int level = largestLevel;
        while (level > PagingLevel.L4K) {
            long blockGfn = Gfn.alignDown(gfn, level);
            if (blockGfn >= baseGfn && blockGfn + PagingLevel.pages(level) <= endGfn) {
                return level;
            }
            level--;
        }
        return level;
    }

    /**
     * Returns what a guest may do with the memory.
     *
     * @return bits of {@link Access}; without {@link Access#WRITE} if the slot is read-only
     */
    @HotPath
    public int access() {
        return access;
    }

    /**
     * Tells whether guest writes go to the MMIO handler.
     *
     * @return whether the slot has {@link SlotFlag#READ_ONLY}
     */
    @HotPath
    public boolean isReadOnly() {
        return (access & Access.WRITE) == 0;
    }

    /**
     * Tells whether there is memory behind the frame numbers.
     *
     * @return false for a synthetic backing, whose frames nobody may read or write
     */
    @HotPath
    public boolean hasBytes() {
        return hasBytes;
    }

    /**
     * Returns the first frame.
     *
     * @return guest frame number
     */
    @HotPath
    public long baseGfn() {
        return baseGfn;
    }

    /**
     * Returns the frame behind the last one.
     *
     * @return guest frame number, exclusive
     */
    @HotPath
    public long endGfn() {
        return endGfn;
    }

    /**
     * Returns the number of 4 KiB frames.
     *
     * @return 1 to 2^31 - 1; 0 for {@link #NONE}
     */
    @HotPath
    public long pages() {
        return endGfn - baseGfn;
    }

    /**
     * Returns the number that the caller gave to the slot.
     *
     * @return 0 to {@link MemSlots#MAX_SLOTS} - 1; -1 for {@link #NONE}
     */
    @HotPath
    public int id() {
        return id;
    }

    /**
     * Returns where the slot starts.
     *
     * @return guest physical address in bytes, multiple of 4096
     */
    public long gpa() {
        return Gfn.toGpa(baseGfn);
    }

    /**
     * Returns the length.
     *
     * @return bytes, multiple of 4096
     */
    public long bytes() {
        return Gfn.toGpa(pages());
    }

    /**
     * Returns the flags.
     *
     * @return unmodifiable set
     */
    public Set<SlotFlag> flags() {
        return flags;
    }

    /**
     * Returns what stands behind the slot.
     *
     * @return the backing that the slot was added with
     */
    public Backing backing() {
        return backing;
    }

    /** Largest level anywhere in the slot if its ends allow it. */
    int largestLevel() {
        return largestLevel;
    }

    SlotFrames frames() {
        return frames;
    }

    boolean belongsTo(SlotRegistry other) {
        return registry == other;
    }

    private IllegalArgumentException outside(long gfn) {
        return new IllegalArgumentException(
                "gfn is outside the slot: gfn=0x" + Long.toHexString(gfn) + ", slot=" + this);
    }

    @Override
    public String toString() {
        if (!exists()) {
            return "no slot";
        }
        return "slot " + id + " [0x" + Long.toHexString(gpa()) + ", 0x" + Long.toHexString(Gfn.toGpa(endGfn)) + ") "
                + backing + " " + flags;
    }
}
