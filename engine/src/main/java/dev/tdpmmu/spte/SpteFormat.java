package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;

/**
 * One entry format as data: makes entries, takes them apart, and says which are legal.
 *
 * <p>EPT and NPT are two instances of this one final class, so that formats of several VMs in a process cost nothing.
 * Immutable. Every maker keeps the rule of the three write bits, and {@link #isLegal} checks it:
 *
 * <pre>
 *  host-writable | MMU-writable | W |
 *       1        |      1       | 1 | writable
 *       1        |      1       | 0 | write-protected for dirty logging or access tracking: a fast fix may restore W
 *       1        |      0       | 0 | the MMU forbids stores
 *       0        |      0       | 0 | the host forbids stores
 * </pre>
 *
 * <p>MMU-writable without host-writable, or W without MMU-writable, never exists. A flush is needed when
 * MMU-writable goes away; where only W does, flushes may be batched.
 *
 * @kvm arch/x86/kvm/mmu/spte.h
 */
public final class SpteFormat {
    /** Selects the part of the memslot generation that an MMIO entry carries. */
    public static final long MMIO_GENERATION_MASK = (1L << MmioSpte.GENERATION_BITS) - 1;

    /** An MMIO value outside every MMIO mask, so that no entry is one. */
    static final long NO_MMIO = 1L << 62;

    private static final long TYPE = 3L << 52;
    private static final long TYPE_NO_ACCESSED_DIRTY = 1L << 52;

    /** Distance from R and X to their copies in a tracked entry. */
    private static final int SAVED_SHIFT = 54;

    private final String name;
    private final long hardwarePresent;
    private final long read;
    private final long write;
    private final long execute;
    private final long noExecute;
    private final int readingAccess;
    private final long accessed;
    private final long dirty;
    private final long hostWritable;
    private final long mmuWritable;
    private final long mmioMask;
    private final long mmioValue;
    private final long physicalAddressLimit;

    /** All bits of every new leaf: MMU present, A/D type, write-back. */
    private final long leafValue;

    /** All bits of every table entry besides the address. */
    private final long tableValue;

    /** Permissions that a tracked leaf lacks; 0 if accesses are not tracked by permissions. */
    private final long tracked;

    /** Copies of R and X; 0 if accesses are not tracked by permissions. */
    private final long saved;

    /** Every bit that a leaf may have. */
    private final long leafBits;

    // Design note. Predicates test bits and nothing else: what they return for an entry of another state (an MMIO
    // entry has EPT's W bit) is of no use, so callers ask isMmuPresent, isLeaf or isMmio first. allows() and
    // isAccessTracked() ask themselves, because a fault handler calls them with whatever it found.
    //
    // With A/D bits an access is tracked by A, without them by taking R, W and X away. Bits 54 and 56 keep R and X. W
    // comes back if MMU-writable says so, and EPT's XU, which the shift to those bits loses, comes back with X.

    SpteFormat(SpteMasks masks) {
        name = masks.name;
        hardwarePresent = masks.hardwarePresent;
        read = masks.read;
        write = masks.write;
        execute = masks.execute;
        noExecute = masks.noExecute;
        readingAccess = masks.readingAccess;
        accessed = masks.accessed;
        dirty = masks.dirty;
        hostWritable = masks.hostWritable;
        mmuWritable = masks.mmuWritable;
        mmioMask = masks.mmioMask;
        mmioValue = masks.mmioValue;
        physicalAddressLimit = 1L << masks.physicalAddressBits;

        long type = accessed == 0 ? TYPE_NO_ACCESSED_DIRTY : 0;
        leafValue = Spte.MMU_PRESENT | type | masks.writeBack;
        // A is set from the start, as the kernel does: hardware would set it in every table on its first walk,
        // make the MMU's exchanges on that entry fail for nothing, and nobody ever asks a table for it.
        tableValue = Spte.MMU_PRESENT | type | read | write | execute | accessed;
        tracked = accessed == 0 ? read | write | execute : 0;
        saved = accessed == 0 ? (read | execute) << SAVED_SHIFT : 0;
        leafBits = SpteFormatCheck.check(masks, Spte.ADDRESS, TYPE, saved);
    }

