package dev.tdpmmu.sim;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import org.HdrHistogram.Histogram;

/** One guest under one lock policy, from its making to the last check. Used once, by one thread. */
final class BootGuest {
    /** Records or pages after which a vCPU reports, at most. */
    private static final int SLICE = 1 << 14;

    private static final long MEMORY_GPA = 0;

    private interface PageRange {
        void accept(int from, int to);
    }

    private final BootConfig config;
    private final LockPolicy policy;
    private final BootListener listener;
    private final TraceReplay[] replays;
    private final Vcpu[] vcpus;
    private final FaultLatencies latencies = new FaultLatencies();

    // Design note. A vCPU's thread does not yield between slices, though that would have more vCPUs in the middle of
    // their traces at a time. A virtual thread that yields goes to a queue behind all others that do, and a vCPU that
    // once waited for a lock then stays there for seconds: the latencies would tell of the JDK's scheduler, not of
    // the MMU.

    BootGuest(BootConfig config, LockPolicy policy, BootListener listener) {
        this.config = config;
        this.policy = policy;
        this.listener = listener;
        this.vcpus = new Vcpu[config.vcpus()];
        this.replays = new TraceReplay[config.vcpus()];
        for (int index = 0; index < replays.length; index++) {
            Trace trace = config.traces().get(index % config.traces().size());
            replays[index] = new TraceReplay(trace, GuestShare.of(config.memoryBytes(), index, replays.length));
        }
    }

    BootRun boot() {
        Vm vm = new Vm(VmConfig.builder()
                .name("boot-" + policy)
                .lockPolicy(policy)
                .pagingMode(config.pagingMode())
                .hugePages(config.pageSize())
                .build());
        BootRun run;
        try (vm) {
            vm.addMemory(0, MEMORY_GPA, config.memoryBytes(), config.pageSize());
            for (int index = 0; index < vcpus.length; index++) {
                vcpus[index] = vm.createVcpu();
                vcpus[index].observe(latencies.observer(index));
            }
            run = boot(vm);
        }
        requireNothingLeft(vm.stats());
        return run;
    }

    private BootRun boot(Vm vm) {
        run(vm, BootPhase.LOAD, pagesTouched(), index -> load(vm, index));
        long replayNanos = run(vm, BootPhase.REPLAY, sumOfRecords(), index -> replay(vm, index));
        long touchNanos = config.touch()
                ? run(vm, BootPhase.TOUCH, pagesOfMemory() - sumOfReplayedPages(), index -> touch(vm, index))
                : 0;
        VmStats stats = vm.stats();
        Histogram nanos = latencies.sum();
        run(vm, BootPhase.CHECK, pagesTouched(), index -> check(vm, index));
        vm.checkTables();
        return report(stats, nanos, replayNanos, touchNanos);
    }

    private long run(Vm vm, BootPhase phase, long steps, Fleet.Task task) {
        listener.phaseStarts(vm, phase, steps);
        long nanos = Fleet.run(vm.config().name() + "-" + phase, vcpus.length, config.threads(), task);
        listener.phaseEnds(vm, phase);
        return nanos;
    }

    private void load(Vm vm, int index) {
        TraceReplay replay = replays[index];
        replay.load(vm.memory());
        listener.stepsDone(vm, replay.replayedPages());
        forRest(vm, replay, (from, to) -> replay.warm(vm.memory(), from, to));
    }

    private void replay(Vm vm, int index) {
        int done = replays[index].replay(vcpus[index], SLICE);
        while (done > 0) {
            listener.stepsDone(vm, done);
            done = replays[index].replay(vcpus[index], SLICE);
        }
    }

    private void touch(Vm vm, int index) {
        TraceReplay replay = replays[index];
        forRest(vm, replay, (from, to) -> replay.touch(vcpus[index], from, to));
    }

    /** Reads another vCPU's share: what it wrote through its translations must be there through ours. */
    private void check(Vm vm, int index) {
        TraceReplay replay = replays[(index + 1) % replays.length];
        replay.check(vcpus[index]);
        listener.stepsDone(vm, replay.replayedPages());
        forRest(vm, replay, (from, to) -> replay.checkTouched(vcpus[index], from, to));
    }

