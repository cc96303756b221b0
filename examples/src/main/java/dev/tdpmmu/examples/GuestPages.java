package dev.tdpmmu.examples;

import dev.tdpmmu.GuestMemory;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.config.PageSize;
import java.util.Arrays;

/** Whole pages of guest memory, by number, as the examples use, copy and compare them. */
final class GuestPages {
    /** Bytes of a page. */
    static final int SIZE = (int) PageSize.SIZE_4K.bytes();

    private static final byte[] ZERO = new byte[SIZE];

    /** How a page is read: by a device, which takes no fault, or by a vCPU, which does. */
    interface Reader {
        /** Copies guest memory out, as {@link GuestMemory#read} and {@link Vcpu#read} do. */
        void read(long gpa, byte[] target, int offset, int length);
    }

    private GuestPages() {}

    /** Returns the guest physical address of a page. */
    static long gpa(long page) {
        return page * SIZE;
    }

    /** Sends a page from one VM to another, through a buffer of a page's size. */
    static void copy(long page, GuestMemory from, GuestMemory to, byte[] buffer) {
        from.read(gpa(page), buffer, 0, SIZE);
        to.write(gpa(page), buffer, 0, SIZE);
    }

    /** Returns how many pages from number 0 on differ in at least one byte. */
    static long different(GuestMemory one, GuestMemory other, long pages) {
        byte[] first = new byte[SIZE];
        byte[] second = new byte[SIZE];
        long different = 0;
        for (long page = 0; page < pages; page++) {
            one.read(gpa(page), first, 0, SIZE);
            other.read(gpa(page), second, 0, SIZE);
            different += Arrays.equals(first, second) ? 0 : 1;
        }
        return different;
    }

    /** Tells whether all bytes of a page are zero; they are in the buffer then. */
    static boolean isZero(long page, Reader reader, byte[] buffer) {
        reader.read(gpa(page), buffer, 0, SIZE);
        return Arrays.equals(buffer, ZERO);
    }

    /** Adds one to a page's first word and tells whether it was as the last step left it, 0 before step 0. */
    static boolean countUp(Vcpu vcpu, long page, int step) {
        boolean isKept = vcpu.getLong(gpa(page)) == step;
        vcpu.putLong(gpa(page), step + 1L);
        return isKept;
    }

    /** Returns the milliseconds since a time of {@link System#nanoTime}. */
    static double millisSince(long startNanos) {
        return (System.nanoTime() - startNanos) / 1e6;
    }
}
