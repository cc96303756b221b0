package dev.tdpmmu.slot;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.slot.SlotException.Reason;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * The host frames of one slot, held from its addition to its removal and shared by all versions of the slot between.
 *
 * <p>Released once, whoever asks first: the completion of the removal or the teardown of the VM.
 */
final class SlotFrames {
    /** Guest and host addresses of a slot agree modulo this where the backing lets them: the largest leaf. */
    private static final long LARGEST_LEAF_BYTES = 1L << 30;

    /** Frames of {@link MemSlot#NONE}. */
    static final SlotFrames NONE = new SlotFrames(0);

    private final long hpa;

    /** Absent for frames without bytes and for pages of the host. Immutable. */
    private final FrameRun run;

    /** Absent where frames are contiguous. Immutable. */
    private final HostPages pages;

    private final AtomicBoolean released = new AtomicBoolean();

    private SlotFrames(long hpa, FrameRun run, HostPages pages) {
        this.hpa = hpa;
        this.run = run;
        this.pages = pages;
    }

    private SlotFrames(long hpa, FrameRun run) {
        this(hpa, run, null);
    }

    private SlotFrames(long hpa) {
        this(hpa, null, null);
    }

    /**
     * Takes the frames of a new slot.
     *
     * @param backing where from
     * @param gpa first guest byte, checked
     * @param bytes length, checked
     * @param config of the VM
     * @param frames allocator of the VM
     * @return the frames, held
     * @throws SlotException if the backing does not fit the slot or the VM
     */
    static SlotFrames take(Backing backing, long gpa, long bytes, VmConfig config, FrameAllocator frames) {
        return switch (backing) {
            case AnonymousBacking anonymous -> allocate(anonymous, gpa, bytes, config, frames);
            case HeldBacking held -> hold(held, bytes, config);
            case HostBacking host -> hold(host, bytes, config);
            case SyntheticBacking synthetic -> number(synthetic, gpa, bytes, config);
        };
    }

    private static SlotFrames allocate(
            AnonymousBacking backing, long gpa, long bytes, VmConfig config, FrameAllocator frames) {
        long frameBytes = backing.pageSize().bytes();
        long start = gpa & -frameBytes;
        long end = (gpa + bytes + frameBytes - 1) & -frameBytes;
        FrameRun run = frames.allocate(backing.pageSize().level(), end - start);
        try {
            // Frames are handed out from the bottom, so only a narrow VM beside large ones is refused here.
            checkReach(run.hpa() + run.bytes(), config);
        } catch (SlotException tooHigh) {
            run.release();
            throw tooHigh;
        }
        return new SlotFrames(run.hpa() + (gpa - start), run);
    }

    private static SlotFrames hold(HeldBacking backing, long bytes, VmConfig config) {
        FrameRun run = backing.run();
        checkReach(run.hpa() + run.bytes(), config);
        if (bytes > run.bytes() - backing.offsetInBytes()) {
            throw new SlotException(
                    Reason.BACKING_TOO_SMALL,
                    "backing ends before the slot: bytes=" + bytes + ", backingBytes=" + run.bytes()
                            + ", offsetInBytes=" + backing.offsetInBytes());
        }
        try {
            run.retain();
        } catch (IllegalStateException gone) {
            throw new SlotException(
                    Reason.BACKING_RELEASED, "backing is released: hpa=0x" + Long.toHexString(run.hpa()));
        }
        return new SlotFrames(run.hpa() + backing.offsetInBytes(), run);
    }

    private static SlotFrames hold(HostBacking backing, long bytes, VmConfig config) {
        HostPages pages = backing.pages();
        // A page may move to any frame later, when it is too late to refuse the slot.
        checkReach(HostMemory.SIZE, config);
        if (bytes > pages.bytes() - backing.offsetInBytes()) {
            throw new SlotException(
                    Reason.BACKING_TOO_SMALL,
                    "backing ends before the slot: bytes=" + bytes + ", backingBytes=" + pages.bytes()
                            + ", offsetInBytes=" + backing.offsetInBytes());
        }
        if (!pages.tryRetain()) {
            throw new SlotException(Reason.BACKING_RELEASED, "backing is released: " + pages);
        }
        return new SlotFrames(0, null, pages);
    }

    /** Numbers frames by guest address, so that slots have frames of their own and every block can be huge. */
    private static SlotFrames number(SyntheticBacking backing, long gpa, long bytes, VmConfig config) {
        long half = 1L << (config.physicalAddressBits() - 1);
        if (HostMemory.SIZE > half) {
            throw new SlotException(
                    Reason.BACKING_BEYOND_ADDRESS_LIMIT,
                    "no host addresses are free for frames without bytes: physicalAddressBits="
                            + config.physicalAddressBits() + ", hostMemory=" + HostMemory.SIZE + ", max=" + half);
        }
        long offset = gpa & (half - 1);
        if (bytes > half - offset) {
            // The slot crosses the middle of the guest's addresses. Its frames must be contiguous: start over at the
            // bottom.
            offset = gpa & (LARGEST_LEAF_BYTES - 1);
        }
        if (bytes > half - offset) {
            throw new SlotException(
                    Reason.BACKING_TOO_SMALL,
                    "slot has more pages than there are frames without bytes: bytes=" + bytes + ", max="
                            + (half - offset) + ", pageSize=" + backing.pageSize());
        }
        return new SlotFrames(half + offset);
    }

    /** Wider addresses would set reserved bits of the entries, and each access would end as a misconfiguration. */
    private static void checkReach(long hostEnd, VmConfig config) {
        long limit = 1L << config.physicalAddressBits();
        if (hostEnd > limit) {
            throw new SlotException(
                    Reason.BACKING_BEYOND_ADDRESS_LIMIT,
                    "host memory is wider than the VM's entries: hostEnd=0x" + Long.toHexString(hostEnd) + ", limit=0x"
                            + Long.toHexString(limit) + ", physicalAddressBits=" + config.physicalAddressBits());
        }
    }

    /**
     * Returns the frames for the slot at another guest address: the same ones, or, where there are no bytes to keep,
     * those that the new address numbers.
     */
    SlotFrames at(Backing backing, long gpa, long bytes, VmConfig config) {
        return backing instanceof SyntheticBacking synthetic ? number(synthetic, gpa, bytes, config) : this;
    }

    /** First byte of the slot's first frame, where frames are contiguous; else 0. */
    long hpa() {
        return hpa;
    }

    /** Largest level at which guest and host blocks start together. */
    int congruentLevel(long gpa, int maxLevel) {
        int level = maxLevel;
        while (level > 1 && !Gfn.isAligned((hpa - gpa) >> Gfn.PAGE_SHIFT, level)) {
            level--;
        }
        return level;
    }

    /** Forgets the content of a part of the frames. */
    void discard(long partHpa, long bytes) {
        run.discard(partHpa - run.hpa(), bytes);
    }

    /** Lets the frames go, once. */
    void release() {
        if (!released.compareAndSet(false, true)) {
            return;
        }
        if (run != null) {
            run.release();
        } else if (pages != null) {
            pages.release();
        }
    }
}