    /**
     * Returns the format of a VM's entries.
     *
     * @param config of the VM
     * @return the format
     */
    public static SpteFormat of(VmConfig config) {
        return new SpteFormat(config.pagingMode().isEpt() ? EptLayout.masks(config) : NptLayout.masks(config));
    }

    /** {@return the name for reports, for instance {@code EPT4 a/d}} */
    public String name() {
        return name;
    }

    /**
     * Tells whether hardware uses the entry: it goes on with it, or faults because of its bits, as for an MMIO entry.
     *
     * @param spte entry
     * @return whether it is present to hardware
     */
    @HotPath
    public boolean isHardwarePresent(long spte) {
        return (spte & hardwarePresent) != 0;
    }

    /**
     * Tells whether the entry maps a page of its level.
     *
     * @param spte entry
     * @param level level of the table that holds it, 1 to 5
     * @return whether it is MMU present and a leaf
     * @kvm is_last_spte
     */
    @HotPath
    public boolean isLeaf(long spte, int level) {
        return Spte.isMmuPresent(spte) && (level == PagingLevel.L4K || (spte & Spte.PAGE_SIZE) != 0);
    }

    /**
     * Tells whether the entry points to a table of the level below.
     *
     * @param spte entry
     * @param level level of the table that holds it, 1 to 5
     * @return whether it is MMU present and no leaf
     */
    @HotPath
    public boolean isTable(long spte, int level) {
        return Spte.isTable(spte) && level != PagingLevel.L4K;
    }

    /**
     * Tells whether the entry says that no slot is behind its gfn.
     *
     * @param spte entry
     * @return whether {@link #makeMmio} made it
     * @kvm is_mmio_spte
     */
    @HotPath
    public boolean isMmio(long spte) {
        return (spte & mmioMask) == mmioValue;
    }

    /**
     * Returns where a leaf or table entry points to.
     *
     * @param spte MMU-present entry
     * @return host physical address of the page (for a huge leaf: of its first byte) or of the table page
     */
    @HotPath
    public long address(long spte) {
        return Spte.address(spte);
    }

    /**
     * Tells whether hardware stores through a leaf.
     *
     * @param spte MMU-present entry
     * @return whether W is set
     */
    @HotPath
    public boolean isWritable(long spte) {
        return (spte & write) != 0;
    }

    /**
     * Tells whether a fault may set W without asking anybody.
     *
     * @param spte leaf
     * @return whether MMU-writable is set
     */
    @HotPath
    public boolean isMmuWritable(long spte) {
        return (spte & mmuWritable) != 0;
    }

    /**
     * Tells whether the host maps the page writable.
     *
     * @param spte leaf
     * @return whether host-writable is set
     */
    @HotPath
    public boolean isHostWritable(long spte) {
        return (spte & hostWritable) != 0;
    }

    /**
     * Tells whether hardware fetches instructions through an entry.
     *
     * @param spte MMU-present entry
     * @return whether fetches are allowed
     */
    @HotPath
    public boolean isExecutable(long spte) {
        return (spte & (execute | noExecute)) == execute;
    }

    /**
     * Tells whether hardware loads through an entry.
     *
     * @param spte MMU-present entry
     * @return whether loads are allowed
     */
    @HotPath
    public boolean isReadable(long spte) {
        return (spte & read) == read;
    }

    /**
     * Tells whether a leaf was used since its age was last cleared; without A/D bits: whether its accesses are not
     * tracked.
     *
     * @param spte leaf
     * @return whether the page is young
     * @kvm is_accessed_spte
     */
    @HotPath
    public boolean isAccessed(long spte) {
        return accessed != 0 ? (spte & accessed) != 0 : (spte & tracked) != 0;
    }

