package dev.tdpmmu.mmu;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * What the MMU keeps for one vCPU: its reader slot, its stock of table pages and its root. Belongs to one
 * thread at a time.
 *
 * @kvm struct kvm_mmu
 */
public final class VcpuMmu {
    final ReaderSlot slot;
    final TableCache tables;

    /** Where this vCPU's stores are logged; pushes nothing if the VM logs in bitmaps. */
    final DirtyRing ring;

    /** Slot of the last fault, tried first by the next. */
    MemSlot lastSlot = MemSlot.NONE;

    /** Table pages that the fault in work found missing. */
    int tablesWanted;

    /** Faults that had to be tried again, ever; may wrap. */
    int retries;

    /** Null until the first access and after a reload request. */
    private TdpRoot root;

    VcpuMmu(ReaderSlot slot, TableCache tables, DirtyRing ring) {
        this.slot = slot;
        this.tables = tables;
        this.ring = ring;
    }

    /**
     * Returns the reader slot.
     *
     * @return slot of this vCPU
     */
    @HotPath
    public ReaderSlot slot() {
        return slot;
    }

    /**
     * Returns this vCPU's dirty ring.
     *
     * @return ring; {@link DirtyRing#NONE} if the VM logs in bitmaps
     */
    @HotPath
    public DirtyRing ring() {
        return ring;
    }

    /**
     * Tells whether {@link TdpMmu#loadRoot} is not needed.
     *
     * @return whether a root is loaded
     */
    @HotPath
    public boolean hasRoot() {
        return root != null;
    }

    /**
     * Returns the loaded root.
     *
     * @return root, on which this vCPU holds a reference
     */
    @HotPath
    public TdpRoot root() {
        return root;
    }

    void load(TdpRoot newRoot) {
        root = newRoot;
    }

    TdpRoot unload() {
        TdpRoot old = root;
        root = null;
        return old;
    }
}
