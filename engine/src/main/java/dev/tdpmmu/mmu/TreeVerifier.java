package dev.tdpmmu.mmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.slot.HostPageWord;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockDep;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.ReaderSlots;
import org.agrona.collections.LongHashSet;

/**
 * Checks the whole tree of a VM while nobody changes its shape.
 *
 * <p>What must hold: every entry is legal; every table entry points to a distinct table page of this VM whose header
 * names its level, first gfn and parent; no entry is FROZEN; every leaf of a valid root maps the frame that its slot
 * has, within the slot, and is not writable if the slot is not; MMIO entries carry their own gfn; the counters equal
 * what is there.
 */
final class TreeVerifier {
    private final SpteFormat format;
    private final int vmId;
    private final MemSlots slots;
    private final LongHashSet tables = new LongHashSet();
    private final long[] leaves = new long[PagingLevel.MAX_HUGE + 1];
    private final RangeOperations ranges;
    private long mmioEntries;
    private long nxListed;

    TreeVerifier(SpteFormat format, int vmId, MemSlots slots, RangeOperations ranges) {
        this.ranges = ranges;
        this.format = format;
        this.vmId = vmId;
        this.slots = slots;
    }

    /**
     * Walks all tables.
     *
     * @param registry roots
     * @param readers whose counters must agree
     * @param nxPages list whose length must be the number of tables in it
     * @return what was found
     * @throws MmuCorruptionException naming what is broken
     * @locking MMU lock exclusive
     */
    TreeCensus verify(RootRegistry registry, ReaderSlots readers, PossibleNxPages nxPages) {
        LockDep.assertHeldExclusive(LockRank.MMU);
        int roots = 0;
        for (TdpRoot root : registry.roots()) {
            verifyTable(root.hpa(), root.level(), 0, 0, root.isInvalid());
            roots++;
        }
        TreeCensus census = new TreeCensus(leaves[1], leaves[2], leaves[3], tables.size(), mmioEntries, roots);
        compare("pages_4k", readers.sum(Counter.PAGES_4K), census.pages4k());
        compare("pages_2m", readers.sum(Counter.PAGES_2M), census.pages2m());
        compare("pages_1g", readers.sum(Counter.PAGES_1G), census.pages1g());
        compare("table pages", readers.sum(Counter.TABLES), census.tablePages());
        compare("nx_lpage_splits", nxPages.size(), nxListed);
        return census;
    }

    private static void compare(String what, long counted, long found) {
        if (counted != found) {
            throw new MmuCorruptionException(
                    "counter disagrees with the tree: what=" + what + ", counted=" + counted + ", found=" + found);
        }
    }

    private void verifyTable(long table, int level, long gfn, long parent, boolean inInvalidRoot) {
        if (!HostMemory.isTable(table)) {
            throw broken("table lies outside the part for tables", table, level, gfn);
        }
        if (!tables.add(table)) {
            throw broken("table is linked twice", table, level, gfn);
        }
        if (TableHeaders.state(table) != TableHeaders.LINKED
                || TableHeaders.owner(table) != vmId
                || TableHeaders.level(table) != level
                || TableHeaders.gfn(table) != gfn
                || TableHeaders.parentSpteAddress(table) != parent) {
            throw broken(
                    "header disagrees with the table's place: state=" + TableHeaders.state(table) + ", owner="
                            + TableHeaders.owner(table) + ", headerLevel=" + TableHeaders.level(table)
                            + ", headerGfn=0x"
                            + Long.toHexString(TableHeaders.gfn(table)),
                    table,
                    level,
                    gfn);
        }
        int nxState = TableHeaders.nxState(table);
        if (nxState == TableHeaders.NX_HUGE_DISALLOWED) {
            // Who links a marked table lists it before the lock is dropped.
            throw broken("table is marked but not in the list of those that may be given up", table, level, gfn);
        }
        if (nxState == TableHeaders.NX_LISTED) {
            nxListed++;
        }
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long address = table + ((long) i << 3);
            long entryGfn = gfn + i * PagingLevel.pages(level);
            verifyEntry(address, SpteAccess.readAcquire(address), level, entryGfn, inInvalidRoot);
        }
    }

    private void verifyEntry(long address, long spte, int level, long gfn, boolean inInvalidRoot) {
        if (Spte.isFrozen(spte)) {
            throw broken("frozen entry at rest", address, level, gfn);
        }
        if (!format.isLegal(spte, level)) {
            throw MmuCorruptionException.transition("entry is illegal", format, gfn, level, spte, spte);
        }
        if (format.isTable(spte, level)) {
            verifyTable(format.address(spte), level - 1, gfn, address, inInvalidRoot);
        } else if (format.isLeaf(spte, level)) {
            leaves[level]++;
            if (!inInvalidRoot) {
                verifyLeaf(spte, level, gfn);
            }
        } else if (format.isMmio(spte)) {
            mmioEntries++;
            if (format.mmioGfn(spte) != gfn) {
                throw MmuCorruptionException.transition("MMIO entry of another gfn", format, gfn, level, spte, spte);
            }
        }
    }

    private void verifyLeaf(long spte, int level, long gfn) {
        MemSlot slot = slots.find(gfn);
        if (!slot.exists() || gfn + PagingLevel.pages(level) > slot.endGfn()) {
            throw MmuCorruptionException.transition("leaf outside its slot", format, gfn, level, spte, spte);
        }
        if (!slot.isLinear() && format.isHostWritable(spte) && !isWritableByHost(slot, gfn)) {
            throw MmuCorruptionException.transition("leaf allows more than the host", format, gfn, level, spte, spte);
        }
        if (hpa(slot, gfn) != format.address(spte)) {
            throw MmuCorruptionException.transition("leaf maps a foreign frame", format, gfn, level, spte, spte);
        }
        if (slot.logsDirty() && level != PagingLevel.L4K && format.isWritable(spte)) {
            checkInitiallySet(slot, gfn, level, spte);
        }
        if (format.isMmuWritable(spte) && ranges.isWatched(gfn, level)) {
            throw MmuCorruptionException.transition("watched page is writable", format, gfn, level, spte, spte);
        }
        if (format.isMmuWritable(spte) && slot.isReadOnly()) {
            throw MmuCorruptionException.transition("leaf allows more than its slot", format, gfn, level, spte, spte);
        }
    }

    private static long hpa(MemSlot slot, long gfn) {
        return slot.isLinear()
                ? slot.hpa(gfn)
                : HostPageWord.hpa(slot.hostPages().word(slot.hostPage(gfn)));
    }

    private static boolean isWritableByHost(MemSlot slot, long gfn) {
        return HostPageWord.isWritable(slot.hostPages().word(slot.hostPage(gfn)));
    }

    /** Stores to a huge leaf leave no trace: it may be writable only while all its pages count as dirty anyway. */
    private void checkInitiallySet(MemSlot slot, long gfn, int level, long spte) {
        for (long page = gfn; page < gfn + PagingLevel.pages(level); page++) {
            if (!slot.dirtyBitmap().isDirty(page - slot.baseGfn())) {
                throw MmuCorruptionException.transition(
                        "huge leaf of a logged slot is writable", format, gfn, level, spte, spte);
            }
        }
    }

    private static MmuCorruptionException broken(String what, long address, int level, long gfn) {
        return new MmuCorruptionException(what + ": hpa=0x" + Long.toHexString(address) + ", level="
                + PagingLevel.name(level) + ", gfn=0x" + Long.toHexString(gfn));
    }
}
