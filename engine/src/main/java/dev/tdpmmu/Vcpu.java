package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.slot.DirtyRingConsumer;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Objects;

/**
 * A virtual processor: loads, stores, compares and fetches at guest physical addresses, through its own TLB and the
 * VM's second-level page tables.
 *
 * <p>Values are little-endian. Plain accesses take any alignment; one that crosses a page is done byte by byte and is
 * not atomic. Volatile and compare-and-set accesses need natural alignment. An access to an address without slot goes
 * to the {@link MmioHandler} there; without one it throws a {@link GuestAccessException}.
 *
 * <p>Belongs to one thread at a time, platform or virtual; handing it on needs a happens-before, as for any
 * unsynchronised object. An {@link MmioHandler} that an access calls may use the same vCPU again. After the VM is
 * closed every access throws {@link VmClosedException}; after the vCPU is closed, {@link IllegalStateException}.
 */
public final class Vcpu extends GuestEntry implements AutoCloseable {
    private static final long LAST_IN_PAGE_2 = Gfn.PAGE_SIZE - Short.BYTES;
    private static final long LAST_IN_PAGE_4 = Gfn.PAGE_SIZE - Integer.BYTES;
    private static final long LAST_IN_PAGE_8 = Gfn.PAGE_SIZE - Long.BYTES;

    Vcpu(VcpuRun run, long sequenceAddress) {
        super(run, sequenceAddress);
    }

