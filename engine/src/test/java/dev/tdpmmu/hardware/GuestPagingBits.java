package dev.tdpmmu.hardware;

import static dev.tdpmmu.hardware.GuestPagingModel.ACCESSED;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_13;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_36;
import static dev.tdpmmu.hardware.GuestPagingModel.BIT_51;
import static dev.tdpmmu.hardware.GuestPagingModel.DIRTY;
import static dev.tdpmmu.hardware.GuestPagingModel.ENTRY_FLAGS;
import static dev.tdpmmu.hardware.GuestPagingModel.KEY_ONE;
import static dev.tdpmmu.hardware.GuestPagingModel.NO_EXECUTE;
import static dev.tdpmmu.hardware.GuestPagingModel.PAGE_SIZE;
import static dev.tdpmmu.hardware.GuestPagingModel.PRESENT;
import static dev.tdpmmu.hardware.GuestPagingModel.USER;
import static dev.tdpmmu.hardware.GuestPagingModel.WRITABLE;

/** What the flags of {@link GuestPagingModel} are in an entry, in the access argument of a walk, and in registers. */
final class GuestPagingBits {
    private static final int[] FLAGS = {
        PRESENT, WRITABLE, USER, ACCESSED, DIRTY, NO_EXECUTE, BIT_51, BIT_36, BIT_13, KEY_ONE, PAGE_SIZE
    };
    private static final int[] POSITIONS = {0, 1, 2, 5, 6, 63, 51, 36, 13, 59, 7};

    static final String[] ENTRY_NAMES = {"p", "rw", "user", "a", "d", "nx", "51", "36", "13", "key1", "ps"};
    static final String[] SITUATION_NAMES = {
        "write", "fetch", "cpl3", "implicit", "ac", "nxe", "wp", "smep", "smap", "pke", "pkru.ad", "pkru.wd", "no1g"
    };

    private static final long[] WORDS = new long[1 << ENTRY_FLAGS];

    static {
        for (int flags = 0; flags < WORDS.length; flags++) {
            for (int i = 0; i < FLAGS.length; i++) {
                WORDS[flags] |= (flags & FLAGS[i]) != 0 ? 1L << POSITIONS[i] : 0;
            }
        }
    }

    /** PKRU while keys are off forbids everything, so that a processor that asks it nevertheless is caught. */
    private static final int PKRU_UNUSED = -1;

    /** Key 0 permits all, key 1 what is tested, and key 2 and the rest, which only tables have, nothing. */
    private static final int PKRU_OTHERS = 0xffff_fff0;

    private GuestPagingBits() {}

    /** The bits of an entry with these flags, without address. */
    static long entry(int flags) {
        return WORDS[flags];
    }

    /**
     * All bits of an entry that mean nothing to the outcome: cache control, global, software's, and PAT. In an entry
     * that leads to a table also dirty and the key, here 2. Bit 8 of the two top levels is left alone, since AMD's
     * processors reserve it there.
     */
    static long ignored(int level, boolean mapsPage) {
        long everywhere = 3L << 3 | 7L << 9 | 0x7fL << 52;
        if (!mapsPage) {
            return everywhere | 1L << 6 | 2L << 59 | (level <= 3 ? 1L << 8 : 0);
        }
        return everywhere | 1L << 8 | (level == 1 ? 1L << 7 : 1L << 12);
    }

    /** The access argument of a walk. */
    static int access(int situation) {
        int kind = (situation & GuestPagingModel.WRITE) != 0 ? 2 : (situation & GuestPagingModel.FETCH) != 0 ? 4 : 1;
        return kind
                | ((situation & GuestPagingModel.CPL_3) != 0 ? LinearAccess.USER : 0)
                | ((situation & GuestPagingModel.IMPLICIT) != 0 ? LinearAccess.IMPLICIT : 0)
                | ((situation & GuestPagingModel.AC) != 0 ? LinearAccess.AC : 0);
    }

    /** The registers of a processor whose addresses have 36 bits. */
    static GuestPaging registers(long cr3, int levels, int situation) {
        boolean keys = (situation & GuestPagingModel.PKE) != 0;
        int pkru = PKRU_OTHERS
                | ((situation & GuestPagingModel.ACCESS_DISABLE) != 0 ? 4 : 0)
                | ((situation & GuestPagingModel.WRITE_DISABLE) != 0 ? 8 : 0);
        return new GuestPaging(
                cr3,
                levels,
                (situation & GuestPagingModel.WP) != 0,
                (situation & GuestPagingModel.NXE) != 0,
                (situation & GuestPagingModel.SMEP) != 0,
                (situation & GuestPagingModel.SMAP) != 0,
                keys,
                keys ? pkru : PKRU_UNUSED,
                36,
                (situation & GuestPagingModel.NO_GIGABYTE_PAGES) == 0);
    }

    static String text(int flags, String[] names) {
        var text = new StringBuilder();
        for (int i = 0; i < names.length; i++) {
            if ((flags & 1 << i) != 0) {
                text.append(text.isEmpty() ? "" : " ").append(names[i]);
            }
        }
        return text.isEmpty() ? "none" : text.toString();
    }
}