    /** Does something to the pages of a share that its trace does not use, slice by slice, if they are to be touched at all. */
    private void forRest(Vm vm, TraceReplay replay, PageRange action) {
        int from = config.touch() ? replay.replayedPages() : replay.sharePages();
        while (from < replay.sharePages()) {
            int to = Math.min(replay.sharePages() - from, SLICE) + from;
            action.accept(from, to);
            listener.stepsDone(vm, to - from);
            from = to;
        }
    }

    private BootRun report(VmStats stats, Histogram nanos, long replayNanos, long touchNanos) {
        long wallNanos = replayNanos + touchNanos;
        BootRun.Faults faults = new BootRun.Faults(
                stats.pfFixed(), stats.pfFast(), stats.pfSpurious(), stats.pfRetry(), stats.pfEmulate());
        long leftOut = 0;
        long distinct = 0;
        for (TraceReplay replay : replays) {
            leftOut += replay.leftOutRecords();
            distinct += replay.trace().distinctPages();
        }
        return new BootRun(
                policy,
                config.vcpus(),
                config.memoryBytes(),
                wallNanos,
                faults,
                nanos.getTotalCount() == 0 ? 0 : nanos.getMean(),
                latency(nanos),
                stats.pages4k(),
                stats.pages2m(),
                stats.pages1g(),
                stats.tablePages(),
                stats.tlbHitRate(),
                dataErrors(),
                stats.tableBytes(),
                pagesTouched() * Gfn.PAGE_SIZE,
                replayNanos,
                touchNanos,
                stats.accesses(),
                faults.handled() * 1e9 / wallNanos,
                sumOfRecords(),
                leftOut,
                distinct,
                sumOfReplayedPages(),
                stats.remoteTlbFlush(),
                stats.lockWaits(),
                stats.retiredPages(),
                stats.reclaimedPages(),
                failure(stats));
    }

    private static BootRun.Latency latency(Histogram nanos) {
        return new BootRun.Latency(
                nanos.getValueAtPercentile(50),
                nanos.getValueAtPercentile(90),
                nanos.getValueAtPercentile(99),
                nanos.getValueAtPercentile(99.9),
                nanos.getMaxValue());
    }

    private String failure(VmStats stats) {
        for (TraceReplay replay : replays) {
            if (replay.dataErrors() > 0) {
                return replay.firstDataError();
            }
        }
        if (config.pageSize() == PageSize.SIZE_4K && stats.pages4k() != pagesTouched()) {
            return "leaves are not the pages that were touched: pages4k=" + stats.pages4k() + ", touched="
                    + pagesTouched();
        }
        long mapped = stats.pages4k() * PageSize.SIZE_4K.bytes()
                + stats.pages2m() * PageSize.SIZE_2M.bytes()
                + stats.pages1g() * PageSize.SIZE_1G.bytes();
        if (config.touch() && mapped != config.memoryBytes()) {
            return "not all memory is mapped after all was touched: mapped=" + mapped + ", memoryBytes="
                    + config.memoryBytes();
        }
        return "";
    }

    private void requireNothingLeft(VmStats closed) {
        if (closed.memoryUsedInBytes() != 0
                || closed.tablePages() != 0
                || closed.pages4k() != 0
                || closed.pages2m() != 0
                || closed.pages1g() != 0) {
            throw new IllegalStateException("VM did not give everything back: policy=" + policy + ", stats=" + closed);
        }
    }

    private long dataErrors() {
        long sum = 0;
        for (TraceReplay replay : replays) {
            sum += replay.dataErrors();
        }
        return sum;
    }

    private long sumOfRecords() {
        long sum = 0;
        for (TraceReplay replay : replays) {
            sum += replay.trace().length();
        }
        return sum;
    }

    private long sumOfReplayedPages() {
        long sum = 0;
        for (TraceReplay replay : replays) {
            sum += replay.replayedPages();
        }
        return sum;
    }

    private long pagesOfMemory() {
        return Gfn.of(config.memoryBytes());
    }

    private long pagesTouched() {
        return config.touch() ? pagesOfMemory() : sumOfReplayedPages();
    }
}
