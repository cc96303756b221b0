package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.trace.Trace;

/**
 * The bookkeeping of every change of a linked entry: page counters per level, and what is legal.
 *
 * <pre>
 *  from \ to     | non-present | FROZEN | MMIO | leaf                | table
 *  non-present   |      -      |   x    |  x   |  x                  |  x
 *  FROZEN        |      x      |   -    |  -   |  -                  |  -
 *  MMIO          |      x      |   x    |  x   |  x                  |  x
 *  leaf          |      x      |   x    |  -   |  same frame only    |  x (split)
 *  table         |      x      |   x    |  -   |  x (replaced)       |  -
 * </pre>
 *
 * <p>The fast fix and hardware change a leaf into a leaf with the same frame and do not come here: no counter changes.
 *
 * @kvm handle_changed_spte
 */
final class SpteTransition {
    private final SpteFormat format;
    private final int vmId;

    SpteTransition(SpteFormat format, int vmId) {
        this.format = format;
        this.vmId = vmId;
    }

    /**
     * Accounts for a change that has been published.
     *
     * @param slot of the thread that made it; carries the counters
     * @param gfn any frame that the entry covers
     * @param level of the entry, 1 to 5
     * @param oldSpte value that was replaced
     * @param newSpte value that replaced it
     */
    @HotPath
    void apply(ReaderSlot slot, long gfn, int level, long oldSpte, long newSpte) {
        boolean wasLeaf = format.isLeaf(oldSpte, level);
        boolean isLeaf = format.isLeaf(newSpte, level);
        if (wasLeaf != isLeaf) {
            slot.count(Counter.PAGES_4K + level - 1, isLeaf ? 1 : -1);
        }
        if (wasLeaf && isLeaf && format.address(oldSpte) != format.address(newSpte)) {
            throw illegal("leaf changed its frame", gfn, level, oldSpte, newSpte);
        }
        Trace.spteChanged(vmId, gfn, level, oldSpte, newSpte);
        if (Debug.CHECK) {
            check(gfn, level, oldSpte, newSpte);
        }
    }

    /**
     * Says that a leaf has other permissions, A or D, which no counter depends on.
     *
     * @param gfn any frame that the entry covers
     * @param level of the entry, 1 to 3
     * @param oldSpte value that was replaced
     * @param newSpte value that replaced it
     */
    @HotPath
    void bitsChanged(long gfn, int level, long oldSpte, long newSpte) {
        Trace.spteChanged(vmId, gfn, level, oldSpte, newSpte);
        if (Debug.CHECK) {
            checkSameLeaf(gfn, level, oldSpte, newSpte);
        }
    }

    private void checkSameLeaf(long gfn, int level, long oldSpte, long newSpte) {
        if (!format.isLeaf(oldSpte, level)
                || !format.isLeaf(newSpte, level)
                || format.address(oldSpte) != format.address(newSpte)
                || !format.isLegal(newSpte, level)) {
            throw illegal("leaf changed into something else", gfn, level, oldSpte, newSpte);
        }
    }

    /**
     * Says that a leaf, or an MMIO entry, has gone, in an operation that counts many at a time itself.
     *
     * @param gfn its frame
     * @param level of the entry
     * @param oldSpte value that was there
     * @param newSpte non-present, or FROZEN
     */
    @HotPath
    void zapped(long gfn, int level, long oldSpte, long newSpte) {
        Trace.spteChanged(vmId, gfn, level, oldSpte, newSpte);
        if (Debug.CHECK) {
            check(gfn, level, oldSpte, newSpte);
        }
    }

    private void check(long gfn, int level, long oldSpte, long newSpte) {
        MmuLock.assertHeld();
        boolean wasPresent = Spte.isMmuPresent(oldSpte);
        boolean isPresent = Spte.isMmuPresent(newSpte);
        if (!format.isLegal(newSpte, level)) {
            throw illegal("entry is illegal", gfn, level, oldSpte, newSpte);
        }
        if (Spte.isFrozen(oldSpte) && newSpte != Spte.NON_PRESENT) {
            throw illegal("frozen entry was not thawed first", gfn, level, oldSpte, newSpte);
        }
        if (wasPresent && format.isMmio(newSpte)) {
            throw illegal("MMIO entry over a present one", gfn, level, oldSpte, newSpte);
        }
        if (!wasPresent && !isPresent && !isSpecial(oldSpte) && !isSpecial(newSpte)) {
            throw illegal("non-present entry changed into another", gfn, level, oldSpte, newSpte);
        }
        if (format.isTable(oldSpte, level) && format.isTable(newSpte, level)) {
            throw illegal("table replaced by a table", gfn, level, oldSpte, newSpte);
        }
    }

    private boolean isSpecial(long spte) {
        return Spte.isFrozen(spte) || format.isMmio(spte);
    }

    private MmuCorruptionException illegal(String what, long gfn, int level, long oldSpte, long newSpte) {
        return MmuCorruptionException.transition(what, format, gfn, level, oldSpte, newSpte);
    }
}
