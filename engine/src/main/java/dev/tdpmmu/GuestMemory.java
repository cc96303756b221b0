package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.slot.HostFaultResult;
import dev.tdpmmu.slot.HostPageWord;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Objects;

/**
 * A device's view of guest memory: the same bytes, found through the memory slots, without any vCPU's TLB and without
 * faults.
 *
 * <p>Accesses stay within one slot. Unlike a vCPU, a device may write to a read-only slot: that is how a ROM gets its
 * content. What it writes to a slot whose stores are logged is logged, in the slot's bitmap. Safe for use by many
 * threads. An access that races with the removal of its slot is done before it or throws; the frames stay alive while
 * it runs.
 *
 * <p>On pages of the host ({@link dev.tdpmmu.slot.HostPages}) an access is done page by page, and makes the pages
 * present.
 */
public final class GuestMemory {
    private final Vm vm;

    GuestMemory(Vm vm) {
        this.vm = vm;
    }

    /** What is done to the bytes of one access that lie in one frame. */
    private interface OnBytes {
        /** Does it, inside the epoch that keeps the frame alive. */
        long apply(long hpa);
    }

    /**
     * Loads one byte.
     *
     * @param gpa guest physical address
     * @return the byte
     */
    public byte getByte(long gpa) {
        return (byte) load(gpa, Byte.BYTES);
    }

    /**
     * Loads four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    public int getInt(long gpa) {
        return (int) load(gpa, Integer.BYTES);
    }

    /**
     * Loads eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    public long getLong(long gpa) {
        return load(gpa, Long.BYTES);
    }

    /**
     * Stores one byte.
     *
     * @param gpa guest physical address
     * @param value the byte
     */
    public void putByte(long gpa, byte value) {
        store(gpa, Byte.BYTES, value);
    }

    /**
     * Stores four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    public void putInt(long gpa, int value) {
        store(gpa, Integer.BYTES, value);
    }

    /**
     * Stores eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    public void putLong(long gpa, long value) {
        store(gpa, Long.BYTES, value);
    }

    private long load(long gpa, int bytes) {
        if (isSplit(gpa, bytes)) {
            byte[] buffer = new byte[bytes];
            read(gpa, buffer, 0, bytes);
            return fromBytes(buffer);
        }
        return access(gpa, bytes, Access.READ, hpa -> switch (bytes) {
            case Byte.BYTES -> GuestBytes.getByte(hpa);
            case Short.BYTES -> GuestBytes.getShort(hpa);
            case Integer.BYTES -> GuestBytes.getInt(hpa);
            default -> GuestBytes.getLong(hpa);
        });
    }

    /** Stores 1, 2, 4 or 8 bytes. */
    void store(long gpa, int bytes, long value) {
        if (isSplit(gpa, bytes)) {
            byte[] buffer = new byte[bytes];
            for (int i = 0; i < bytes; i++) {
                buffer[i] = (byte) (value >>> (i * Byte.SIZE));
            }
            write(gpa, buffer, 0, bytes);
            return;
        }
        access(gpa, bytes, Access.WRITE, hpa -> {
            switch (bytes) {
                case Byte.BYTES -> GuestBytes.putByte(hpa, (byte) value);
                case Short.BYTES -> GuestBytes.putShort(hpa, (short) value);
                case Integer.BYTES -> GuestBytes.putInt(hpa, (int) value);
                default -> GuestBytes.putLong(hpa, value);
            }
            return 0;
        });
    }

    /** Replaces 4 or 8 aligned bytes if they have the expected value. */
    boolean compareAndSet(long gpa, int bytes, long expected, long value) {
        return access(gpa, bytes, Access.WRITE, hpa -> {
                    boolean replaced = bytes == Integer.BYTES
                            ? GuestBytes.compareAndSetInt(hpa, (int) expected, (int) value)
                            : GuestBytes.compareAndSetLong(hpa, expected, value);
                    return replaced ? 1 : 0;
                })
                != 0;
    }

    private static long fromBytes(byte[] buffer) {
        long value = 0;
        for (int i = 0; i < buffer.length; i++) {
            value |= (buffer[i] & 0xffL) << (i * Byte.SIZE);
        }
        return value;
    }

