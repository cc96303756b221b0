package dev.tdpmmu.bench.perf;

import dev.tdpmmu.GuestAccessException;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import java.io.IOException;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Takes all memory of many slots through the stages of its life: write, rewrite, read, read-only and writable again by
 * the host while vCPUs write, and removal of every second slot. Every page is checked for the last value written.
 *
 * @kvm mmu_stress_test
 */
@Command(
        name = "mmu-stress",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Takes the memory of many slots through all stages of its life.")
public final class MmuStress implements Callable<Integer> {
    private static final long GPA = 1L << 32;
    private static final long FIRST = 0x1111_1111_1111_1111L;
    private static final long SECOND = 0x2222_2222_2222_2222L;
    private static final long THIRD = 0x3333_3333_3333_3333L;

    @Mixin
    private CommonOptions common;

    @Option(
            names = {"-c", "--vcpus"},
            defaultValue = "2",
            description = "vCPUs, each with its part of the memory; default ${DEFAULT-VALUE}.")
    private int vcpus;

    @Option(
            names = {"-m", "--memory"},
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "256m",
            description = "All memory, with suffix k, m, g or t; default ${DEFAULT-VALUE}.")
    private long bytes;

    @Option(
            names = {"-s", "--slot-size"},
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "16m",
            description = "Memory of a slot; default ${DEFAULT-VALUE}.")
    private long slotBytes;

    @Option(
            names = {"-z", "--slot-zap"},
            defaultValue = "ALL_ROOTS",
            description = "What a removal zaps, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private SlotZap slotZap;

    @Option(
            names = {"-u", "--unmap-lock"},
            defaultValue = "SHARED",
            description =
                    "How the host's change takes the MMU lock, of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}.")
    private OperationLock unmapLock;

    /** Makes the program; picocli fills the options in. */
    MmuStress() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(PerfCommand.execute(new MmuStress(), args));
    }

    @Override
    public Integer call() throws IOException {
        BenchGuard.check();
        common.require(vcpus > 0, "too few vCPUs: --vcpus=" + vcpus + ", min=1");
        common.require(
                slotBytes > 0 && slotBytes % Gfn.PAGE_SIZE == 0,
                "slot is no positive multiple of 4096: --slot-size=" + slotBytes);
        common.require(
                bytes >= 2 * slotBytes && bytes % slotBytes == 0 && bytes % (vcpus * Gfn.PAGE_SIZE) == 0,
                "memory is no multiple of slots and vCPUs: --memory=" + bytes + ", min=" + 2 * slotBytes);
        int slots = Math.toIntExact(bytes / slotBytes);
        GuestLayout layout = new GuestLayout(GPA, vcpus, bytes / vcpus, false, slots, PageSize.SIZE_4K);
        return common.measure((policy, timer) -> run(policy, timer, layout));
    }

    private void run(LockPolicy policy, PhaseTimer timer, GuestLayout layout) {
        try (HostPages host = HostPages.allocate(layout.bytes());
                PerfVm perf = PerfVm.open(
                        common.config(policy).slotZap(slotZap).unmapLock(unmapLock),
                        layout,
                        offset -> Backing.host(host, offset),
                        common.threads())) {
            timer.time("write", () -> write(perf, layout, FIRST));
            timer.time("rewrite", () -> write(perf, layout, SECOND));
            timer.time("read", () -> check(perf, layout, SECOND));
            flip(perf, layout, host, timer);
            timer.time("write again", () -> write(perf, layout, THIRD));
            check(perf, layout, THIRD);
            timer.time("delete even slots", () -> deleteEvenSlots(perf));
            timer.time("read odd slots", () -> checkOddSlots(perf, layout));
        }
    }

    private static long write(PerfVm perf, GuestLayout layout, long value) {
        perf.fleet()
                .run((index, vcpu) -> GuestPasses.write(vcpu, layout.regionGpa(index), layout.regionPages(), value));
        return layout.touchedPages();
    }

    private static long check(PerfVm perf, GuestLayout layout, long expected) {
        perf.fleet()
                .run((index, vcpu) -> GuestPasses.check(vcpu, layout.regionGpa(index), layout.regionPages(), expected));
        return layout.touchedPages();
    }

    /** Takes write permission away and gives it back while all vCPUs write. */
    private static void flip(PerfVm perf, GuestLayout layout, HostPages host, PhaseTimer timer) {
        AtomicLong refused = new AtomicLong();
        AtomicLong written = new AtomicLong();
        VcpuFleet fleet = perf.fleet();
        fleet.startAndAwaitRunning((index, vcpu) -> {
            long pages = layout.regionPages();
            long done = 0;
            long failed = 0;
            while (!fleet.isStopping()) {
                if (tryWrite(vcpu, layout.regionGpa(index) + Gfn.toGpa((done + failed) % pages))) {
                    done++;
                } else {
                    failed++;
                }
            }
            if (tryWrite(vcpu, layout.regionGpa(index))) {
                throw new IllegalStateException("store was let through to read-only memory: vcpu=" + vcpu.name());
            }
            written.addAndGet(done);
            // With the one above.
            refused.addAndGet(failed + 1);
        });
        timer.time("read-only", () -> {
            host.protect(0, layout.pages());
            return layout.pages();
        });
        fleet.stop();
        timer.count("refused writes", refused.get());
        timer.count("writes meanwhile", written.get());
        timer.time("writable", () -> {
            host.unprotect(0, layout.pages());
            return layout.pages();
        });
    }

    private static boolean tryWrite(Vcpu vcpu, long gpa) {
        try {
            vcpu.putLong(gpa, SECOND);
            return true;
        } catch (GuestAccessException refused) {
            if (refused.reason() != GuestAccessException.Reason.HOST_READ_ONLY) {
                throw refused;
            }
            return false;
        }
    }

    private static long deleteEvenSlots(PerfVm perf) {
        Vm vm = perf.vm();
        long count = 0;
        for (MemSlot slot : perf.slots()) {
            if (slot.id() % 2 == 0) {
                vm.removeSlot(slot);
                count++;
            }
        }
        return count;
    }

    private static long checkOddSlots(PerfVm perf, GuestLayout layout) {
        perf.fleet().run((index, vcpu) -> {
            for (MemSlot slot : perf.slots()) {
                if (slot.id() % 2 == 1 && slot.id() / 2 % layout.vcpus() == index) {
                    GuestPasses.check(vcpu, slot.gpa(), slot.pages(), THIRD);
                }
            }
        });
        return perf.slots().stream()
                .filter(slot -> slot.id() % 2 == 1)
                .mapToLong(MemSlot::pages)
                .sum();
    }
}
