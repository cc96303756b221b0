package dev.tdpmmu.mmu;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.Interleave;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The root of one set of page tables, counted.
 *
 * <pre>
 *  references                              state
 *  2: first vCPU and the MMU's own gift    valid: faults map into it
 *  n: vCPUs, walkers that may yield, gift  invalid, to be zapped: nobody maps into it any more, the gift keeps it
 *  0                                       off the list, its page retired
 * </pre>
 *
 * <p>A root becomes invalid under the exclusive MMU lock and never valid again. Whoever holds the MMU lock in any mode
 * sees the flag stable. The count never drops to 0 while the root is valid, because the gift is consumed only by the
 * zap.
 */
public final class TdpRoot {
    private final long hpa;
    private final int level;
    private final AtomicInteger references = new AtomicInteger(2);

    /** Written under the exclusive MMU lock; read under the lock in any mode, or as a hint. */
    private volatile boolean invalid;

    /** Whether a zap still has to consume the gift. Written and read under the pages lock. */
    private boolean zapScheduled;

    TdpRoot(long hpa, int level) {
        this.hpa = hpa;
        this.level = level;
    }

    /**
     * Returns the root's table page.
     *
     * @return host physical address
     */
    @HotPath
    public long hpa() {
        return hpa;
    }

    /**
     * Returns the level of the root table.
     *
     * @return 4 or 5
     */
    @HotPath
    public int level() {
        return level;
    }

    /**
     * Tells whether nobody may map into this root any more.
     *
     * @return whether it is invalid
     * @ordering volatile; stable only under the MMU lock
     */
    @HotPath
    public boolean isInvalid() {
        return invalid;
    }

    void invalidate() {
        invalid = true;
        zapScheduled = true;
    }

    void scheduleZap() {
        zapScheduled = true;
    }

    boolean takeZapSchedule() {
        boolean scheduled = zapScheduled;
        zapScheduled = false;
        return scheduled;
    }

    /**
     * Takes a reference unless the last one is gone.
     *
     * @return whether it was taken
     * @kvm kvm_tdp_mmu_get_root
     */
    boolean tryGet() {
        while (true) {
            Interleave.step();
            int count = references.get();
            if (count == 0) {
                return false;
            }
            if (references.compareAndSet(count, count + 1)) {
                return true;
            }
        }
    }

    /** Drops a reference and tells whether it was the last. */
    boolean dropReference() {
        Interleave.step();
        int left = references.decrementAndGet();
        if (left < 0) {
            throw new MmuCorruptionException("root put too often: hpa=0x" + Long.toHexString(hpa));
        }
        if (left == 0 && !invalid) {
            throw new MmuCorruptionException("last reference of a valid root put: hpa=0x" + Long.toHexString(hpa));
        }
        return left == 0;
    }

    int references() {
        return references.get();
    }
}
