package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import java.io.IOException;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Lets vCPUs touch one word of every page of their memory, each page for the first time.
 *
 * <p>The same is done again with every page mapped, as a control, and once more after all leaves were zapped, when the
 * tables are there already. The kernel's program has no such phases, and hands pages out by a user fault handler, for
 * which there is nothing here.
 *
 * @kvm demand_paging_test
 */
@Command(
        name = "demand-paging",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Faults memory in on all vCPUs at once.")
public final class DemandPagingPerf implements Callable<Integer> {
    private static final long WRITTEN = 0x0123_4567_89AB_CDEFL;

    @Mixin
    private CommonOptions common;

    @Mixin
    private MemoryOptions memory;

    @Option(
            names = {"-r", "--read"},
            description = "Read only: fault the pages in by loads, and check what they hold.")
    private boolean readOnly;

    /** Makes the program; picocli fills the options in. */
    DemandPagingPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new DemandPagingPerf(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        GuestLayout layout = memory.layout(common);
        try (GuestFrames frames = memory.frames(layout)) {
            return common.measure((policy, timer) -> run(policy, timer, layout, frames));
        }
    }

    private void run(LockPolicy policy, PhaseTimer timer, GuestLayout layout, GuestFrames frames) {
        try (PerfVm perf = PerfVm.open(common.config(policy), layout, frames::backing, common.threads())) {
            Vm vm = perf.vm();
            timer.time("demand", () -> touch(perf, layout));
            requireMapped(vm.stats(), layout);
            timer.time("again", () -> touch(perf, layout));
            timer.time("zap", () -> zap(perf));
            timer.time("demand again", () -> touch(perf, layout));
            requireMapped(vm.stats(), layout);
            timer.count("faults", vm.stats().pfTaken());
            timer.count("retries", vm.stats().pfRetry());
            timer.count("lock waits", vm.stats().lockWaits());
        }
    }

    private long touch(PerfVm perf, GuestLayout layout) {
        perf.fleet().run((index, vcpu) -> touch(vcpu, layout.regionGpa(index), layout.regionPages()));
        return layout.touchedPages();
    }

    private void touch(Vcpu vcpu, long gpa, long pages) {
        if (readOnly) {
            GuestPasses.check(vcpu, gpa, pages, memory.untouchedWord());
        } else {
            GuestPasses.write(vcpu, gpa, pages, WRITTEN);
        }
    }

    private static long zap(PerfVm perf) {
        perf.slots().forEach(slot -> perf.vm().zap(slot.gpa(), slot.bytes()));
        return perf.slots().stream().mapToLong(slot -> slot.pages()).sum();
    }

    private static void requireMapped(VmStats stats, GuestLayout layout) {
        long mapped = Gfn.of((stats.pages4k() << 12) + (stats.pages2m() << 21) + (stats.pages1g() << 30));
        if (mapped != layout.pages()) {
            throw new IllegalStateException("pages are missing: mapped=" + mapped + ", expected=" + layout.pages());
        }
    }
}
