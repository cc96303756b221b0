package dev.tdpmmu.bench.perf;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.slot.MemSlots;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Maps, unmaps, moves and uses memory of many slots in loops of fixed length: the time of a round is the figure.
 *
 * @kvm memslot_perf_test
 */
@Command(
        name = "memslot",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Maps, unmaps and moves memory of many slots while vCPUs use it.")
public final class MemSlotPerf implements Callable<Integer> {
    /** Memory and the place that a slot is moved to, each from a multiple of this. */
    private static final long GPA = 1L << 32;

    @Mixin
    private CommonOptions common;

    @Option(
            names = {"-s", "--slots"},
            defaultValue = "64",
            description = "Slots that the memory is divided into; default ${DEFAULT-VALUE}.")
    private int slots;

    @Option(
            names = {"-m", "--memory"},
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "64m",
            description = "All memory, with suffix k, m, g or t; default ${DEFAULT-VALUE}.")
    private long bytes;

    @Option(
            names = {"-v", "--vcpus"},
            defaultValue = "1",
            description = "vCPUs, each with its part of the memory; default ${DEFAULT-VALUE}.")
    private int vcpus;

    @Option(
            names = {"-t", "--tests"},
            split = ",",
            defaultValue = "MAP,UNMAP,UNMAP_CHUNKED,MOVE_ACTIVE,MOVE_INACTIVE,RW",
            description = "Tests, of ${COMPLETION-CANDIDATES}; default all.")
    private List<MemSlotTest> tests;

    @Option(
            names = {"-d", "--duration"},
            paramLabel = "MILLIS",
            defaultValue = "250",
            description = "Length of each test; default ${DEFAULT-VALUE}.")
    private long millis;

    @Option(
            names = "--chunk",
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "64k",
            description = "What UNMAP_CHUNKED unmaps at a time, within a slot; default ${DEFAULT-VALUE}.")
    private long chunkBytes;

    @Option(
            names = {"-z", "--slot-zap"},
            defaultValue = "ALL_ROOTS",
            description = "What a move zaps, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private SlotZap slotZap;

    @Option(
            names = {"-u", "--unmap-lock"},
            defaultValue = "SHARED",
            description = "How an unmap takes the MMU lock, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private OperationLock unmapLock;

    /** Makes the program; picocli fills the options in. */
    MemSlotPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new MemSlotPerf(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        common.require(vcpus > 0, "too few vCPUs: --vcpus=" + vcpus + ", min=1");
        common.require(
                slots >= 2 && slots <= MemSlots.MAX_SLOTS,
                "number of slots is out of range: --slots=" + slots + ", min=2, max=" + MemSlots.MAX_SLOTS);
        // Each half consists of whole pages of each vCPU, and each slot has a page.
        long unit = 2 * vcpus * Gfn.PAGE_SIZE;
        common.require(
                bytes > 0 && bytes % unit == 0 && Gfn.of(bytes) >= slots && bytes <= GPA,
                "memory is no multiple of the vCPUs' halves or out of range: --memory=" + bytes + ", multiple of="
                        + unit + ", min=" + Gfn.toGpa(slots) + ", max=" + GPA);
        common.require(
                chunkBytes >= Gfn.PAGE_SIZE && chunkBytes % Gfn.PAGE_SIZE == 0,
                "chunk is no positive multiple of 4096: --chunk=" + chunkBytes);
        GuestLayout layout = new GuestLayout(GPA, vcpus, bytes / vcpus, false, slots, PageSize.SIZE_4K);
        try (GuestFrames frames = GuestFrames.fresh(PageSize.SIZE_4K)) {
            return common.measure((policy, timer) -> run(policy, timer, layout, frames));
        }
    }

    private void run(LockPolicy policy, PhaseTimer timer, GuestLayout layout, GuestFrames frames) {
        for (MemSlotTest test : MemSlotTest.values()) {
            if (tests.contains(test)) {
                runTest(test, policy, timer, layout, frames);
            }
        }
    }

    private void runTest(
            MemSlotTest test, LockPolicy policy, PhaseTimer timer, GuestLayout layout, GuestFrames frames) {
        PerfVm[] opened = new PerfVm[1];
        timer.time("set up", () -> {
            opened[0] = PerfVm.open(
                    common.config(policy).slotZap(slotZap).unmapLock(unmapLock),
                    layout,
                    frames::backing,
                    common.threads());
            return layout.slots();
        });
        try (PerfVm perf = opened[0]) {
            MemSlotRounds rounds = new MemSlotRounds(perf, layout, chunkBytes, timer);
            rounds.prepare(test);
            long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
            timer.time(test.phase(), () -> {
                long count = 0;
                do {
                    rounds.round(test);
                    count++;
                } while (System.nanoTime() < end);
                rounds.finish(test);
                return count;
            });
        }
    }
}
