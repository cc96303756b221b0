package dev.tdpmmu;

import dev.tdpmmu.base.PagingLevel;

/**
 * One entry on the way to an address, as the processor reads it.
 *
 * @param level level of the table, 1 to 5
 * @param tableHpa host physical address of the table page
 * @param index of the entry in its table, 0 to 511
 * @param entry its word
 * @param kind what it is
 * @param skipped whether the vCPU does not read it, because its caches know a table further down
 * @param misconfiguration why the processor calls it malformed; empty if it does not
 * @param permissions what the entry allows, as text: {@code rwx}
 * @param permissionsSoFar what it and all entries above it allow, as text
 * @param accessed its A bit; false where the processor maintains none
 * @param dirty its D bit; false where the processor maintains none
 * @param memoryType of a leaf, for instance {@code WB}; empty otherwise
 * @param hpa where it points to: the table page, or the first byte of the page; -1 if nowhere
 * @param software what the MMU keeps in the bits that the processor ignores; may be empty
 */
public record WalkStep(
        int level,
        long tableHpa,
        int index,
        long entry,
        EntryKind kind,
        boolean skipped,
        String misconfiguration,
        String permissions,
        String permissionsSoFar,
        boolean accessed,
        boolean dirty,
        String memoryType,
        long hpa,
        String software) {
    /** {@return the host physical address of the entry} */
    public long entryHpa() {
        return tableHpa + (long) index * Long.BYTES;
    }

    @Override
    public String toString() {
        String where = hpa < 0 ? "" : " -> 0x" + Long.toHexString(hpa);
        String line = String.format(
                "%-5s%s 0x%x[%3d] = 0x%016x  %-6s %s so far %s  %s%s%s%s%s%s",
                PagingLevel.name(level),
                skipped ? "~" : " ",
                tableHpa,
                index,
                entry,
                kind.text(),
                permissions,
                permissionsSoFar,
                accessed ? "A" : "-",
                dirty ? "D" : "-",
                memoryType.isEmpty() ? "" : " " + memoryType,
                where,
                software.isEmpty() ? "" : "  " + software,
                misconfiguration.isEmpty() ? "" : "  malformed: " + misconfiguration);
        return line.stripTrailing();
    }
}
