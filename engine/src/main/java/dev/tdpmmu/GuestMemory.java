package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Objects;

/**
 * A device's view of guest memory: the same bytes, found through the memory slots, without any vCPU's TLB and without
 * faults.
 *
 * <p>Accesses stay within one slot. Unlike a vCPU, a device may write to a read-only slot: that is how a ROM gets its
 * content. Safe for use by many threads. An access that races with the removal of its slot is done before it or throws;
 * the frames stay alive while it runs.
 */
public final class GuestMemory {
    private final Vm vm;

    GuestMemory(Vm vm) {
        this.vm = vm;
    }

    /**
     * Loads one byte.
     *
     * @param gpa guest physical address
     * @return the byte
     */
    public byte getByte(long gpa) {
        ReaderSlot reader = vm.takeReader();
        try {
            return GuestBytes.getByte(begin(reader, gpa, Byte.BYTES, Access.READ));
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Loads four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    public int getInt(long gpa) {
        ReaderSlot reader = vm.takeReader();
        try {
            return GuestBytes.getInt(begin(reader, gpa, Integer.BYTES, Access.READ));
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Loads eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @return the value
     */
    public long getLong(long gpa) {
        ReaderSlot reader = vm.takeReader();
        try {
            return GuestBytes.getLong(begin(reader, gpa, Long.BYTES, Access.READ));
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Stores one byte.
     *
     * @param gpa guest physical address
     * @param value the byte
     */
    public void putByte(long gpa, byte value) {
        ReaderSlot reader = vm.takeReader();
        try {
            GuestBytes.putByte(begin(reader, gpa, Byte.BYTES, Access.WRITE), value);
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Stores four bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    public void putInt(long gpa, int value) {
        ReaderSlot reader = vm.takeReader();
        try {
            GuestBytes.putInt(begin(reader, gpa, Integer.BYTES, Access.WRITE), value);
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Stores eight bytes.
     *
     * @param gpa guest physical address, any alignment
     * @param value the value
     */
    public void putLong(long gpa, long value) {
        ReaderSlot reader = vm.takeReader();
        try {
            GuestBytes.putLong(begin(reader, gpa, Long.BYTES, Access.WRITE), value);
        } finally {
            vm.giveReader(reader);
        }
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
        ReaderSlot reader = vm.takeReader();
        try {
            GuestBytes.copyOut(begin(reader, gpa, length, Access.READ), target, offset, length);
        } finally {
            vm.giveReader(reader);
        }
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
        ReaderSlot reader = vm.takeReader();
        try {
            GuestBytes.copyIn(begin(reader, gpa, length, Access.WRITE), source, offset, length);
        } finally {
            vm.giveReader(reader);
        }
    }

    /**
     * Enters an epoch and finds the bytes. The slots are read inside it: a slot that is removed later gives its frames
     * back only after a grace period, so they outlive the access.
     */
    private long begin(ReaderSlot reader, long gpa, int length, int access) {
        reader.enter(ReaderSlot.WALKING);
        vm.checkOpen();
        MemSlot slot = gpa < 0 ? MemSlot.NONE : vm.slots().current().find(Gfn.of(gpa));
        if (!slot.exists() || gpa + length > slot.gpa() + slot.bytes()) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.NO_SLOT, gpa, access, ", bytes=" + length + ", slot=" + slot);
        }
        if (!slot.hasBytes()) {
            throw new GuestAccessException(GuestAccessException.Reason.NO_BYTES, gpa, access);
        }
        return slot.hpa(Gfn.of(gpa)) | gpa & Gfn.PAGE_OFFSET_MASK;
    }
}
