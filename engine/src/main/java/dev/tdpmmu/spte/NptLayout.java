package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.VmConfig;

/**
 * Where the MMU keeps what in an NPT entry.
 *
 * <pre>
 *  leaf or table
 *   63 62   54 53 52 51                 12 11 10  9  8  7  6  5  4  3  2  1  0
 *  +--+-------+-----+---------------------+--+--+--+--+--+--+--+-----+--+--+--+
 *  |NX|       |type |       address       |MP|MW|HW|  |PS| D| A| PAT |US|RW| P|
 *  +--+-------+-----+---------------------+--+--+--+--+--+--+--+-----+--+--+--+
 *              | always 0: A/D bits        |  |  |            | 0 is write-back
 *                                          |  |  host-writable
 *                                          |  MMU-writable
 *                                          MMU present
 *
 *  MMIO: present with an address bit that the processor reserves
 *   63 62               52 51 50                    12 11 10  9            3  2  1  0
 *  +--+-------------------+--+------------------------+--+--+---------------+--+--+--+
 *  |x | generation 17:7   | 1|          gfn           | 0| w| generation 6:0| 0| 0| 1|
 *  +--+-------------------+--+------------------------+--+--+---------------+--+--+--+
 * </pre>
 *
 * <p>Nested accesses count as user accesses, so every present entry has US. With 52 address bits none is reserved,
 * and MMIO entries cannot be made. If the host has not enabled no-execute, NX is reserved: no entry has it, and every
 * leaf may be executed, whatever its slot allows.
 *
 * @kvm kvm_mmu_reset_all_pte_masks
 */
final class NptLayout {
    static final long PRESENT = 1L;
    static final long WRITE = 1L << 1;
    static final long USER = 1L << 2;
    static final long CACHE_TYPE = 3L << 3;
    static final long WRITE_BACK = 0;
    static final long ACCESSED = 1L << 5;
    static final long DIRTY = 1L << 6;
    static final long HOST_WRITABLE = 1L << 9;
    static final long MMU_WRITABLE = 1L << 10;
    static final long MMIO_RESERVED = 1L << 51;
    static final long NO_EXECUTE = 1L << 63;

    private static final int ALL_ADDRESS_BITS = 52;

    private NptLayout() {}

    static SpteMasks masks(VmConfig config) {
        boolean mmio = config.mmioCaching() && config.physicalAddressBits() < ALL_ADDRESS_BITS;
        var masks = new SpteMasks();
        boolean noExecute = config.hardware().noExecute();
        masks.name = config.pagingMode() + " a/d" + (noExecute ? "" : " no nx");
        masks.hardwarePresent = PRESENT;
        masks.read = PRESENT | USER;
        masks.write = WRITE;
        masks.execute = PRESENT | USER;
        masks.noExecute = noExecute ? NO_EXECUTE : 0;
        masks.readingAccess = Access.ALL;
        masks.accessed = ACCESSED;
        masks.dirty = DIRTY;
        masks.memoryType = CACHE_TYPE;
        masks.writeBack = WRITE_BACK;
        masks.hostWritable = HOST_WRITABLE;
        masks.mmuWritable = MMU_WRITABLE;
        masks.mmioMask = PRESENT | MMIO_RESERVED | Spte.MMU_PRESENT;
        masks.mmioValue = mmio ? PRESENT | MMIO_RESERVED : SpteFormat.NO_MMIO;
        masks.physicalAddressBits = config.physicalAddressBits();
        return masks;
    }
}
