package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.RetiredBatch;

/**
 * Takes apart a table that has been detached, with everything below it, and collects the table pages for retirement.
 *
 * <p>Every entry of a detached table becomes FROZEN for good. Others may still hold the table: a fault that walked into
 * it before it was detached, hardware that cached the entry above it. Without the marker this could happen:
 *
 * <pre>
 *  fault (shared)                                | remover (shared)
 *  walks into table T                            |
 *                                                | detaches T, removes what is below, retires T
 *  compare-and-set: non-present -> leaf in T     |   -- a leaf that is counted but that nobody will ever zap, and a frame
 *                                                |      that stays mapped behind a cached entry until T is reused
 * </pre>
 *
 * <p>With it the compare-and-set fails and the fault tries again from the root.
 *
 * @kvm handle_removed_pt
 */
final class SubtreeRemover {
    private final SpteFormat format;
    private final SpteTransition transition;
    private final PossibleNxPages nxPages;

    SubtreeRemover(SpteFormat format, SpteTransition transition, PossibleNxPages nxPages) {
        this.format = format;
        this.transition = transition;
        this.nxPages = nxPages;
    }

    /**
     * Freezes every entry of a table and of the tables below it, and adds their pages to a batch.
     *
     * @param slot of the caller
     * @param tableHpa table that no live entry points to any more
     * @param mode how the caller holds the MMU lock
     * @param batch takes the pages; to be retired after the flush
     * @return what the leaves tell of their use, for {@link SpteFormat#addUse}
     * @locking MMU lock as {@code mode} says, inside an epoch
     */
    long remove(ReaderSlot slot, long tableHpa, LockMode mode, RetiredBatch batch) {
        int level = TableHeaders.level(tableHpa);
        long gfn = TableHeaders.gfn(tableHpa);
        long used = 0;
        nxPages.forget(tableHpa);
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long address = tableHpa + ((long) i << 3);
            long oldSpte = mode == LockMode.SHARED ? freezeShared(address) : freezeExclusive(address, level);
            if (oldSpte != Spte.FROZEN) {
                transition.apply(slot, gfn + i * PagingLevel.pages(level), level, oldSpte, Spte.FROZEN);
            }
            if (format.isTable(oldSpte, level)) {
                used |= remove(slot, format.address(oldSpte), mode, batch);
            } else if (format.isLeaf(oldSpte, level)) {
                used |= format.use(oldSpte);
            }
        }
        slot.count(Counter.TABLES, -1);
        batch.add(tableHpa);
        return used;
    }

    /**
     * Takes apart a table of an invalid root: as {@link #remove}, but leaves entries that are not present as they are.
     * No fault installs anything in an invalid root, because it asks for the root's state under the lock.
     *
     * @param slot of the caller
     * @param tableHpa table that no live entry points to any more
     * @param batch takes the pages
     * @locking MMU lock shared, inside an epoch
     */
    void removeUnused(ReaderSlot slot, long tableHpa, RetiredBatch batch) {
        int level = TableHeaders.level(tableHpa);
        long gfn = TableHeaders.gfn(tableHpa);
        nxPages.forget(tableHpa);
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long address = tableHpa + ((long) i << 3);
            long oldSpte = SpteAccess.readAcquire(address);
            // A FROZEN entry belongs to an unmap, which will thaw it inside its epoch, before the page is reused.
            if (oldSpte == Spte.NON_PRESENT || Spte.isFrozen(oldSpte)) {
                continue;
            }
            oldSpte = freezeShared(address);
            transition.apply(slot, gfn + i * PagingLevel.pages(level), level, oldSpte, Spte.FROZEN);
            if (format.isTable(oldSpte, level)) {
                removeUnused(slot, format.address(oldSpte), batch);
            }
        }
        slot.count(Counter.TABLES, -1);
        batch.add(tableHpa);
    }

    /** Freezes an entry that other shared holders may change; who froze it before us will let go of it. */
    private static long freezeShared(long address) {
        long oldSpte = SpteAccess.exchange(address, Spte.FROZEN);
        while (oldSpte == Spte.FROZEN) {
            // Another thread is between its freeze and its thaw of this very entry. Its thaw would be lost on us if
            // we went on: it stores non-present, and a fault could install a leaf after that.
            if (!Interleave.blocked()) {
                Thread.onSpinWait();
            }
            oldSpte = SpteAccess.exchange(address, Spte.FROZEN);
        }
        return oldSpte;
    }

    /**
     * Freezes an entry that only hardware and the fast fix may change. A non-present one stays as it is: nobody can
     * install anything without the lock, and later holders come from the root.
     */
    private long freezeExclusive(long address, int level) {
        long oldSpte = SpteAccess.readAcquire(address);
        if (!Spte.isMmuPresent(oldSpte)) {
            return Spte.FROZEN;
        }
        if (format.isVolatile(oldSpte, level)) {
            return SpteAccess.exchange(address, Spte.FROZEN);
        }
        SpteAccess.setRelease(address, Spte.FROZEN);
        return oldSpte;
    }
}
