package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;

/**
 * The registers that say how a guest's own paging works: a 64-bit guest with paging on, without process-context
 * identifiers. An immutable value; a guest that writes a register gets a new one.
 *
 * @param cr3 guest physical address of the top table in bytes, multiple of 4096, below the width of addresses
 * @param levels of the guest's tables, 4 or 5 (CR4.LA57)
 * @param writeProtect CR0.WP: whether a supervisor obeys read-only pages
 * @param noExecute EFER.NX: whether bit 63 forbids fetches; if not it is reserved
 * @param smep CR4.SMEP: whether a supervisor is kept from fetching from user pages
 * @param smap CR4.SMAP: whether a supervisor is kept from the data of user pages
 * @param protectionKeys CR4.PKE: whether leaves of user pages have a protection key
 * @param pkru rights of the 16 keys, two bits each: no access, no stores
 * @param physicalAddressBits width of guest physical addresses as the guest is told, 32 to 52; higher bits are
 *     reserved
 * @param gigabytePages whether the guest is told of leaves of 1 GiB; if not they are reserved
 */
public record GuestPaging(
        long cr3,
        int levels,
        boolean writeProtect,
        boolean noExecute,
        boolean smep,
        boolean smap,
        boolean protectionKeys,
        int pkru,
        int physicalAddressBits,
        boolean gigabytePages) {
    private static final int MIN_ADDRESS_BITS = 32;
    private static final int MAX_ADDRESS_BITS = 52;

    /** Checks the registers as the processor does when they are loaded. */
    public GuestPaging {
        if (levels != PagingLevel.L512G && levels != PagingLevel.L256T) {
            throw new IllegalArgumentException("guest tables have 4 or 5 levels: levels=" + levels);
        }
        if (physicalAddressBits < MIN_ADDRESS_BITS || physicalAddressBits > MAX_ADDRESS_BITS) {
            throw new IllegalArgumentException("physicalAddressBits is out of range: value=" + physicalAddressBits
                    + ", min=" + MIN_ADDRESS_BITS + ", max=" + MAX_ADDRESS_BITS);
        }
        if (cr3 < 0 || cr3 >>> physicalAddressBits != 0 || (cr3 & Gfn.PAGE_OFFSET_MASK) != 0) {
            throw new IllegalArgumentException("cr3 is no address of a table: cr3=0x" + Long.toHexString(cr3)
                    + ", physicalAddressBits=" + physicalAddressBits);
        }
    }

    /**
     * Returns the registers of a usual guest: write protection and no-execute on, everything else off, addresses of
     * 46 bits, leaves up to 1 GiB.
     *
     * @param cr3 guest physical address of the top table
     * @param levels 4 or 5
     * @return new value
     */
    public static GuestPaging of(long cr3, int levels) {
        return new GuestPaging(cr3, levels, true, true, false, false, false, 0, 46, true);
    }

    /**
     * Returns the same with another top table, as after a MOV to CR3.
     *
     * @param value guest physical address
     * @return new value
     */
    public GuestPaging withCr3(long value) {
        return new GuestPaging(
                value,
                levels,
                writeProtect,
                noExecute,
                smep,
                smap,
                protectionKeys,
                pkru,
                physicalAddressBits,
                gigabytePages);
    }

    /**
     * Returns the same with or without CR0.WP.
     *
     * @param value whether a supervisor obeys read-only pages
     * @return new value
     */
    public GuestPaging withWriteProtect(boolean value) {
        return new GuestPaging(
                cr3, levels, value, noExecute, smep, smap, protectionKeys, pkru, physicalAddressBits, gigabytePages);
    }

    /**
     * Returns the same with or without EFER.NX.
     *
     * @param value whether bit 63 forbids fetches
     * @return new value
     */
    public GuestPaging withNoExecute(boolean value) {
        return new GuestPaging(
                cr3, levels, writeProtect, value, smep, smap, protectionKeys, pkru, physicalAddressBits, gigabytePages);
    }

    /**
     * Returns the same with or without CR4.SMEP.
     *
     * @param value whether a supervisor is kept from fetching from user pages
     * @return new value
     */
    public GuestPaging withSmep(boolean value) {
        return new GuestPaging(
                cr3,
                levels,
                writeProtect,
                noExecute,
                value,
                smap,
                protectionKeys,
                pkru,
                physicalAddressBits,
                gigabytePages);
    }

    /**
     * Returns the same with or without CR4.SMAP.
     *
     * @param value whether a supervisor is kept from the data of user pages
     * @return new value
     */
    public GuestPaging withSmap(boolean value) {
        return new GuestPaging(
                cr3,
                levels,
                writeProtect,
                noExecute,
                smep,
                value,
                protectionKeys,
                pkru,
                physicalAddressBits,
                gigabytePages);
    }

    /**
     * Returns the same with or without CR4.PKE.
     *
     * @param value whether user pages have protection keys
     * @return new value
     */
    public GuestPaging withProtectionKeys(boolean value) {
        return new GuestPaging(
                cr3, levels, writeProtect, noExecute, smep, smap, value, pkru, physicalAddressBits, gigabytePages);
    }

    /**
     * Returns the same with other rights of the protection keys, as after WRPKRU.
     *
     * @param value two bits a key: 0 forbids accesses, 1 forbids stores
     * @return new value
     */
    public GuestPaging withPkru(int value) {
        return new GuestPaging(
                cr3,
                levels,
                writeProtect,
                noExecute,
                smep,
                smap,
                protectionKeys,
                value,
                physicalAddressBits,
                gigabytePages);
    }

    /**
     * Returns the same with another width of guest physical addresses.
     *
     * @param value bits, 32 to 52
     * @return new value
     */
    public GuestPaging withPhysicalAddressBits(int value) {
        return new GuestPaging(
                cr3, levels, writeProtect, noExecute, smep, smap, protectionKeys, pkru, value, gigabytePages);
    }

    /**
     * Returns the same with or without leaves of 1 GiB.
     *
     * @param value whether they are not reserved
     * @return new value
     */
    public GuestPaging withGigabytePages(boolean value) {
        return new GuestPaging(
                cr3, levels, writeProtect, noExecute, smep, smap, protectionKeys, pkru, physicalAddressBits, value);
    }

    /**
     * Returns how many bits linear addresses have. An address is canonical if all bits from the highest of them on
     * are equal; another one is a general protection fault, before any table is looked at.
     *
     * @return 48 or 57
     */
    public int linearAddressBits() {
        return Gfn.PAGE_SHIFT + levels * PagingLevel.INDEX_BITS;
    }

    /**
     * Tells whether a linear address is canonical.
     *
     * @param gva guest linear address
     * @return whether paging can translate it
     */
    public boolean isCanonical(long gva) {
        int shift = Long.SIZE - linearAddressBits();
        return gva << shift >> shift == gva;
    }
}
