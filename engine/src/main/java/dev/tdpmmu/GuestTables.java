package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.hardware.GuestPageEntry;

/**
 * The page tables of a guest, built in guest memory: the part of a guest's kernel that maps pages. Stores to memory
 * as a device does; the TLBs of vCPUs are the caller's.
 */
public final class GuestTables {
    /** Allows everything, so that leaves alone decide. */
    private static final long TABLE = GuestPageEntry.PRESENT | GuestPageEntry.WRITABLE | GuestPageEntry.USER;

    private final GuestMemory memory;
    private final int levels;
    private final long cr3;
    private long nextTable;

    /**
     * Makes empty tables.
     *
     * @param memory of the VM; pages of tables must be zero
     * @param firstTable guest physical address of the top table; more tables take the pages behind it
     * @param levels 4 or 5
     */
    public GuestTables(GuestMemory memory, long firstTable, int levels) {
        this.memory = memory;
        this.levels = levels;
        this.cr3 = firstTable;
        this.nextTable = firstTable + Gfn.PAGE_SIZE;
    }

    /**
     * Returns where the top table is.
     *
     * @return guest physical address
     */
    public long cr3() {
        return cr3;
    }

    /**
     * Maps a page, with tables above it where they are missing.
     *
     * @param gva guest linear address, multiple of the size
     * @param gpa guest physical address, multiple of the size
     * @param size of the page
     * @param flags bits of {@link GuestPageEntry} besides those that make it a leaf
     */
    public void map(long gva, long gpa, PageSize size, long flags) {
        long leaf = gpa | flags | (size == PageSize.SIZE_4K ? 0 : GuestPageEntry.LARGE);
        setEntry(gva, size.level(), leaf);
    }

    /**
     * Writes an entry, with tables above it where they are missing.
     *
     * @param gva guest linear address
     * @param level of the entry, 1 to the number of levels
     * @param entry any value
     */
    public void setEntry(long gva, int level, long entry) {
        memory.putLong(addressOf(gva, level), entry);
    }

    /**
     * Reads an entry.
     *
     * @param gva guest linear address
     * @param level of the entry, 1 to the number of levels
     * @return its value now
     */
    public long entry(long gva, int level) {
        return memory.getLong(addressOf(gva, level));
    }

    /**
     * Returns where an entry is, after making the tables above it where they are missing.
     *
     * @param gva guest linear address
     * @param level of the entry, 1 to the number of levels
     * @return guest physical address
     */
    public long addressOf(long gva, int level) {
        long table = cr3;
        for (int at = levels; at > level; at--) {
            long entryGpa = GuestPageEntry.addressIn(table, gva, at);
            long entry = memory.getLong(entryGpa);
            if ((entry & GuestPageEntry.PRESENT) == 0) {
                entry = nextTable | TABLE;
                nextTable += Gfn.PAGE_SIZE;
                memory.putLong(entryGpa, entry);
            }
            table = entry & GuestPageEntry.ADDRESS;
        }
        return GuestPageEntry.addressIn(table, gva, level);
    }

    /**
     * Tells which flags the entries that lead to an address have, from the top down.
     *
     * @param gva guest linear address
     * @param leafLevel level of its leaf, {@link PagingLevel#L4K} for instance
     * @return for instance {@code A A A AD}, with a dash for an entry that has neither
     */
    public String usedFlags(long gva, int leafLevel) {
        var text = new StringBuilder();
        for (int level = levels; level >= leafLevel; level--) {
            long entry = entry(gva, level);
            String flags = ((entry & GuestPageEntry.ACCESSED) != 0 ? "A" : "")
                    + ((entry & GuestPageEntry.DIRTY) != 0 ? "D" : "");
            text.append(text.isEmpty() ? "" : " ").append(flags.isEmpty() ? "-" : flags);
        }
        return text.toString();
    }
}
