package dev.tdpmmu;

import java.util.ArrayList;
import java.util.List;

/** The devices of a VM by address: an immutable snapshot, replaced as a whole. */
final class MmioRanges {
    static final MmioRanges NONE = new MmioRanges(List.of());

    private final List<Range> ranges;

    private MmioRanges(List<Range> ranges) {
        this.ranges = ranges;
    }

    /** Addresses {@code [start, end)} of one device. */
    record Range(long start, long end, MmioHandler handler) {}

    MmioRanges with(long gpa, long bytes, MmioHandler handler) {
        for (Range range : ranges) {
            if (gpa < range.end() && range.start() < gpa + bytes) {
                throw new IllegalArgumentException("MMIO range overlaps another: gpa=0x" + Long.toHexString(gpa)
                        + ", bytes=" + bytes + ", other=0x" + Long.toHexString(range.start()) + "-0x"
                        + Long.toHexString(range.end()));
            }
        }
        List<Range> more = new ArrayList<>(ranges);
        more.add(new Range(gpa, gpa + bytes, handler));
        return new MmioRanges(List.copyOf(more));
    }

    MmioRanges without(long gpa) {
        List<Range> fewer = new ArrayList<>(ranges);
        if (!fewer.removeIf(range -> range.start() == gpa)) {
            throw new IllegalArgumentException("no MMIO range starts there: gpa=0x" + Long.toHexString(gpa));
        }
        return new MmioRanges(List.copyOf(fewer));
    }

    boolean isDevice(long gpa) {
        for (Range range : ranges) {
            if (gpa >= range.start() && gpa < range.end()) {
                return true;
            }
        }
        return false;
    }

    /** Finds the device that covers a whole access, or throws what the vCPU reports. */
    MmioHandler find(long gpa, int bytes, int access, boolean slotIsReadOnly) {
        for (Range range : ranges) {
            if (gpa >= range.start() && gpa + bytes <= range.end()) {
                return range.handler();
            }
        }
        throw new GuestAccessException(
                slotIsReadOnly ? GuestAccessException.Reason.READ_ONLY : GuestAccessException.Reason.NO_SLOT,
                gpa,
                access);
    }
}
