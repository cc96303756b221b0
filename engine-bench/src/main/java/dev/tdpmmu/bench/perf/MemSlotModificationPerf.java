package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.io.IOException;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Adds and removes a slot beside the memory that vCPUs run on, and shows what the changes cost and what is left to the
 * vCPUs.
 *
 * @kvm memslot_modification_stress_test
 */
@Command(
        name = "memslot-modification",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Adds and removes a slot while vCPUs write other memory.")
public final class MemSlotModificationPerf implements Callable<Integer> {
    /** Above the slots of the memory itself. */
    private static final int DUMMY_SLOT = 32_700;

    private static final long VALUE = 0x0123_4567_89AB_CDEFL;

    @Mixin
    private CommonOptions common;

    @Mixin
    private MemoryOptions memory;

    @Option(
            names = {"-i", "--iterations"},
            defaultValue = "2000",
            description = "Slots added and removed; default ${DEFAULT-VALUE}.")
    private int iterations;

    @Option(
            names = {"-d", "--delay"},
            paramLabel = "MICROS",
            defaultValue = "0",
            description = "Wait before each; default ${DEFAULT-VALUE}.")
    private long delayMicros;

    @Option(
            names = "--undisturbed",
            paramLabel = "MILLIS",
            defaultValue = "300",
            description = "How long the vCPUs run alone first; default ${DEFAULT-VALUE}.")
    private long undisturbedMillis;

    @Option(
            names = {"-z", "--slot-zap"},
            defaultValue = "ALL_ROOTS",
            description = "What a removal zaps, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private SlotZap slotZap;

    /** Makes the program; picocli fills the options in. */
    MemSlotModificationPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new MemSlotModificationPerf(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        GuestLayout layout = memory.layout(common);
        common.require(iterations > 0, "too few slots: --iterations=" + iterations + ", min=1");
        common.require(delayMicros >= 0, "delay is negative: --delay=" + delayMicros);
        try (GuestFrames frames = memory.frames(layout)) {
            return common.measure((policy, timer) -> run(policy, timer, layout, frames));
        }
    }

    private void run(LockPolicy policy, PhaseTimer timer, GuestLayout layout, GuestFrames frames) {
        try (PerfVm perf =
                PerfVm.open(common.config(policy).slotZap(slotZap), layout, frames::backing, common.threads())) {
            VcpuFleet fleet = perf.fleet();
            timer.time("populate", () -> {
                fleet.run(
                        (index, vcpu) -> GuestPasses.write(vcpu, layout.regionGpa(index), layout.regionPages(), VALUE));
                return layout.touchedPages();
            });
            timer.time("guest undisturbed", () -> whileGuestsRun(perf, layout, () -> pause(undisturbedMillis * 1000)));
            long faults = perf.vm().stats().pfTaken();
            timer.time("guest disturbed", () -> whileGuestsRun(perf, layout, () -> changeSlots(perf, layout, timer)));
            timer.count("faults while disturbed", perf.vm().stats().pfTaken() - faults);
        }
    }

    /** Returns how many pages the vCPUs have written meanwhile. */
    private static long whileGuestsRun(PerfVm perf, GuestLayout layout, Runnable work) {
        AtomicLong pages = new AtomicLong();
        VcpuFleet fleet = perf.fleet();
        fleet.startAndAwaitRunning((index, vcpu) -> pages.addAndGet(
                GuestPasses.writeUntilStopped(fleet, vcpu, layout.regionGpa(index), layout.regionPages(), VALUE)));
        work.run();
        fleet.stop();
        return pages.get();
    }

    private void changeSlots(PerfVm perf, GuestLayout layout, PhaseTimer timer) {
        Vm vm = perf.vm();
        long gpa = layout.gpa() - Gfn.PAGE_SIZE;
        MemSlot[] dummy = new MemSlot[1];
        for (int i = 0; i < iterations; i++) {
            pause(delayMicros);
            timer.timePart(
                    "add",
                    () -> dummy[0] = vm.addSlot(DUMMY_SLOT, gpa, Gfn.PAGE_SIZE, Backing.anonymous(PageSize.SIZE_4K)));
            timer.timePart("remove", () -> vm.removeSlot(dummy[0]));
        }
    }

    private static void pause(long micros) {
        long end = System.nanoTime() + TimeUnit.MICROSECONDS.toNanos(micros);
        for (long left = end - System.nanoTime(); left > 0; left = end - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
    }
}
