package dev.tdpmmu.hardware;

import static dev.tdpmmu.hardware.GuestPagingModel.AC;
import static dev.tdpmmu.hardware.GuestPagingModel.ACCESSED;
import static dev.tdpmmu.hardware.GuestPagingModel.ACCESS_DISABLE;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_13;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_36;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_51;
import static dev.tdpmmu.hardware.GuestPagingModel.DIRTY;
import static dev.tdpmmu.hardware.GuestPagingModel.FETCH;
import static dev.tdpmmu.hardware.GuestPagingModel.IMPLICIT;
import static dev.tdpmmu.hardware.GuestPagingModel.KEY_ONE;
import static dev.tdpmmu.hardware.GuestPagingModel.NO_EXECUTE;
import static dev.tdpmmu.hardware.GuestPagingModel.NO_GIGABYTE_PAGES;
import static dev.tdpmmu.hardware.GuestPagingModel.NXE;
import static dev.tdpmmu.hardware.GuestPagingModel.PAGE_SIZE;
import static dev.tdpmmu.hardware.GuestPagingModel.PKE;
import static dev.tdpmmu.hardware.GuestPagingModel.PRESENT;
import static dev.tdpmmu.hardware.GuestPagingModel.SMAP;
import static dev.tdpmmu.hardware.GuestPagingModel.USER;
import static dev.tdpmmu.hardware.GuestPagingModel.WRITABLE;
import static dev.tdpmmu.hardware.GuestPagingModel.WRITE;
import static dev.tdpmmu.hardware.GuestPagingModel.WRITE_DISABLE;

/**
 * A reason why a combination of flags is left out of the {@link GuestPagingMatrix}: it cannot be, or another one
 * shows the same.
 */
enum GuestPagingRule {
    /** An instruction stores or is fetched; one access is never both. */
    ONE_ACCESS {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return !is(situation, WRITE) || !is(situation, FETCH);
        }
    },

    /** What the processor reads and writes on its own behalf is data. */
    NO_IMPLICIT_FETCH {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return !is(situation, FETCH) || !is(situation, IMPLICIT);
        }
    },

    /**
     * Without SMAP nothing asks for EFLAGS.AC; with it all accesses are tried, also those that it does not concern.
     */
    AC_BESIDE_SMAP {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return is(situation, SMAP) || !is(situation, AC);
        }
    },

    /**
     * Rights of a key change only while keys are on. While they are off PKRU forbids everything, so that a processor
     * that asks it nevertheless is caught.
     */
    KEY_RIGHTS_BESIDE_KEYS {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return is(situation, PKE) || !is(situation, ACCESS_DISABLE | WRITE_DISABLE);
        }
    },

    /** A processor without pages of 1 GiB differs from another one only where there is such a page. */
    GIGABYTE_SHAPES_ONLY {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return shape.leafLevel == 3 || !is(situation, NO_GIGABYTE_PAGES);
        }
    },

    /** The leaf's page-size flag is the shape's; its address bit 13 is reserved only if the page is large. */
    LEAF_FITS_SHAPE {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return is(leaf, PAGE_SIZE) == shape.leafLevel > 1 && (shape.leafLevel > 1 || !is(leaf, BIT_13));
        }
    },

    /**
     * An entry that leads to a table has no key and no dirty flag, and no bit 13: these are ignored bits or part of
     * its address. With its page-size flag it is another shape, except where that flag is reserved.
     */
    TABLE_IS_NO_PAGE {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return !is(table, DIRTY | BIT_13 | KEY_ONE) && (shape.tableLevel() > 3 || !is(table, PAGE_SIZE));
        }
    },

    /** The entry above is present and only withholds permissions; how it ends a walk, the one below it shows. */
    UPPER_ONLY_FORBIDS {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            boolean plain = is(upper, PRESENT) && (upper & ~(WRITABLE | USER | NO_EXECUTE)) == PRESENT;
            return plain && (shape.hasUpper() || upper == (PRESENT | WRITABLE | USER));
        }
    },

    /**
     * Nothing counts in an entry that is not present. That it has no other flag, those that would permit everything,
     * or all, shows as much.
     */
    ABSENT_IS_EMPTY_OR_FULL {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            int permitting = WRITABLE | USER | ACCESSED;
            return isEmptyOrFull(leaf, permitting | DIRTY, NO_EXECUTE | BIT_51 | KEY_ONE)
                    && isEmptyOrFull(table, permitting, NO_EXECUTE | BIT_51);
        }

        private static boolean isEmptyOrFull(int entry, int permitting, int forbidding) {
            int others = entry & ~PAGE_SIZE;
            return is(entry, PRESENT) || others == 0 || others == permitting || others == (permitting | forbidding);
        }
    },

    /** A reserved bit ends the translation, and the error code does not tell how many there were. */
    ONE_RESERVED_BIT {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            return reservedBits(shape, leaf, table, upper, situation) <= 1;
        }
    },

    /** Nobody looks below the entry that ended a walk. That would show if what is there permitted everything. */
    NOTHING_BELOW_THE_END {
        @Override
        boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
            boolean upperEnds = isForbidden(upper, situation);
            boolean tableEnds = upperEnds
                    || !is(table, PRESENT)
                    || isForbidden(table, situation)
                    || is(table, BIT_51 | BIT_36 | PAGE_SIZE);
            return (!upperEnds || table == (PRESENT | WRITABLE | USER))
                    && (!tableEnds || (leaf & ~PAGE_SIZE) == (PRESENT | WRITABLE | USER));
        }
    };

    /** Whether the rule admits the flags of the three lowest entries, the access and the processor. */
    abstract boolean allows(GuestPagingShape shape, int leaf, int table, int upper, int situation);

    private static int reservedBits(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
        int always = BIT_51 | BIT_36 | (is(situation, NXE) ? 0 : NO_EXECUTE);
        int inLeaf = !is(leaf, PRESENT)
                ? 0
                : Integer.bitCount(leaf & (always | BIT_13)) + (is(situation, NO_GIGABYTE_PAGES) ? 1 : 0);
        int inTable = !is(table, PRESENT) ? 0 : Integer.bitCount(table & (always | PAGE_SIZE));
        return inLeaf + inTable + Integer.bitCount(upper & always);
    }

    private static boolean isForbidden(int entry, int situation) {
        return is(entry, PRESENT) && is(entry, NO_EXECUTE) && !is(situation, NXE);
    }

    static boolean is(int flags, int anyOf) {
        return (flags & anyOf) != 0;
    }
}
