package dev.tdpmmu.bench.perf;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import picocli.CommandLine.Option;

/** Options of programs whose vCPUs go over memory: how much, where, and what stands behind it. */
final class MemoryOptions {
    private static final long MAX_BYTES = 1L << 42;

    @Option(
            names = {"-v", "--vcpus"},
            defaultValue = "2",
            description = "vCPUs; default ${DEFAULT-VALUE}.")
    private int vcpus;

    @Option(
            names = {"-b", "--bytes"},
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "512m",
            description = "Memory of each vCPU, with suffix k, m, g or t; default ${DEFAULT-VALUE}.")
    private long bytesPerVcpu;

    @Option(
            names = {"-o", "--overlap"},
            description = "Let every vCPU use all memory, not a part of its own.")
    private boolean overlap;

    @Option(
            names = {"-s", "--page-size"},
            converter = PageSizeConverter.class,
            paramLabel = "4k|2m|1g",
            defaultValue = "4k",
            description = "Size of the frames and of the largest mapping; default ${DEFAULT-VALUE}.")
    private PageSize pageSize;

    @Option(
            names = {"-p", "--offset"},
            paramLabel = "GPA",
            converter = SizeConverter.class,
            defaultValue = "4g",
            description = "Where the memory starts, multiple of the page size; default ${DEFAULT-VALUE}.")
    private long gpa;

    @Option(
            names = {"-x", "--slots"},
            defaultValue = "1",
            description = "Slots that the memory is divided into; default ${DEFAULT-VALUE}.")
    private int slots;

    @Option(
            names = "--fresh-frames",
            description = "Give each VM frames that were never touched, so that the host's first touch is contained in"
                    + " the first phase. Else all VMs get the same frames.")
    private boolean freshFrames;

    GuestLayout layout(CommonOptions common) {
        long frame = pageSize.bytes();
        common.require(vcpus > 0, "too few vCPUs: --vcpus=" + vcpus + ", min=1");
        common.require(
                bytesPerVcpu >= Gfn.PAGE_SIZE && bytesPerVcpu % Gfn.PAGE_SIZE == 0 && bytesPerVcpu <= MAX_BYTES / vcpus,
                "memory of a vCPU is no multiple of 4096 or out of range: --bytes=" + bytesPerVcpu + ", min="
                        + Gfn.PAGE_SIZE + ", max=" + MAX_BYTES / vcpus);
        long bytes = vcpus * bytesPerVcpu;
        common.require(
                bytes % frame == 0,
                "memory is no multiple of the page size: bytes=" + bytes + ", --page-size=" + pageSize);
        common.require(
                gpa >= frame && gpa % frame == 0,
                "start is no multiple of the page size: --offset=" + gpa + ", --page-size=" + pageSize);
        common.require(
                slots > 0 && slots <= bytes / frame,
                "slots do not fit: --slots=" + slots + ", min=1, max=" + bytes / frame);
        return new GuestLayout(gpa, vcpus, bytesPerVcpu, overlap, slots, pageSize);
    }

    /** What a page holds before a guest writes it. */
    long untouchedWord() {
        return freshFrames ? 0 : GuestFrames.FILLER;
    }

    GuestFrames frames(GuestLayout layout) {
        return freshFrames ? GuestFrames.fresh(layout.pageSize()) : GuestFrames.held(layout.pageSize(), layout.bytes());
    }
}