    /**
     * Tells whether a leaf may have been stored through since it was last cleaned; without A/D bits: whether W is
     * set.
     *
     * @param spte leaf
     * @return whether the page is to be taken for dirty
     * @kvm is_dirty_spte
     */
    @HotPath
    public boolean isDirty(long spte) {
        return (spte & (dirty != 0 ? dirty : write)) != 0;
    }

    /** {@return whether hardware maintains accessed and dirty bits} */
    @HotPath
    public boolean accessedDirty() {
        return accessed != 0;
    }

    /** {@return the bit that hardware sets when it uses an entry, or 0 without A/D bits} */
    @HotPath
    public long accessedBit() {
        return accessed;
    }

    /** {@return the bit that hardware sets when it stores through a leaf, or 0 without A/D bits} */
    @HotPath
    public long dirtyBit() {
        return dirty;
    }

    /**
     * Tells whether a leaf lost its permissions only to see the next access.
     *
     * @param spte any entry
     * @return whether {@link #restoreAccess} would give some back; always false with A/D bits
     * @kvm is_access_track_spte
     */
    @HotPath
    public boolean isAccessTracked(long spte) {
        return tracked != 0 && Spte.isMmuPresent(spte) && (spte & tracked) == 0;
    }

    /**
     * Tells whether others may change the entry while the caller holds the MMU lock exclusively, so that only an
     * atomic read-modify-write replaces it without losing what they did.
     *
     * <p>The A bit alone does not make an entry volatile: losing it makes a page old too early, which is harmless.
     *
     * @param spte entry
     * @param level level of the table that holds it, 1 to 5
     * @return whether a fast fix may change it or hardware may set D
     * @kvm spte_needs_atomic_update
     */
    @HotPath
    public boolean isVolatile(long spte, int level) {
        if (!isLeaf(spte, level)) {
            return false;
        }
        if (!isWritable(spte) && isMmuWritable(spte)) {
            return true;
        }
        if ((spte & TYPE) == TYPE_NO_ACCESSED_DIRTY) {
            return true;
        }
        return isWritable(spte) && (spte & dirty) == 0;
    }

    /**
     * Tells whether hardware lets an access through a leaf, so that a fault for it was spurious.
     *
     * @param spte any entry
     * @param access bits of {@link Access}
     * @return whether all of them are allowed; false for whatever is not MMU present or is access-tracked
     * @kvm is_access_allowed
     */
    @HotPath
    public boolean allows(long spte, int access) {
        if (!Spte.isMmuPresent(spte) || !isHardwarePresent(spte)) {
            return false;
        }
        if ((access & Access.READ) != 0 && !isReadable(spte)) {
            return false;
        }
        if ((access & Access.WRITE) != 0 && !isWritable(spte)) {
            return false;
        }
        return (access & Access.EXECUTE) == 0 || isExecutable(spte);
    }

    /**
     * Makes a leaf with as many permissions as its slot, the host and the MMU grant.
     *
     * <p>Write access brings read access, and so does execute access where the processor has no execute-only
     * entries. A and D are clear: unlike the kernel, which sets them for the access that it knows will follow, we
     * leave it to the emulated hardware, so that a set bit always means that an access went through.
     *
     * @param hpa host physical address of the page, aligned to {@code level}
     * @param level 1 to 3
     * @param access bits of {@link Access} that the slot allows, at least one
     * @param hostWritable whether the host maps the page writable
     * @param writeProtected whether W stays clear although slot and host allow it, because the page's first store
     *     is to be seen
     * @return the entry
     * @kvm make_spte
     */
    @HotPath
    public long makeLeaf(long hpa, int level, int access, boolean hostWritable, boolean writeProtected) {
        if (Debug.CHECK) {
            SpteFormatCheck.checkLeaf(hpa, level, access, physicalAddressLimit);
        }
        long spte = leafValue | hpa;
        if (level > PagingLevel.L4K) {
            spte |= Spte.PAGE_SIZE;
        }
        if ((access & readingAccess) != 0) {
            spte |= read;
        }
        spte |= (access & Access.EXECUTE) != 0 ? execute : noExecute;
        if (!hostWritable) {
            return spte;
        }
        spte |= this.hostWritable;
        if ((access & Access.WRITE) == 0) {
            return spte;
        }
        spte |= mmuWritable;
        return writeProtected ? spte : spte | write;
    }

