package dev.tdpmmu.bench.perf;

import dev.tdpmmu.VmStats;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.VmConfig;
import java.io.IOException;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Lets vCPUs write their memory under dirty logging: populate, enable, rounds of write, get and clear, disable.
 *
 * @kvm dirty_log_perf_test
 */
@Command(
        name = "dirty-log",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Writes memory under dirty logging, and times every step of a pre-copy loop.")
public final class DirtyLogPerf implements Callable<Integer> {
    private static final int ALL_PERCENT = 100;
    private static final long VALUE = 0x0123_4567_89AB_CDEFL;
    private static final AccessPattern POPULATE = new AccessPattern(ALL_PERCENT, false);

    @Mixin
    private CommonOptions common;

    @Mixin
    private MemoryOptions memory;

    @Option(
            names = {"-i", "--iterations"},
            defaultValue = "2",
            description = "Rounds of write, get and clear, at least 2; default ${DEFAULT-VALUE}.")
    private int iterations;

    @Option(
            names = {"-f", "--write-fraction"},
            paramLabel = "N",
            description = "Write one page of N and read the others; default 1.")
    private Integer writeFraction;

    @Option(
            names = {"-w", "--write-percent"},
            paramLabel = "N",
            description = "Write so many pages of 100 and read the others; default 100.")
    private Integer writePercent;

    @Option(
            names = {"-a", "--random-access"},
            description = "Access pages at random, not in order. Memory is always populated in order.")
    private boolean randomAccess;

    @Option(
            names = {"-r", "--random-seed"},
            defaultValue = "1",
            description = "Seed of what is random; default ${DEFAULT-VALUE}.")
    private long seed;

    @Option(
            names = {"-t", "--tracking"},
            defaultValue = "INITIALLY_SET",
            description = "How written pages are learnt, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}, as the"
                    + " kernel's program.")
    private DirtyTracking tracking;

    @Option(
            names = {"-g", "--no-manual-protect"},
            description = "The same as --tracking GET_AND_CLEAR.")
    private boolean noManualProtect;

    @Option(
            names = {"-e", "--run-while-disabling"},
            description = "Let the vCPUs go on writing while logging is disabled.")
    private boolean runWhileDisabling;

    @Option(
            names = "--no-pml",
            description = "Without the page-modification log: pages are write-protected, not cleared of D bits.")
    private boolean noPml;

    @Option(names = "--no-eager-split", description = "Split huge leaves when they are written, not before.")
    private boolean noEagerSplit;

    @Option(
            names = "--clear-lock",
            defaultValue = "SHARED",
            description = "How arming pages again takes the MMU lock, of ${COMPLETION-CANDIDATES}; default"
                    + " ${DEFAULT-VALUE}.")
    private OperationLock clearLock;

    @Option(
            names = {"-c", "--ring-entries"},
            defaultValue = "65536",
            description = "Entries of each vCPU's ring, a power of two; default ${DEFAULT-VALUE}.")
    private int ringEntries;

    /** Makes the program; picocli fills the options in. */
    DirtyLogPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new DirtyLogPerf(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        GuestLayout layout = memory.layout(common);
        AccessPattern pattern = pattern();
        common.require(iterations >= 2, "too few rounds: --iterations=" + iterations + ", min=2");
        try (GuestFrames frames = memory.frames(layout)) {
            return common.measure((policy, timer) -> {
                try (PerfVm perf = PerfVm.open(config(policy), layout, frames::backing, common.threads())) {
                    run(perf, layout, pattern, timer);
                }
            });
        }
    }

    private AccessPattern pattern() {
        common.require(
                writeFraction == null || writePercent == null,
                "the share of pages to write is given twice: --write-fraction=" + writeFraction + ", --write-percent="
                        + writePercent);
        common.require(
                writeFraction == null || writeFraction > 0,
                "fraction is out of range: --write-fraction=" + writeFraction + ", min=1");
        int percent = ALL_PERCENT;
        if (writePercent != null) {
            percent = writePercent;
        } else if (writeFraction != null) {
            percent = ALL_PERCENT / writeFraction;
        }
        common.require(
                percent >= 0 && percent <= ALL_PERCENT,
                "share is out of range: --write-percent=" + percent + ", min=0, max=" + ALL_PERCENT);
        return new AccessPattern(percent, randomAccess);
    }

    private VmConfig.Builder config(LockPolicy policy) {
        VmConfig.Builder config = common.config(policy)
                .dirtyTracking(noManualProtect ? DirtyTracking.GET_AND_CLEAR : tracking)
                .dirtyRingEntries(ringEntries)
                .eagerSplit(!noEagerSplit)
                .clearLock(clearLock);
        return noPml ? config.pml(false) : config;
    }

    private void run(PerfVm perf, GuestLayout layout, AccessPattern pattern, PhaseTimer timer) {
        SplittableRandom[] seeded = new SplittableRandom[layout.vcpus()];
        for (int vcpu = 0; vcpu < seeded.length; vcpu++) {
            seeded[vcpu] = new SplittableRandom(seed + vcpu);
        }
        DirtyTracker tracker = new DirtyTracker(perf);
        timer.time("populate", () -> pass(perf, layout, POPULATE, seeded));
        timer.time("enable", () -> {
            tracker.enable(perf.slots());
            return layout.pages();
        });
        for (int round = 1; round <= iterations; round++) {
            timer.time("dirty " + round, () -> pass(perf, layout, pattern, seeded));
            long pages = timer.time("get " + round, tracker::get);
            timer.count("dirty pages " + round, pages);
            if (tracker.clears()) {
                timer.time("clear " + round, tracker::clear);
            }
        }
        disable(perf, layout, pattern, seeded, tracker, timer);
        VmStats stats = perf.vm().stats();
        timer.count("splits", stats.splits());
        timer.count("promotions", stats.promotions());
        timer.count("fast fixes", stats.pfFast());
        timer.count("slow faults", stats.pfTaken());
        timer.count("flushes", stats.remoteTlbFlush());
        timer.count("ring full", tracker.timesRingFull());
    }

    private long pass(PerfVm perf, GuestLayout layout, AccessPattern pattern, SplittableRandom[] seeded) {
        perf.fleet()
                .run((index, vcpu) ->
                        pattern.pass(vcpu, layout.regionGpa(index), layout.regionPages(), VALUE, seeded[index]));
        return layout.touchedPages();
    }

    private void disable(
            PerfVm perf,
            GuestLayout layout,
            AccessPattern pattern,
            SplittableRandom[] seeded,
            DirtyTracker tracker,
            PhaseTimer timer) {
        AtomicLong accesses = new AtomicLong();
        VcpuFleet fleet = perf.fleet();
        if (runWhileDisabling) {
            fleet.startAndAwaitRunning((index, vcpu) -> accesses.addAndGet(pattern.passUntilStopped(
                    fleet, vcpu, layout.regionGpa(index), layout.regionPages(), VALUE, seeded[index])));
        }
        timer.time("disable", () -> {
            tracker.disable();
            return layout.pages();
        });
        if (runWhileDisabling) {
            fleet.stop();
            timer.count("accesses while disabling", accesses.get());
        }
    }
}
