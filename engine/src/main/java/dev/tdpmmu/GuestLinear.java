package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.hardware.GuestPageFault;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.LinearAccess;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Objects;
import java.util.Optional;

/**
 * A vCPU whose guest has its own paging on: loads, stores, compares and fetches at linear addresses, through the
 * guest's tables in guest memory and the VM's second-level tables.
 *
 * <p>As {@link Vcpu} in everything else: values are little-endian, plain accesses take any alignment and are done
 * byte by byte across pages, devices and watched pages are served by guest physical address. An access that the
 * guest's tables do not allow goes to the {@link PageFaultHandler}, the guest's kernel so to speak, or throws a
 * {@link GuestPageFaultException}; a linear address that is not canonical throws a
 * {@link NonCanonicalAddressException}.
 *
 * <p>What the guest changes in its tables is seen only when the TLB forgets the old: a guest that takes something
 * away calls {@link #invlpg} or {@link #moveToCr3}, on every vCPU. Belongs to one thread at a time, with its vCPU.
 */
public final class GuestLinear {
    private static final long LAST_IN_PAGE_2 = Gfn.PAGE_SIZE - Short.BYTES;
    private static final long LAST_IN_PAGE_4 = Gfn.PAGE_SIZE - Integer.BYTES;
    private static final long LAST_IN_PAGE_8 = Gfn.PAGE_SIZE - Long.BYTES;

    private final LinearRun linear;
    private final VcpuRun run;
    private final LinearTlb tlb;
    private final long sequenceAddress;

    GuestLinear(LinearRun linear, long sequenceAddress) {
        this.linear = linear;
        this.run = linear.run;
        this.tlb = linear.tlb;
        this.sequenceAddress = sequenceAddress;
    }

    /** Enters the guest and returns the host physical address, or leaves again and returns {@link VcpuRun#MMIO}. */
    @HotPath
    private long begin(long gva, int access) {
        VcpuRun r = run;
        r.accesses++;
        r.slot.enter(ReaderSlot.IN_GUEST);
        // In proof runs the look-up may throw, and only the way through the run leaves the guest then.
        if (!Debug.PROVE && HostWords.readVolatile(sequenceAddress) == r.seenSequence && linear.isCanonical(gva)) {
            int linearAccess = access | linear.mode;
            long hpa = Debug.PROVE ? linear.judgedHit(gva, linearAccess) : tlb.translate(gva, linearAccess);
            if (hpa >= 0) {
                return hpa;
            }
        }
        return linear.translate(gva, access);
    }

    @HotPath
    private void end() {
        run.slot.leave(ReaderSlot.OUTSIDE);
    }

    /**
     * Loads one byte.
     *
     * @param gva guest linear address
     * @return the byte
     */
    @HotPath
    public byte getByte(long gva) {
        long hpa = begin(gva, Access.READ);
        if (hpa < 0) {
            return (byte) run.mmioRead(linear.gpa(), Byte.BYTES);
        }
        byte value = GuestBytes.getByte(hpa);
        end();
        return value;
    }

