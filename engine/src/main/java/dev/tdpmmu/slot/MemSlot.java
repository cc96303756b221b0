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
 * A range of guest frames {@code [baseGfn, endGfn)} and the host frames behind it: contiguous, or pages of the host.
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

    /** Host address minus guest address, so that a lookup is one addition. Means nothing with {@link #hostPages}. */
    private final long hpaMinusGpa;

    /** Pages whose frames need not be contiguous; absent in a linear slot. */
    private final HostPages hostPages;

    /** Page of the host minus guest frame number. */
    private final long hostPageMinusGfn;

    /** Largest level that backing, congruence and flags allow; the slot's ends may allow less. */
    private final int largestLevel;

    /** Largest level of new leaves: {@link #largestLevel}, or 4 KiB while stores are logged. */
    private final int faultLevel;

    /** Where stores are logged; {@link DirtyBitmap#NONE} without a log. */
    private final DirtyBitmap dirtyBitmap;

    private final boolean logsDirty;
    private final boolean plain;

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
            Set<SlotFlag> flags,
            DirtyBitmap dirtyBitmap) {
        this.registry = registry;
        this.id = id;
        this.baseGfn = Gfn.of(gpa);
        this.endGfn = Gfn.of(gpa + bytes);
        this.backing = backing;
        this.frames = frames;
        this.flags = flags;
        this.hpaMinusGpa = frames.hpa() - gpa;
        this.hostPages = backing instanceof HostBacking host ? host.pages() : null;
        this.hostPageMinusGfn = backing instanceof HostBacking host ? Gfn.of(host.offsetInBytes()) - baseGfn : 0;
        this.largestLevel = flags.contains(SlotFlag.SMALL_PAGES)
                ? PagingLevel.L4K
                : frames.congruentLevel(gpa, backing.pageSize().level());
        this.logsDirty = flags.contains(SlotFlag.LOG_DIRTY);
        this.faultLevel = logsDirty ? PagingLevel.L4K : largestLevel;
        this.dirtyBitmap = dirtyBitmap;
        this.plain = !logsDirty && isLinear();
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
        this.hostPages = null;
        this.hostPageMinusGfn = 0;
        this.largestLevel = PagingLevel.L4K;
        this.faultLevel = PagingLevel.L4K;
        this.logsDirty = false;
        this.plain = false;
        this.dirtyBitmap = DirtyBitmap.NONE;
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
     * Tells whether the slot's frames are contiguous, so that {@link #hpa} finds them.
     *
     * @return false for pages of the host, whose frames {@link #hostPages} tells, and only for a moment
     */
    @HotPath
    public boolean isLinear() {
        return hostPages == null;
    }

    /**
     * Returns the pages behind the slot.
     *
     * @return pages, which the slot holds as long as it lives
     * @throws IllegalStateException at debug level {@code check} if the slot is linear
     */
    @HotPath
    public HostPages hostPages() {
        if (Debug.CHECK && isLinear()) {
            throw notSo("slot is linear");
        }
        return hostPages;
    }

    /**
     * Returns the number that a frame's page has in {@link #hostPages}.
     *
     * @param gfn guest frame number in the slot, which is not linear
     * @return page, 0 to {@link HostPages#pages} - 1
     * @throws IllegalStateException at debug level {@code check} if the slot is linear
     */
    @HotPath
    public long hostPage(long gfn) {
        if (Debug.CHECK && isLinear()) {
            throw notSo("slot is linear");
        }
        if (Debug.CHECK && !contains(gfn)) {
            throw outside(gfn);
        }
        return gfn + hostPageMinusGfn;
    }

    /**
     * Returns the host physical address of a frame's first byte.
     *
     * @param gfn guest frame number in the slot, which is linear
     * @return bytes, multiple of 4096
     * @throws IllegalStateException at debug level {@code check} if the slot is not linear
     * @kvm __gfn_to_hva_memslot and what follows it
     */
    @HotPath
    public long hpa(long gfn) {
        if (Debug.CHECK && !contains(gfn)) {
            throw outside(gfn);
        }
        if (Debug.CHECK && !isLinear()) {
            throw notSo("slot is not linear");
        }
        return Gfn.toGpa(gfn) + hpaMinusGpa;
    }

    /**
     * Returns the level of the largest leaf that may map a frame: bounded by the backing's pages, by the flags {@link
     * SlotFlag#SMALL_PAGES} and {@link SlotFlag#LOG_DIRTY}, by whether guest and host blocks start together, and by the
     * slot's ends, since a leaf must not map what is outside the slot.
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
        return levelWithin(gfn, faultLevel);
    }

    /**
     * Returns the level of the largest leaf that may map a frame when stores are not logged any more.
     *
     * @param gfn guest frame number in the slot
     * @return 1, 2 or 3
     */
    public int recoveryLevel(long gfn) {
        return levelWithin(gfn, largestLevel);
    }

    @HotPath
    private int levelWithin(long gfn, int largest) {
        int level = largest;
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
     * Tells whether stores to the slot's pages are logged.
     *
     * @return whether the slot has {@link SlotFlag#LOG_DIRTY}
     */
    @HotPath
    public boolean logsDirty() {
        return logsDirty;
    }

    /**
     * Tells whether nothing but the slot's addresses and flags decides how a page of it is mapped.
     *
     * @return whether frames are contiguous and stores are not logged
     */
    @HotPath
    public boolean isPlain() {
        return plain;
    }

    /**
     * Returns where stores are logged that go to no vCPU's ring.
     *
     * @return bitmap by page of the slot, {@link DirtyBitmap#NONE} without a log; alive inside the epoch in which the
     *     slot was found
     */
    @HotPath
    public DirtyBitmap dirtyBitmap() {
        return dirtyBitmap;
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

    /**
     * Forgets the content of frames, which read as zero then, and returns their memory where the operating system takes
     * it. For slots with an anonymous backing alone.
     *
     * @param gfn first frame
     * @param count frames, all in the slot
     */
    public void discard(long gfn, long count) {
        frames.discard(hpa(gfn), Gfn.toGpa(count));
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

    private IllegalStateException notSo(String what) {
        return new IllegalStateException(what + ": slot=" + this);
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
