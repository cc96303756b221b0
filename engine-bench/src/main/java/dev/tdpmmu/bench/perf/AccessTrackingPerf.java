package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Ageing;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import java.io.IOException;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Marks memory as idle, each vCPU its own part, and lets the vCPUs write and read idle memory; writing and reading
 * memory that is not idle is the control.
 *
 * @kvm access_tracking_perf_test
 */
@Command(
        name = "access-tracking",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Times marking memory as idle, and accesses to idle memory.")
public final class AccessTrackingPerf implements Callable<Integer> {
    private static final long VALUE = 0x0123_4567_89AB_CDEFL;

    @Mixin
    private CommonOptions common;

    @Mixin
    private MemoryOptions memory;

    @Option(
            names = {"-c", "--chunk"},
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "4k",
            description = "Bytes marked by one call; default ${DEFAULT-VALUE}, as the kernel's program.")
    private long chunkBytes;

    @Option(
            names = "--flush",
            description =
                    "Flush TLBs when marking, so that no access to idle memory goes unseen; then the program fails"
                            + " if one does.")
    private boolean flush;

    /** Makes the program; picocli fills the options in. */
    AccessTrackingPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new AccessTrackingPerf(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        GuestLayout layout = memory.layout(common);
        common.require(
                chunkBytes >= Gfn.PAGE_SIZE && chunkBytes % Gfn.PAGE_SIZE == 0,
                "chunk is no positive multiple of 4096: --chunk=" + chunkBytes);
        try (GuestFrames frames = memory.frames(layout)) {
            return common.measure((policy, timer) -> run(policy, timer, layout, frames));
        }
    }

    private void run(LockPolicy policy, PhaseTimer timer, GuestLayout layout, GuestFrames frames) {
        try (PerfVm perf = PerfVm.open(common.config(policy), layout, frames::backing, common.threads())) {
            timer.time("populate", () -> write(perf, layout));
            timer.time("write populated", () -> write(perf, layout));
            timer.time("read populated", () -> read(perf, layout));
            markIdle("mark idle 1", perf, layout, timer);
            timer.time("write idle", () -> write(perf, layout));
            countStillIdle("still idle after write", perf, layout, timer);
            markIdle("mark idle 2", perf, layout, timer);
            timer.time("read idle", () -> read(perf, layout));
            countStillIdle("still idle after read", perf, layout, timer);
        }
    }

    private static long write(PerfVm perf, GuestLayout layout) {
        perf.fleet()
                .run((index, vcpu) -> GuestPasses.write(vcpu, layout.regionGpa(index), layout.regionPages(), VALUE));
        return layout.touchedPages();
    }

    private static long read(PerfVm perf, GuestLayout layout) {
        perf.fleet()
                .run((index, vcpu) -> GuestPasses.check(vcpu, layout.regionGpa(index), layout.regionPages(), VALUE));
        return layout.touchedPages();
    }

    /** On the vCPUs' threads, as the kernel's program does, so that the calls meet each other. */
    private void markIdle(String phase, PerfVm perf, GuestLayout layout, PhaseTimer timer) {
        Ageing ageing = perf.vm().ageing();
        AtomicLong young = new AtomicLong();
        timer.time(phase, () -> {
            perf.fleet().run((index, vcpu) -> {
                long gpa = layout.gpa() + index * layout.bytesPerVcpu();
                long sum = 0;
                for (long offset = 0; offset < layout.bytesPerVcpu(); offset += chunkBytes) {
                    long length = Math.min(chunkBytes, layout.bytesPerVcpu() - offset);
                    sum += flush
                            ? ageing.clearYoungAndFlush(gpa + offset, length)
                            : ageing.clearYoung(gpa + offset, length);
                }
                young.addAndGet(sum);
            });
            return layout.pages();
        });
        timer.count("young at " + phase, young.get());
    }

    /** With A bits and without a flush, pages whose translation stayed in a TLB are among them. */
    private void countStillIdle(String name, PerfVm perf, GuestLayout layout, PhaseTimer timer) {
        long idle = 0;
        long step = layout.pageSize().bytes();
        for (long offset = 0; offset < layout.bytes(); offset += step) {
            if (!perf.vm().ageing().testYoung(layout.gpa() + offset, step)) {
                idle++;
            }
        }
        timer.count(name, idle);
        if (flush && idle > 0) {
            throw new IllegalStateException("accesses went unseen: " + name + "=" + idle);
        }
    }
}
