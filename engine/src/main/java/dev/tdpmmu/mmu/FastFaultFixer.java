package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Gives a present leaf back what was taken from it only to see the next access: W after write protection for dirty
 * logging, all permissions after access tracking. Needs an epoch, no lock.
 *
 * <p>Who may race, and why nothing is lost:
 *
 * <pre>
 *  fast fix (epoch only)                  | zap (MMU lock)
 *  reads leaf, W clear, MMU-writable      |
 *                                         | exchanges the leaf for FROZEN or non-present, flushes
 *  compare-and-set leaf -> leaf + W fails |   -- with a plain store the zapped translation would come back
 * </pre>
 *
 * <p>The table may be detached while we hold it; then its entries are FROZEN or the exchange changes a page that nobody
 * will read before our epoch ends. Against write protection of the same leaf either order is right: the store that
 * faulted may be seen as made before or after it.
 *
 * @kvm fast_page_fault
 */
final class FastFaultFixer {
    /** Tries before the slow path is taken; each loss means that somebody else made progress. */
    private static final int MAX_TRIES = 4;

    private final SpteFormat format;
    private final SlotRegistry registry;
    private final DirtyMarker marker;

    FastFaultFixer(SpteFormat format, SlotRegistry registry, DirtyMarker marker) {
        this.format = format;
        this.registry = registry;
        this.marker = marker;
    }

    /**
     * Tells whether a violation may be of this kind, without reading any table.
     *
     * @param access what was tried, bits of {@link Access}
     * @param present whether hardware found a usable entry that forbade the access
     * @return whether {@link #tryFix} is worth its walk
     * @kvm page_fault_can_be_fast
     */
    @HotPath
    boolean mayFix(int access, boolean present) {
        // Without A/D bits an access-tracked leaf looks absent to hardware. Otherwise only a store to something
        // present can have been refused for our own reasons.
        return present ? (access & Access.WRITE) != 0 : !format.accessedDirty();
    }

    /**
     * Tries to fix a violation without the MMU lock.
     *
     * @param vcpu the faulting one, its root loaded, in no section
     * @param gfn guest frame number
     * @param access what was tried, bits of {@link Access}
     * @return {@link FaultResult#FIXED} or {@link FaultResult#SPURIOUS}; {@link FaultResult#RETRY} if the slow path is
     *     needed
     */
    @HotPath
    FaultResult tryFix(VcpuMmu vcpu, long gfn, int access) {
        ReaderSlot slot = vcpu.slot;
        slot.enter(ReaderSlot.WALKING);
        FaultResult result = fixInEpoch(vcpu, gfn, access);
        slot.leave(ReaderSlot.HANDLING);
        return result;
    }

    @HotPath
    private FaultResult fixInEpoch(VcpuMmu vcpu, long gfn, int access) {
        TdpRoot root = vcpu.root();
        int level = root.level();
        long address = SpteAccess.addressOf(root.hpa(), gfn, level);
        long spte = SpteAccess.readAcquire(address);
        while (format.isTable(spte, level)) {
            level--;
            address = SpteAccess.addressOf(format.address(spte), gfn, level);
            spte = SpteAccess.readAcquire(address);
        }
        for (int tries = 0; tries < MAX_TRIES; tries++) {
            if (!format.isLeaf(spte, level)) {
                return FaultResult.RETRY;
            }
            if (format.allows(spte, access)) {
                return FaultResult.SPURIOUS;
            }
            long fixed = fixed(spte, access);
            if (fixed == spte || !format.allows(fixed, access)) {
                return FaultResult.RETRY;
            }
            // The slot is looked up inside the epoch: who switches the log on waits for it before it arms anything.
            MemSlot memSlot = registry.current().find(gfn, vcpu.lastSlot);
            if (!memSlot.exists() || level != PagingLevel.L4K && memSlot.logsDirty()) {
                // A huge leaf must be split first: one mark cannot tell which of its pages is stored to.
                return FaultResult.RETRY;
            }
            if (SpteAccess.compareAndSet(address, spte, fixed)) {
                if (memSlot.logsDirty() && format.isWritable(fixed)) {
                    marker.mark(vcpu, memSlot, gfn);
                }
                return FaultResult.FIXED;
            }
            spte = SpteAccess.readAcquire(address);
        }
        return FaultResult.RETRY;
    }

    @HotPath
    private long fixed(long spte, int access) {
        long fixed = format.isAccessTracked(spte) ? format.restoreAccess(spte) : spte;
        return (access & Access.WRITE) != 0 && format.isMmuWritable(fixed) ? format.makeWritable(fixed) : fixed;
    }

    /**
     * Reads the entry that decides over a gfn, down to whatever level the tables reach.
     *
     * @param root whose tables are read
     * @param gfn guest frame number
     * @return the lowest entry on the way
     * @locking inside an epoch
     */
    long readLast(TdpRoot root, long gfn) {
        int level = root.level();
        long spte = SpteAccess.readAcquire(root.hpa(), gfn, level);
        while (format.isTable(spte, level)) {
            level--;
            spte = SpteAccess.readAcquire(format.address(spte), gfn, level);
        }
        return spte;
    }
}
