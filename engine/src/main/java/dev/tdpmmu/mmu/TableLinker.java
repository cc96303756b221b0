package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * Links a new table below an entry: an empty one, or one filled with the pieces of the huge leaf that is there.
 *
 * <p>A table is complete before it is visible: whoever walks past the entry sees what was there before, or the whole
 * new table, never a part.
 *
 * @kvm tdp_mmu_link_sp, tdp_mmu_split_huge_page
 */
final class TableLinker {
    private final SpteFormat format;
    private final SpteUpdater updater;
    private final PossibleNxPages nxPages;
    private final NxPolicy nx;

    TableLinker(SpteFormat format, SpteUpdater updater, PossibleNxPages nxPages, NxPolicy nx) {
        this.format = format;
        this.updater = updater;
        this.nxPages = nxPages;
        this.nx = nx;
    }

    /**
     * Links a table, or splits a huge leaf.
     *
     * @param slot of the caller
     * @param tables stock with at least one page; gets it back if the race is lost
     * @param gfn any frame that the entry covers
     * @param address of the entry
     * @param level of the entry, 2 to 5
     * @param oldSpte what is there: nothing, an MMIO entry, or a huge leaf
     * @param hugeDisallowed whether the table is there because a huge leaf of this level must not be executed
     * @return the table entry, or {@link Spte#NON_PRESENT} if the race was lost
     * @locking MMU lock shared or exclusive, inside an epoch
     */
    long tryLink(
            ReaderSlot slot,
            TableCache tables,
            long gfn,
            long address,
            int level,
            long oldSpte,
            boolean hugeDisallowed) {
        long child = tables.take();
        boolean split = format.isLeaf(oldSpte, level);
        if (split) {
            SpteAccess.fillRowPlain(
                    child, firstPiece(oldSpte, level), Gfn.PAGE_SHIFT + PagingLevel.gfnShift(level - 1));
        } else {
            SpteAccess.fillPlain(child, Spte.NON_PRESENT);
        }
        // Described before it is visible: whoever detaches it right after the exchange reads level, gfn and mark from
        // the header.
        TableHeaders.describe(child, Gfn.alignDown(gfn, level), level - 1, address);
        if (hugeDisallowed) {
            TableHeaders.setNxState(child, TableHeaders.NX_HUGE_DISALLOWED);
        }
        long newSpte = format.makeTable(child);
        if (!updater.trySet(slot, address, gfn, level, oldSpte, newSpte)) {
            tables.putBack(child);
            return Spte.NON_PRESENT;
        }
        slot.count(Counter.TABLES, 1);
        if (split) {
            // No flush: the pieces translate exactly as the whole did.
            slot.count(Counter.PAGES_4K + level - 2, PagingLevel.ENTRIES);
            slot.count(Counter.SPLITS, 1);
        }
        if (hugeDisallowed) {
            nxPages.track(child);
        }
        return newSpte;
    }

    private long firstPiece(long hugeSpte, int level) {
        long piece = format.splitFirst(hugeSpte, level);
        // The huge leaf lacks X only because it is huge. No slot forbids fetches.
        return nx.mitigation() && level == PagingLevel.L2M ? format.makeExecutable(piece) : piece;
    }
}
