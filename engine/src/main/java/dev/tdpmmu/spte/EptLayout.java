package dev.tdpmmu.spte;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.VmConfig;

/**
 * Where the MMU keeps what in an EPT entry.
 *
 * <pre>
 *  leaf or table
 *   63 62 59  58  57  56 55  54 53 52 51          12 11 10  9  8  7  6 5  3  2  1  0
 *  +--+-----+---+---+---+--+---+-----+--------------+--+--+--+--+--+--+----+--+--+--+
 *  |  |     |MW |HW |X' |  |R' |type |   address    |MP|XU| D| A|PS|  |type| X| W| R|
 *  +--+-----+---+---+---+--+---+-----+--------------+--+--+--+--+--+--+----+--+--+--+
 *            |   |   |      |   |                    |              |  memory type, leaf: 6 is write-back
 *            |   |   +------+ R and X of a leaf      |  |           ignore-PAT, unused
 *            |   |     whose accesses are tracked    |  user-execute, set wherever X is
 *            |   |                                   MMU present
 *            |   host-writable       | 0 A/D bits, 1 none (2, write-protect only, is never made: no nested guests)
 *            MMU-writable
 *
 *  MMIO: W and X without R, a misconfiguration for hardware
 *   63 62               52 51                       12 11 10  9            3  2  1  0
 *  +--+-------------------+---------------------------+--+--+---------------+--+--+--+
 *  |x | generation 17:7   |           gfn             | 0| w| generation 6:0| 1| 1| 0|
 *  +--+-------------------+---------------------------+--+--+---------------+--+--+--+
 * </pre>
 *
 * <p>Hardware ignores bits 11 and 52 to 63 of an entry as we set up its controls; bits 8 and 9 only without A/D bits,
 * bit 10 only without mode-based execute control. With it X speaks of fetches from supervisor-mode linear addresses and
 * XU of those from user-mode ones. The MMU tells no guest modes apart, so it gives and takes both together, and a
 * tracked leaf needs to save X alone.
 *
 * @kvm kvm_mmu_set_ept_masks
 */
final class EptLayout {
    static final long READ = 1L;
    static final long WRITE = 1L << 1;
    static final long EXECUTE = 1L << 2;
    static final long READ_WRITE_EXECUTE = READ | WRITE | EXECUTE;
    static final long MEMORY_TYPE = 7L << 3;
    static final long WRITE_BACK = 6L << 3;
    static final long ACCESSED = 1L << 8;
    static final long DIRTY = 1L << 9;
    static final long USER_EXECUTE = 1L << 10;
    static final long HOST_WRITABLE = 1L << 57;
    static final long MMU_WRITABLE = 1L << 58;

    private EptLayout() {}

    static SpteMasks masks(VmConfig config) {
        boolean accessedDirty = config.accessedDirty() == AccessedDirty.ON;
        boolean modeBasedExecute = config.hardware().modeBasedExecute();
        long userExecute = modeBasedExecute ? USER_EXECUTE : 0;
        var masks = new SpteMasks();
        masks.name = config.pagingMode()
                + (accessedDirty ? " a/d" : " no a/d")
                + (config.executeOnly() ? "" : " no x-only")
                + (modeBasedExecute ? " xu" : "");
        masks.hardwarePresent = READ_WRITE_EXECUTE | userExecute;
        masks.read = READ;
        masks.write = WRITE;
        masks.execute = EXECUTE | userExecute;
        // W without R is a misconfiguration on every processor, X without R on those that lack execute-only entries.
        masks.readingAccess = config.executeOnly() ? Access.READ | Access.WRITE : Access.ALL;
        masks.accessed = accessedDirty ? ACCESSED : 0;
        masks.dirty = accessedDirty ? DIRTY : 0;
        masks.memoryType = MEMORY_TYPE;
        masks.writeBack = WRITE_BACK;
        masks.hostWritable = HOST_WRITABLE;
        masks.mmuWritable = MMU_WRITABLE;
        masks.mmioMask = READ_WRITE_EXECUTE | Spte.MMU_PRESENT;
        masks.mmioValue = config.mmioCaching() ? WRITE | EXECUTE : SpteFormat.NO_MMIO;
        masks.physicalAddressBits = config.physicalAddressBits();
        return masks;
    }
}
