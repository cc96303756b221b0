package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;

/**
 * The cold checks of {@link SpteFormat}: its masks when it is made, its arguments at debug level check, its leaves.
 */
final class SpteFormatCheck {
    private SpteFormatCheck() {}

    /** Returns every bit that a leaf may have. */
    static long check(SpteMasks masks, long address, long type, long saved) {
        long leafBits = checkDisjoint(
                masks.name,
                new String[] {
                    "mmuPresent",
                    "pageSize",
                    "address",
                    "type",
                    "saved",
                    "readOrExecute",
                    "write",
                    "noExecute",
                    "accessed",
                    "dirty",
                    "memoryType",
                    "hostWritable",
                    "mmuWritable"
                },
                new long[] {
                    Spte.MMU_PRESENT,
                    Spte.PAGE_SIZE,
                    address,
                    type,
                    saved,
                    masks.read | masks.execute,
                    masks.write,
                    masks.noExecute,
                    masks.accessed,
                    masks.dirty,
                    masks.memoryType,
                    masks.hostWritable,
                    masks.mmuWritable
                });
        if ((masks.writeBack & ~masks.memoryType) != 0) {
            throw bad("write-back lies outside the memory type", masks.name, "writeBack", masks.writeBack);
        }
        if ((masks.hardwarePresent & ~(masks.read | masks.write | masks.execute)) != 0) {
            throw bad(
                    "a leaf without permissions could be present to hardware",
                    masks.name,
                    "hardwarePresent",
                    masks.hardwarePresent);
        }
        checkAbsent(masks, "NON_PRESENT", Spte.NON_PRESENT);
        checkAbsent(masks, "FROZEN", Spte.FROZEN);
        if (masks.mmioValue != SpteFormat.NO_MMIO) {
            checkMmio(masks, address);
        }
        return leafBits;
    }

    private static void checkMmio(SpteMasks masks, long address) {
        long gfns = address & (1L << masks.physicalAddressBits) - 1;
        checkDisjoint(
                masks.name,
                new String[] {
                    "mmioMask", "mmioGfn", "mmioGenerationLow", "mmioGenerationHigh", "mmioWrite", "mmioExecute"
                },
                new long[] {
                    masks.mmioMask,
                    gfns,
                    MmioSpte.GENERATION_LOW,
                    MmioSpte.GENERATION_HIGH,
                    MmioSpte.WRITE,
                    MmioSpte.EXECUTE
                });
        if ((masks.mmioValue & ~masks.mmioMask) != 0) {
            throw bad("MMIO value lies outside its mask", masks.name, "mmioValue", masks.mmioValue);
        }
        if ((masks.mmioMask & ~masks.mmioValue & Spte.MMU_PRESENT) == 0) {
            throw bad("MMIO value does not exclude MMU-present entries", masks.name, "mmioMask", masks.mmioMask);
        }
        if ((masks.mmioValue & masks.hardwarePresent) == 0) {
            throw bad("MMIO value is invisible to hardware", masks.name, "mmioValue", masks.mmioValue);
        }
    }

    private static void checkAbsent(SpteMasks masks, String what, long spte) {
        if ((spte & (masks.hardwarePresent | Spte.MMU_PRESENT)) != 0 || (spte & masks.mmioMask) == masks.mmioValue) {
            throw bad("special value is taken for an entry, by us or by hardware", masks.name, what, spte);
        }
    }

    private static long checkDisjoint(String format, String[] names, long[] masks) {
        long union = 0;
        for (int i = 0; i < masks.length; i++) {
            union |= masks[i];
            for (int j = i + 1; j < masks.length; j++) {
                if ((masks[i] & masks[j]) != 0) {
                    throw new IllegalArgumentException("masks overlap: format=" + format + ", " + names[i] + "=0x"
                            + Long.toHexString(masks[i]) + ", " + names[j] + "=0x" + Long.toHexString(masks[j]));
                }
            }
        }
        return union;
    }

    private static IllegalArgumentException bad(String what, String format, String name, long value) {
        return new IllegalArgumentException(
                what + ": format=" + format + ", " + name + "=0x" + Long.toHexString(value));
    }

    /**
     * A maker, asked for what the entry allows, makes the same entry again. The rule of the write bits is checked
     * by itself, because this comparison alone would bless a maker that breaks it.
     */
    static boolean isLegalLeaf(SpteFormat f, long spte, int level) {
        boolean hostWritable = f.isHostWritable(spte);
        boolean mmuWritable = f.isMmuWritable(spte);
        boolean writable = f.isWritable(spte);
        if (writable && !mmuWritable || mmuWritable && !hostWritable) {
            return false;
        }
        long untracked = f.restoreAccess(spte) & ~(f.accessedBit() | f.dirtyBit());
        int access = (f.isReadable(untracked) ? Access.READ : 0)
                | (mmuWritable ? Access.WRITE : 0)
                | (f.isExecutable(untracked) ? Access.EXECUTE : 0);
        if (access == 0 || level > PagingLevel.MAX_HUGE || (f.address(spte) & (PagingLevel.bytes(level) - 1)) != 0) {
            return false;
        }
        return untracked == f.makeLeaf(f.address(spte), level, access, hostWritable, !writable);
    }

    static void checkLeaf(long hpa, int level, int access, long limit) {
        if (level < PagingLevel.L4K || level > PagingLevel.MAX_HUGE) {
            throw new IllegalArgumentException(
                    "no leaf at this level: level=" + level + ", max=" + PagingLevel.MAX_HUGE);
        }
        if (access == 0 || (access & ~Access.ALL) != 0) {
            throw new IllegalArgumentException("leaf allows nothing or something unknown: access=" + access);
        }
        checkAddress(hpa, level, limit);
    }

    static void checkAddress(long hpa, int level, long limit) {
        if ((hpa & (PagingLevel.bytes(level) - 1)) != 0 || hpa < 0 || hpa >= limit) {
            throw new IllegalArgumentException("host physical address is misaligned or too wide: hpa=0x"
                    + Long.toHexString(hpa) + ", level=" + level + ", limit=0x" + Long.toHexString(limit));
        }
    }

    static void checkHuge(SpteFormat format, long spte, int level) {
        if (level < PagingLevel.L2M || level > PagingLevel.MAX_HUGE || !format.isLeaf(spte, level)) {
            throw new IllegalArgumentException(
                    "entry is no huge leaf: level=" + level + ", " + SpteText.describe(format, spte, level));
        }
    }

    static void checkMayBeWritable(SpteFormat format, long spte) {
        if (!Spte.isMmuPresent(spte) || !format.isMmuWritable(spte) || format.isAccessTracked(spte)) {
            throw new IllegalArgumentException(
                    "entry may not become writable: " + SpteText.describe(format, spte, PagingLevel.L4K));
        }
    }

    static RuntimeException noMmio(String format, boolean caching, long gfn, long limit) {
        if (!caching) {
            return new IllegalStateException("format has no MMIO entries: format=" + format);
        }
        return new IllegalArgumentException("gfn cannot exist: gfn=0x" + Long.toHexString(gfn) + ", limit=0x"
                + Long.toHexString(limit) + ", format=" + format);
    }
}
