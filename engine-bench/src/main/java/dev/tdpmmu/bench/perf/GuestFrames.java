package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.slot.Backing;

/** What stands behind the slots of a program's VMs. */
final class GuestFrames implements AutoCloseable {
    /** First word of each 4 KiB page of held frames before a guest writes it. */
    static final long FILLER = 0xABAB_ABAB_ABAB_ABABL;

    private final PageSize pageSize;

    /** Null for fresh frames. */
    private final FrameRun run;

    private GuestFrames(PageSize pageSize, FrameRun run) {
        this.pageSize = pageSize;
        this.run = run;
    }

    /** Frames of each slot's own, which the host has yet to hand out when a guest touches them first. */
    static GuestFrames fresh(PageSize pageSize) {
        return new GuestFrames(pageSize, null);
    }

    /**
     * The same frames for all VMs, one after the other, filled with {@link #FILLER}: the host's first touch, which
     * takes longer than the engine's whole fault, is in no phase.
     */
    static GuestFrames held(PageSize pageSize, long bytes) {
        FrameRun run = Vm.allocateSharedFrames(pageSize, bytes);
        try {
            fill(run);
            return new GuestFrames(pageSize, run);
        } catch (RuntimeException | Error failure) {
            run.close();
            throw failure;
        }
    }

    private static void fill(FrameRun run) {
        try (Vm vm = new Vm(VmConfig.builder().name("fill").build())) {
            vm.addSlot(0, 0, run.bytes(), Backing.held(run, 0));
            try (Vcpu vcpu = vm.createVcpu()) {
                for (long gpa = 0; gpa < run.bytes(); gpa += Gfn.PAGE_SIZE) {
                    vcpu.putLong(gpa, FILLER);
                }
            }
        }
    }

    /** Backing of a slot that starts at an offset of the guest's memory. */
    Backing backing(long offset) {
        return run == null ? Backing.anonymous(pageSize) : Backing.held(run, offset);
    }

    @Override
    public void close() {
        if (run != null) {
            run.close();
        }
    }
}