    /**
     * Loads one byte.
     *
     * @param gpa guest physical address
     * @return the byte
     */
    @HotPath
    public byte getByte(long gpa) {
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (byte) run.mmioRead(gpa, Byte.BYTES);
        }
        byte value = GuestBytes.getByte(hpa);
        end();
        return value;
    }

    /**
     * Loads two bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    @HotPath
    public short getShort(long gpa) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_2) {
            return (short) getCrossing(gpa, Short.BYTES);
        }
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (short) run.mmioRead(gpa, Short.BYTES);
        }
        short value = GuestBytes.getShort(hpa);
        end();
        return value;
    }

    /**
     * Loads four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    @HotPath
    public int getInt(long gpa) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_4) {
            return (int) getCrossing(gpa, Integer.BYTES);
        }
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (int) run.mmioRead(gpa, Integer.BYTES);
        }
        int value = GuestBytes.getInt(hpa);
        end();
        return value;
    }

    /**
     * Loads eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    @HotPath
    public long getLong(long gpa) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_8) {
            return getCrossing(gpa, Long.BYTES);
        }
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return run.mmioRead(gpa, Long.BYTES);
        }
        long value = GuestBytes.getLong(hpa);
        end();
        return value;
    }

    private long getCrossing(long gpa, int bytes) {
        long value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= (getByte(gpa + i) & 0xffL) << (i * Byte.SIZE);
        }
        return value;
    }

    /**
     * Stores one byte.
     *
     * @param gpa guest physical address
     * @param value the byte
     */
    @HotPath
    public void putByte(long gpa, byte value) {
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Byte.BYTES, value & 0xffL);
            return;
        }
        GuestBytes.putByte(hpa, value);
        end();
    }

    /**
     * Stores two bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    @HotPath
    public void putShort(long gpa, short value) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_2) {
            putCrossing(gpa, Short.BYTES, value);
            return;
        }
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Short.BYTES, value & 0xffffL);
            return;
        }
        GuestBytes.putShort(hpa, value);
        end();
    }

    /**
     * Stores four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    @HotPath
    public void putInt(long gpa, int value) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_4) {
            putCrossing(gpa, Integer.BYTES, value);
            return;
        }
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Integer.BYTES, value & 0xffff_ffffL);
            return;
        }
        GuestBytes.putInt(hpa, value);
        end();
    }

    /**
     * Stores eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    @HotPath
    public void putLong(long gpa, long value) {
        if ((gpa & Gfn.PAGE_OFFSET_MASK) > LAST_IN_PAGE_8) {
            putCrossing(gpa, Long.BYTES, value);
            return;
        }
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Long.BYTES, value);
            return;
        }
        GuestBytes.putLong(hpa, value);
        end();
    }

    /**
     * Stores byte by byte. Both pages are made writable first, so that an access that cannot be done writes nothing; a
     * device behind one of them gets single bytes.
     */
    private void putCrossing(long gpa, int bytes, long value) {
        int inFirstPage = (int) (Gfn.PAGE_SIZE - (gpa & Gfn.PAGE_OFFSET_MASK));
        run.requireMapped(gpa, inFirstPage, Access.WRITE);
        run.requireMapped(gpa + inFirstPage, bytes - inFirstPage, Access.WRITE);
        for (int i = 0; i < bytes; i++) {
            putByte(gpa + i, (byte) (value >>> (i * Byte.SIZE)));
        }
    }

    /**
     * Loads one byte in the volatile order.
     *
     * @param gpa guest physical address
     * @return the byte
     */
    public byte getByteVolatile(long gpa) {
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (byte) run.mmioRead(gpa, Byte.BYTES);
        }
        byte value = GuestBytes.getByteVolatile(hpa);
        end();
        return value;
    }

    /**
     * Loads two bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 2
     * @return the value
     */
    public short getShortVolatile(long gpa) {
        VcpuRun.checkAligned(gpa, Short.BYTES, Access.READ);
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (short) run.mmioRead(gpa, Short.BYTES);
        }
        short value = GuestBytes.getShortVolatile(hpa);
        end();
        return value;
    }

    /**
     * Loads four bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 4
     * @return the value
     */
    public int getIntVolatile(long gpa) {
        VcpuRun.checkAligned(gpa, Integer.BYTES, Access.READ);
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return (int) run.mmioRead(gpa, Integer.BYTES);
        }
        int value = GuestBytes.getIntVolatile(hpa);
        end();
        return value;
    }

    /**
     * Loads eight bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 8
     * @return the value
     */
    public long getLongVolatile(long gpa) {
        VcpuRun.checkAligned(gpa, Long.BYTES, Access.READ);
        long hpa = beginRead(gpa);
        if (hpa < 0) {
            return run.mmioRead(gpa, Long.BYTES);
        }
        long value = GuestBytes.getLongVolatile(hpa);
        end();
        return value;
    }

    /**
     * Stores one byte in the volatile order.
     *
     * @param gpa guest physical address
     * @param value the byte
     */
    public void putByteVolatile(long gpa, byte value) {
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Byte.BYTES, value & 0xffL);
            return;
        }
        GuestBytes.putByteVolatile(hpa, value);
        end();
    }

    /**
     * Stores two bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 2
     * @param value the value
     */
    public void putShortVolatile(long gpa, short value) {
        VcpuRun.checkAligned(gpa, Short.BYTES, Access.WRITE);
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Short.BYTES, value & 0xffffL);
            return;
        }
        GuestBytes.putShortVolatile(hpa, value);
        end();
    }

    /**
     * Stores four bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 4
     * @param value the value
     */
    public void putIntVolatile(long gpa, int value) {
        VcpuRun.checkAligned(gpa, Integer.BYTES, Access.WRITE);
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Integer.BYTES, value & 0xffff_ffffL);
            return;
        }
        GuestBytes.putIntVolatile(hpa, value);
        end();
    }

    /**
     * Stores eight bytes in the volatile order.
     *
     * @param gpa guest physical address, multiple of 8
     * @param value the value
     */
    public void putLongVolatile(long gpa, long value) {
        VcpuRun.checkAligned(gpa, Long.BYTES, Access.WRITE);
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            run.mmioWrite(gpa, Long.BYTES, value);
            return;
        }
        GuestBytes.putLongVolatile(hpa, value);
        end();
    }

    /**
     * Replaces four bytes if they have the expected value. Counts as a store even if it fails, as on hardware.
     *
     * @param gpa guest physical address, multiple of 4
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @throws GuestAccessException also if a device is there
     */
    public boolean compareAndSetInt(long gpa, int expected, int value) {
        VcpuRun.checkAligned(gpa, Integer.BYTES, Access.WRITE);
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            return run.compareAndSetEmulated(gpa, Integer.BYTES, expected, value);
        }
        boolean replaced = GuestBytes.compareAndSetInt(hpa, expected, value);
        end();
        return replaced;
    }

    /**
     * Replaces eight bytes if they have the expected value. Counts as a store even if it fails, as on hardware.
     *
     * @param gpa guest physical address, multiple of 8
     * @param expected value that must be there
     * @param value new value
     * @return whether it was replaced
     * @throws GuestAccessException also if a device is there
     */
    public boolean compareAndSetLong(long gpa, long expected, long value) {
        VcpuRun.checkAligned(gpa, Long.BYTES, Access.WRITE);
        long hpa = beginWrite(gpa);
        if (hpa < 0) {
            return run.compareAndSetEmulated(gpa, Long.BYTES, expected, value);
        }
        boolean replaced = GuestBytes.compareAndSetLong(hpa, expected, value);
        end();
        return replaced;
    }

    /**
     * Fetches the four bytes at an address as instructions.
     *
     * @param gpa guest physical address, multiple of 4
     * @return the bytes
     * @throws GuestAccessException also if a device is there
     */
    @HotPath
    public int fetch(long gpa) {
        VcpuRun.checkAligned(gpa, Integer.BYTES, Access.EXECUTE);
        VcpuRun r = run;
        r.accesses++;
        r.slot.enter(ReaderSlot.IN_GUEST);
        long hpa = VcpuRun.MMIO;
        // In proof runs the look-up may throw, and only the way through the run leaves the guest then.
        if (!Debug.PROVE && HostWords.readVolatile(sequenceAddress) == r.seenSequence) {
            hpa = r.tlb.executeFrame(gpa);
        }
        if (hpa < 0) {
            hpa = r.translateFetch(gpa);
        }
        int value = GuestBytes.getInt(hpa);
        end();
        return value;
    }

    /**
     * Copies guest memory out. Page by page: other vCPUs may write between two pages.
     *
     * @param gpa guest physical address of the first byte
     * @param target where to
     * @param offset first index in the target
     * @param length bytes, not negative
     * @throws GuestAccessException if a part has no bytes; what came before it was copied
     */
    public void read(long gpa, byte[] target, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, target.length);
        int done = 0;
        while (done < length) {
            long at = gpa + done;
            int part = (int) Math.min(length - done, Gfn.PAGE_SIZE - (at & Gfn.PAGE_OFFSET_MASK));
            long hpa = beginRead(at);
            if (hpa < 0) {
                throw run.bulkOnMmio(at, Access.READ);
            }
            GuestBytes.copyOut(hpa, target, offset + done, part);
            end();
            done += part;
        }
    }

    /**
     * Copies into guest memory. Page by page: other vCPUs may read between two pages.
     *
     * @param gpa guest physical address of the first byte
     * @param source where from
     * @param offset first index in the source
     * @param length bytes, not negative
     * @throws GuestAccessException if a part has no bytes; what came before it was copied
     */
    public void write(long gpa, byte[] source, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, source.length);
        int done = 0;
        while (done < length) {
            long at = gpa + done;
            int part = (int) Math.min(length - done, Gfn.PAGE_SIZE - (at & Gfn.PAGE_OFFSET_MASK));
            long hpa = beginWrite(at);
            if (hpa < 0) {
                run.writeEmulated(at, source, offset + done, part);
            } else {
                GuestBytes.copyIn(hpa, source, offset + done, part);
                end();
            }
            done += part;
        }
    }

    /**
     * Makes an access without its data: translates with all effects (faults, A and D bits, TLB fill), reads and writes
     * nothing. Works for backings without bytes.
     *
     * @param gpa guest physical address
     * @param access one bit of {@link Access}
     * @return whether memory is there; false if a device would do the access
     */
    @HotPath
    public boolean touch(long gpa, int access) {
        return run.touch(gpa, access);
    }

    /** {@return how many accesses this vCPU has made} */
    public long accesses() {
        return run.accesses();
    }

    /**
     * Returns how many accesses found no translation cached.
     *
     * @return count
     */
    public long tlbMisses() {
        return run.tlbMisses;
    }

    /**
     * Returns how many times this vCPU left the guest because of a violation or misconfiguration.
     *
     * @return count
     */
    public long exits() {
        return run.exits;
    }

    /**
     * Sets who is told of every exit.
     *
     * @param observer told on this vCPU's thread; null for nobody
     */
    public void observe(FaultObserver observer) {
        run.observer = observer;
    }

    /**
     * Hands out what this vCPU has stored to since the last call, if the VM logs in rings. The pages are logged again
     * only after {@link Vm#resetDirtyRings}; copy them after that.
     *
     * @param consumer told of each page
     * @param max most pages to hand out, not negative
     * @return how many were
     * @locking one thread at a time; this vCPU may run meanwhile
     */
    public int collectDirty(DirtyRingConsumer consumer, int max) {
        return run.openRing().collect(consumer, max);
    }

    /**
     * Sets who makes room when this vCPU's ring is full. Without a handler the access that finds it full throws a
     * {@link GuestAccessException}, and may be done again after a reset.
     *
     * @param handler called on this vCPU's thread, outside every section; collects and resets, or waits until somebody
     *     else has; null for nobody
     */
    public void onDirtyRingFull(Runnable handler) {
        run.onDirtyRingFull(handler);
    }

    /**
     * Turns the guest's own paging on, or changes its registers. Accesses at guest physical addresses stay as they are.
     *
     * @param paging the guest's registers
     * @return the vCPU at linear addresses; each call returns the same object
     */
    public GuestLinear enablePaging(GuestPaging paging) {
        return run.enablePaging(paging);
    }

    /**
     * Returns the vCPU at linear addresses.
     *
     * @return what {@link #enablePaging} returned
     * @throws IllegalStateException if the guest's own paging was never turned on
     */
    public GuestLinear linear() {
        if (run.linear == null) {
            throw new IllegalStateException("the guest's paging is off: vcpu=" + name());
        }
        return run.linear.view;
    }

    /**
     * Explains why an access is allowed or refused as this vCPU would do it, with what its caches hold, and without any
     * effect.
     *
     * @param gpa guest physical address
     * @param access bits of {@link Access}, at least one
     * @return what the caches hold, every entry on the way, the verdict, and what the MMU would do with the fault
     * @locking this vCPU's thread, or any while the vCPU makes no access
     */
    public WalkExplanation explain(long gpa, int access) {
        return run.explain(gpa, access);
    }

    /** {@return the name in reports} */
    public String name() {
        return run.name();
    }

    VcpuRun run() {
        return run;
    }

    /** Gives back what the vCPU holds. No access may be under way. A second call, or one after the VM's close, does nothing. */
    @Override
    public void close() {
        run.close();
    }
}