    /**
     * Makes an entry that points to a table and forbids nothing.
     *
     * @param tableHpa host physical address of the table page
     * @return the entry
     * @kvm make_nonleaf_spte
     */
    @HotPath
    public long makeTable(long tableHpa) {
        if (Debug.CHECK) {
            SpteFormatCheck.checkAddress(tableHpa, PagingLevel.L4K, physicalAddressLimit);
        }
        return tableValue | tableHpa;
    }

    /**
     * Makes an entry whose use tells that no slot is behind a gfn.
     *
     * @param gfn guest frame number, below the width of physical addresses
     * @param access bits of {@link Access}; read access is implied
     * @param generation of the memslots; the bits of {@link #MMIO_GENERATION_MASK} are kept
     * @return the entry
     * @throws IllegalStateException if the format has no MMIO entries
     * @throws IllegalArgumentException if the gfn cannot exist
     * @kvm make_mmio_spte
     */
    @HotPath
    public long makeMmio(long gfn, int access, long generation) {
        if (mmioValue == NO_MMIO || gfn < 0 || gfn >= physicalAddressLimit >>> Gfn.PAGE_SHIFT) {
            throw SpteFormatCheck.noMmio(name, mmioCaching(), gfn, physicalAddressLimit >>> Gfn.PAGE_SHIFT);
        }
        return mmioValue | MmioSpte.pack(gfn, access, generation);
    }

    /**
     * Returns the frame of an MMIO entry.
     *
     * @param spte MMIO entry
     * @return guest frame number
     */
    @HotPath
    public long mmioGfn(long spte) {
        return Gfn.of(spte & Spte.ADDRESS & ~mmioValue);
    }

    /** {@return whether MMIO entries can be made: not for NPT with 52 address bits, which has no reserved bit} */
    @HotPath
    public boolean mmioCaching() {
        return mmioValue != NO_MMIO;
    }

    /**
     * Returns the first child of a huge leaf that is split. Children keep permissions, software bits, A and D.
     *
     * @param hugeSpte huge leaf
     * @param level its level, 2 or 3
     * @return entry 0 of the table that replaces it; the next ones follow at the size of a page of the level below
     * @kvm make_small_spte
     */
    @HotPath
    public long splitFirst(long hugeSpte, int level) {
        if (Debug.CHECK) {
            SpteFormatCheck.checkHuge(this, hugeSpte, level);
        }
        return level == PagingLevel.L2M ? hugeSpte & ~Spte.PAGE_SIZE : hugeSpte;
    }

    /**
     * Allows fetches.
     *
     * @param spte leaf
     * @return the entry with X; one whose accesses are tracked gets it when they are restored
     * @kvm make_spte_executable
     */
    @HotPath
    public long makeExecutable(long spte) {
        if (isAccessTracked(spte)) {
            return spte | execute << SAVED_SHIFT;
        }
        return spte & ~noExecute | execute;
    }

    /**
     * Forbids fetches.
     *
     * @param spte leaf
     * @return the entry without X
     * @kvm make_spte_nonexec
     */
    @HotPath
    public long clearExecutable(long spte) {
        if (isAccessTracked(spte)) {
            return spte & ~(execute << SAVED_SHIFT);
        }
        // With nested paging there is one bit for reads and fetches: NX alone tells them apart.
        return spte & ~(execute & ~read) | noExecute;
    }