    /**
     * Copies guest memory out.
     *
     * @param gpa guest physical address of the first byte
     * @param target where to
     * @param offset first index in the target
     * @param length bytes, not negative
     */
    public void read(long gpa, byte[] target, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, target.length);
        copy(gpa, length, Access.READ, (hpa, done, part) -> GuestBytes.copyOut(hpa, target, offset + done, part));
    }

    /**
     * Copies into guest memory.
     *
     * @param gpa guest physical address of the first byte
     * @param source where from
     * @param offset first index in the source
     * @param length bytes, not negative
     */
    public void write(long gpa, byte[] source, int offset, int length) {
        Objects.checkFromIndexSize(offset, length, source.length);
        copy(gpa, length, Access.WRITE, (hpa, done, part) -> GuestBytes.copyIn(hpa, source, offset + done, part));
    }

    /** What is done to a part of a copy. */
    private interface OnPart {
        /** Copies {@code part} bytes, {@code done} bytes behind the first. */
        void apply(long hpa, int done, int part);
    }

    private void copy(long gpa, int length, int access, OnPart part) {
        if (isContiguous(gpa)) {
            access(gpa, length, access, hpa -> {
                part.apply(hpa, 0, length);
                return 0;
            });
            return;
        }
        // All of it or nothing: page by page, an access could run into the next slot.
        check(find(gpa), gpa, length, access);
        int done = 0;
        while (done < length) {
            int soFar = done;
            long at = gpa + done;
            int bytes = (int) Math.min(length - done, Gfn.PAGE_SIZE - (at & Gfn.PAGE_OFFSET_MASK));
            access(at, bytes, access, hpa -> {
                part.apply(hpa, soFar, bytes);
                return 0;
            });
            done += bytes;
        }
    }

    /** Whether bytes of one access may lie in frames that are not neighbours. */
    private boolean isSplit(long gpa, int bytes) {
        return (gpa & Gfn.PAGE_OFFSET_MASK) > Gfn.PAGE_SIZE - bytes && !isContiguous(gpa);
    }

    /** Whether the slot's frames are neighbours; one without bytes counts as such, since the access itself will say so. */
    private boolean isContiguous(long gpa) {
        MemSlot slot = find(gpa);
        return !slot.exists() || slot.isLinear();
    }

    private MemSlot find(long gpa) {
        return gpa < 0 ? MemSlot.NONE : vm.slots().current().find(Gfn.of(gpa));
    }

    /**
     * Does one access in an epoch. The slots are read inside it: a slot that is removed later gives its frames back
     * only after a grace period, so they outlive the access. A store is logged after it was made: a mark that comes
     * first could be harvested, and the page copied, before the bytes are there.
     */
    private long access(long gpa, int length, int access, OnBytes action) {
        ReaderSlot reader = vm.takeReader();
        try {
            while (true) {
                reader.enter(ReaderSlot.WALKING);
                vm.checkOpen();
                MemSlot slot = find(gpa);
                check(slot, gpa, length, access);
                long hpa = slot.isLinear() ? slot.hpa(Gfn.of(gpa)) : hostFrame(slot, gpa, access);
                if (hpa >= 0) {
                    long result = action.apply(hpa | gpa & Gfn.PAGE_OFFSET_MASK);
                    if (access == Access.WRITE) {
                        DirtyLogging.markStore(slot, gpa, length);
                    }
                    return result;
                }
                reader.leave(ReaderSlot.OUTSIDE);
                faultIn(slot, gpa, access);
            }
        } finally {
            vm.giveReader(reader);
        }
    }

    private static void check(MemSlot slot, long gpa, int length, int access) {
        if (!slot.exists() || gpa + length > slot.gpa() + slot.bytes()) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.NO_SLOT, gpa, access, ", bytes=" + length + ", slot=" + slot);
        }
        if (!slot.hasBytes()) {
            throw new GuestAccessException(GuestAccessException.Reason.NO_BYTES, gpa, access);
        }
    }

    /** The frame of a page of the host, or -1 if the host has to be asked for one first. */
    private static long hostFrame(MemSlot slot, long gpa, int access) {
        long word = slot.hostPages().word(slot.hostPage(Gfn.of(gpa)));
        boolean usable = access == Access.WRITE ? HostPageWord.isWritable(word) : HostPageWord.isPresent(word);
        return usable ? HostPageWord.hpa(word) : -1;
    }

    private static void faultIn(MemSlot slot, long gpa, int access) {
        HostFaultResult result = slot.hostPages().faultIn(slot.hostPage(Gfn.of(gpa)), access == Access.WRITE);
        if (result == HostFaultResult.PROTECTED) {
            throw new GuestAccessException(GuestAccessException.Reason.HOST_READ_ONLY, gpa, access);
        }
    }
}