    /**
     * Loads two bytes.
     *
     * @param gva guest linear address, any alignment
     * @return the value
     */
    @HotPath
    public short getShort(long gva) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_2) {
            return (short) getCrossing(gva, Short.BYTES);
        }
        long hpa = begin(gva, Access.READ);
        if (hpa < 0) {
            return (short) run.mmioRead(linear.gpa(), Short.BYTES);
        }
        short value = GuestBytes.getShort(hpa);
        end();
        return value;
    }

    /**
     * Loads four bytes.
     *
     * @param gva guest linear address, any alignment
     * @return the value
     */
    @HotPath
    public int getInt(long gva) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_4) {
            return (int) getCrossing(gva, Integer.BYTES);
        }
        long hpa = begin(gva, Access.READ);
        if (hpa < 0) {
            return (int) run.mmioRead(linear.gpa(), Integer.BYTES);
        }
        int value = GuestBytes.getInt(hpa);
        end();
        return value;
    }

    /**
     * Loads eight bytes.
     *
     * @param gva guest linear address, any alignment
     * @return the value
     */
    @HotPath
    public long getLong(long gva) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_8) {
            return getCrossing(gva, Long.BYTES);
        }
        long hpa = begin(gva, Access.READ);
        if (hpa < 0) {
            return run.mmioRead(linear.gpa(), Long.BYTES);
        }
        long value = GuestBytes.getLong(hpa);
        end();
        return value;
    }

    private long getCrossing(long gva, int bytes) {
        linear.checkCanonical(gva + bytes - 1);
        long value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= (getByte(gva + i) & 0xffL) << (i * Byte.SIZE);
        }
        return value;
    }

    /**
     * Stores one byte.
     *
     * @param gva guest linear address
     * @param value the byte
     */
    @HotPath
    public void putByte(long gva, byte value) {
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            run.mmioWrite(linear.gpa(), Byte.BYTES, value & 0xffL);
            return;
        }
        GuestBytes.putByte(hpa, value);
        end();
    }

    /**
     * Stores two bytes.
     *
     * @param gva guest linear address, any alignment
     * @param value the value
     */
    @HotPath
    public void putShort(long gva, short value) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_2) {
            putCrossing(gva, Short.BYTES, value);
            return;
        }
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            run.mmioWrite(linear.gpa(), Short.BYTES, value & 0xffffL);
            return;
        }
        GuestBytes.putShort(hpa, value);
        end();
    }

    /**
     * Stores four bytes.
     *
     * @param gva guest linear address, any alignment
     * @param value the value
     */
    @HotPath
    public void putInt(long gva, int value) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_4) {
            putCrossing(gva, Integer.BYTES, value);
            return;
        }
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            run.mmioWrite(linear.gpa(), Integer.BYTES, value & 0xffff_ffffL);
            return;
        }
        GuestBytes.putInt(hpa, value);
        end();
    }

    /**
     * Stores eight bytes.
     *
     * @param gva guest linear address, any alignment
     * @param value the value
     */
    @HotPath
    public void putLong(long gva, long value) {
        if ((gva & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_8) {
            putCrossing(gva, Long.BYTES, value);
            return;
        }
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            run.mmioWrite(linear.gpa(), Long.BYTES, value);
            return;
        }
        GuestBytes.putLong(hpa, value);
        end();
    }

    /**
     * Stores byte by byte. Both pages are made writable first, so that an access that cannot be done writes nothing.
     */
    private void putCrossing(long gva, int bytes, long value) {
        linear.checkCanonical(gva + bytes - 1);
        int inFirstPage = (int) (Gfn.PAGE_SIZE - (gva & Gfn.PAGE_OFFSET_MASK));
        requireWritable(gva, inFirstPage);
        requireWritable(gva + inFirstPage, bytes - inFirstPage);
        for (int i = 0; i < bytes; i++) {
            putByte(gva + i, (byte) (value >>> (i * Byte.SIZE)));
        }
    }

    private void requireWritable(long gva, int bytes) {
        if (!linear.touch(gva, Access.WRITE)) {
            run.requireMapped(linear.gpa(), bytes, Access.WRITE);
        }
    }

    /**
     * Replaces four bytes if they have the expected value. Counts as a store even if it fails, as on hardware.
     *
     * @param gva guest linear address, multiple of 4
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @throws GuestAccessException also if a device is there
     */
    public boolean compareAndSetInt(long gva, int expected, int value) {
        VcpuRun.checkAligned(gva, Integer.BYTES, Access.WRITE);
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            return run.compareAndSetEmulated(linear.gpa(), Integer.BYTES, expected, value);
        }
        boolean replaced = GuestBytes.compareAndSetInt(hpa, expected, value);
        end();
        return replaced;
    }

    /**
     * Replaces eight bytes if they have the expected value. Counts as a store even if it fails, as on hardware.
     *
     * @param gva guest linear address, multiple of 8
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @throws GuestAccessException also if a device is there
     */
    public boolean compareAndSetLong(long gva, long expected, long value) {
        VcpuRun.checkAligned(gva, Long.BYTES, Access.WRITE);
        long hpa = begin(gva, Access.WRITE);
        if (hpa < 0) {
            return run.compareAndSetEmulated(linear.gpa(), Long.BYTES, expected, value);
        }
        boolean replaced = GuestBytes.compareAndSetLong(hpa, expected, value);
        end();
        return replaced;
    }

    /**
     * Fetches the four bytes at an address as instructions.
     *
     * @param gva guest linear address, multiple of 4
     * @return the bytes
     * @throws GuestAccessException also if a device is there
     */
    @HotPath
    public int fetch(long gva) {
        VcpuRun.checkAligned(gva, Integer.BYTES, Access.EXECUTE);
        long hpa = begin(gva, Access.EXECUTE);
        if (hpa < 0) {
            throw run.fetchFromMmio(linear.gpa());
        }
        int value = GuestBytes.getInt(hpa);
        end();
        return value;
    }

    /**
     * Copies guest memory out. Page by page: other vCPUs may write between two pages.
     *
     * @param gva guest linear address of the first byte
     * @param target where to
     * @param offset first index in the target
     * @param length bytes, not negative
     * @throws GuestAccessException if a part has no bytes; what came before it was copied
     */
    public void read(long gva, byte[] target, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, target.length);
        int done = 0;
        while (done < length) {
            long at = gva + done;
            int part = (int) Math.min(length - done, Gfn.PAGE_SIZE - (at & Gfn.PAGE_OFFSET_MASK));
            long hpa = begin(at, Access.READ);
            if (hpa < 0) {
                throw run.bulkOnMmio(linear.gpa(), Access.READ);
            }
            GuestBytes.copyOut(hpa, target, offset + done, part);
            end();
            done += part;
        }
    }

    /**
     * Copies into guest memory. Page by page: other vCPUs may read between two pages.
     *
     * @param gva guest linear address of the first byte
     * @param source where from
     * @param offset first index in the source
     * @param length bytes, not negative
     * @throws GuestAccessException if a part has no bytes; what came before it was copied
     */
    public void write(long gva, byte[] source, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, source.length);
        int done = 0;
        while (done < length) {
            long at = gva + done;
            int part = (int) Math.min(length - done, Gfn.PAGE_SIZE - (at & Gfn.PAGE_OFFSET_MASK));
            long hpa = begin(at, Access.WRITE);
            if (hpa < 0) {
                run.writeEmulated(linear.gpa(), source, offset + done, part);
            } else {
                GuestBytes.copyIn(hpa, source, offset + done, part);
                end();
            }
            done += part;
        }
    }

    /**
     * Makes an access without its data: translates with all effects, also in the guest's tables, reads and writes
     * nothing. Works for backings without bytes behind the last translation.
     *
     * @param gva guest linear address
     * @param access one bit of {@link Access}
     * @return whether memory is there; false if a device would do the access
     */
    public boolean touch(long gva, int access) {
        return linear.touch(gva, access);
    }

    /**
     * As {@link #touch}, but tells of a page fault instead of raising it. The {@link PageFaultHandler} is not asked.
     *
     * @param gva guest linear address
     * @param access one bit of {@link Access}
     * @return the page fault that the access would raise; empty if it would raise none
     */
    public Optional<GuestPageFault> probe(long gva, int access) {
        return linear.probe(gva, access);
    }

    /**
     * Sets the guest's kernel: who is told of page faults. Without one they throw.
     *
     * @param handler called on this vCPU's thread, outside the guest; null for nobody
     */
    public void onPageFault(PageFaultHandler handler) {
        linear.onPageFault(handler);
    }

    /** {@return the guest's registers} */
    public GuestPaging paging() {
        return linear.paging();
    }

    /**
     * Writes the guest's registers, and has the TLB forget what the change of each of them makes a processor forget:
     * {@link LinearTlb#load}. Registers that are the same forget nothing, not even CR3; {@link #moveToCr3} does.
     *
     * @param registers from the next access on
     */
    public void paging(GuestPaging registers) {
        linear.load(registers);
    }

    /**
     * Moves to CR3: another top table, or the same to forget what is cached. Global pages stay.
     *
     * @param cr3 guest physical address of the top table
     */
    public void moveToCr3(long cr3) {
        linear.load(linear.paging().withCr3(cr3));
        tlb.flushNonGlobal(tlb.vpid());
    }

    /**
     * Sets who makes the accesses from now on.
     *
     * @param isUser true for CPL 3, false for a supervisor
     */
    public void user(boolean isUser) {
        setMode(LinearAccess.USER, isUser);
    }

    /**
     * Sets EFLAGS.AC: whether explicit accesses of a supervisor go to user pages in spite of SMAP.
     *
     * @param isSet as after STAC, else as after CLAC
     */
    public void ac(boolean isSet) {
        setMode(LinearAccess.AC, isSet);
    }

    /**
     * Makes the accesses from now on the processor's own, as those to descriptor tables: a supervisor's, whatever CPL
     * and AC are.
     *
     * @param isImplicit true for the processor's own accesses, false for the guest's
     */
    public void implicit(boolean isImplicit) {
        setMode(LinearAccess.IMPLICIT, isImplicit);
    }

    private void setMode(int bit, boolean isSet) {
        linear.mode = isSet ? linear.mode | bit : linear.mode & ~bit;
    }

    /** {@return the VPID (EPT) or ASID (NPT) that tags what is cached now} */
    public int vpid() {
        return tlb.vpid();
    }

    /**
     * Changes the VPID or ASID. What is cached under another one stays and is not used.
     *
     * @param vpid 1 to 65535
     */
    public void vpid(int vpid) {
        tlb.useVpid(vpid);
    }

    /**
     * Forgets one page, of whatever size, global or not, and all guest tables.
     *
     * @param gva any linear address of the page; one that is not canonical does nothing
     */
    public void invlpg(long gva) {
        if (linear.isCanonical(gva)) {
            tlb.flushPage(tlb.vpid(), gva);
        }
    }

    /**
     * Executes INVVPID on the processor of this vCPU, as its hypervisor does.
     *
     * @param type what is forgotten
     * @param vpid 1 to 65535; not looked at by {@link InvvpidType#ALL_CONTEXTS}
     * @param gva canonical linear address, of {@link InvvpidType#INDIVIDUAL_ADDRESS} only
     * @throws NonCanonicalAddressException if the type needs an address and this is none
     */
    public void invvpid(InvvpidType type, int vpid, long gva) {
        switch (type) {
            case INDIVIDUAL_ADDRESS -> {
                linear.checkCanonical(gva);
                tlb.flushPage(vpid, gva);
            }
            case SINGLE_CONTEXT -> tlb.flushVpid(vpid);
            case ALL_CONTEXTS -> tlb.flushAll();
            case SINGLE_CONTEXT_RETAINING_GLOBALS -> tlb.flushNonGlobal(vpid);
        }
    }

    /**
     * Executes INVEPT on the processor of this vCPU, as its hypervisor does: everything that was made through the
     * second level is forgotten, translations of guest physical addresses too. One root is cached at a time, so the
     * single context and all contexts are the same.
     */
    public void invept() {
        run.flushTlbs();
    }
}