    /**
     * Forbids stores until a fast fix allows them again.
     *
     * @param spte leaf
     * @return the entry without W; MMU-writable stays
     */
    @HotPath
    public long clearWritable(long spte) {
        return spte & ~write;
    }

    /**
     * Forbids stores until a slow fault makes the leaf anew.
     *
     * @param spte leaf
     * @return the entry without W and MMU-writable; a flush is needed before the lock is dropped
     */
    @HotPath
    public long clearWritableAndMmuWritable(long spte) {
        return spte & ~(write | mmuWritable);
    }

    /**
     * Allows stores.
     *
     * @param spte leaf that is MMU-writable and not access-tracked
     * @return the entry with W
     */
    @HotPath
    public long makeWritable(long spte) {
        if (Debug.CHECK) {
            SpteFormatCheck.checkMayBeWritable(this, spte);
        }
        return spte | write;
    }

    /**
     * Makes a leaf old: without A, or without A/D bits so that its next access faults. W is not saved but derived
     * from MMU-writable later.
     *
     * @param spte leaf
     * @return the old entry; the same if it was old
     * @kvm mark_spte_for_access_track
     */
    @HotPath
    public long trackAccess(long spte) {
        if (accessed != 0) {
            return spte & ~accessed;
        }
        if (isAccessTracked(spte)) {
            return spte;
        }
        return spte & ~tracked | (spte & (read | execute)) << SAVED_SHIFT;
    }

    /**
     * Gives a tracked leaf its R and X back. W stays clear: if the access is a store, {@link #makeWritable} follows.
     *
     * @param spte leaf
     * @return the entry that no longer tracks; the same if it did not
     * @kvm restore_acc_track_spte
     */
    @HotPath
    public long restoreAccess(long spte) {
        if (!isAccessTracked(spte)) {
            return spte;
        }
        long executable = (spte & execute << SAVED_SHIFT) != 0 ? execute : 0;
        return spte & ~saved | (spte & saved) >>> SAVED_SHIFT | executable;
    }

    /**
     * Returns what a leaf tells of its use: A and D; without A/D bits the permissions that access tracking would take.
     *
     * @param leaf leaf entry
     * @return bits for {@link #addUse}, which may be or-ed with those of other leaves
     */
    @HotPath
    public long use(long leaf) {
        return leaf & (accessed != 0 ? accessed | dirty : tracked);
    }

    /**
     * Returns a leaf that counts as used as others did.
     *
     * @param leaf leaf entry
     * @param use {@link #use} of other leaves
     * @return leaf with their A and D; without A/D bits with its own permissions again if any of them was young
     */
    public long addUse(long leaf, long use) {
        if (accessed != 0) {
            return leaf | use;
        }
        return use == 0 ? leaf : restoreAccess(leaf);
    }

    /**
     * Tells whether some maker, or hardware after it, can have left this value.
     *
     * @param spte entry
     * @param level level of the table that holds it, 1 to 5
     * @return whether it is a legal entry at that level
     */
    public boolean isLegal(long spte, int level) {
        if (spte == Spte.NON_PRESENT || Spte.isFrozen(spte)) {
            return true;
        }
        if (isMmio(spte)) {
            // The generation and access bits have no illegal value, and a gfn above the width has an address bit too
            // many.
            return level == PagingLevel.L4K && mmioGfn(spte) < physicalAddressLimit >>> Gfn.PAGE_SHIFT;
        }
        if (!Spte.isMmuPresent(spte) || address(spte) >= physicalAddressLimit) {
            return false;
        }
        return isLeaf(spte, level)
                ? SpteFormatCheck.isLegalLeaf(this, spte, level)
                : (spte | accessed) == makeTable(address(spte));
    }

    /** Bits that have no meaning in a leaf. */
    long unknownBits(long spte) {
        return spte & ~leafBits;
    }
}
