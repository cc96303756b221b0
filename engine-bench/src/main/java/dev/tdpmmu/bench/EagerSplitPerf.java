package dev.tdpmmu.bench;

import dev.tdpmmu.DirtyLog;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Compares the CPU time that it takes to split a slot's huge leaves when its dirty log starts with what its stores take
 * if they split the leaves themselves, and prints it as JSON.
 *
 * <p>One thread does everything, so that its CPU time is all there is. A round starts the log of a slot of leaves of 2
 * MiB, with and without the eager split in turn, and stores once to every page. Each round has a VM of its own. The
 * difference of the starts is the price of the eager split, the difference of the stores is what it saves. Without PML
 * every store faults once in either case; with PML only where the leaf was huge.
 */
@Command(
        name = "EagerSplitPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Compares eager splits with splits on fault by CPU time.")
public final class EagerSplitPerf implements Callable<Integer> {
    @Option(names = "--bits", defaultValue = "20", description = "log2 of the 4 KiB pages; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(names = "--policy", defaultValue = "PARALLEL", description = "lock policy; default ${DEFAULT-VALUE}")
    private LockPolicy policy;

    @Option(
            names = "--pml",
            split = ",",
            defaultValue = "true,false",
            description = "whether the hardware logs stores; default ${DEFAULT-VALUE}")
    private List<Boolean> pmls;

    @Option(
            names = "--stride",
            defaultValue = "1",
            description = "pages from one store to the next; default ${DEFAULT-VALUE}")
    private long stride;

    @Option(names = "--rounds", defaultValue = "9", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    @Option(names = "--warm-rounds", defaultValue = "3", description = "before them; default ${DEFAULT-VALUE}")
    private int warmRounds;

    private final ThreadMXBean clock = ManagementFactory.getThreadMXBean();

    private EagerSplitPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new EagerSplitPerf())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("EagerSplitPerf", parameters());
        List<Map<String, Object>> runs = new ArrayList<>();
        for (boolean pml : pmls) {
            runs.add(measure(pml));
        }
        report.put("runs", runs);
        report.print();
        return 0;
    }

    private Map<String, Object> parameters() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("bits", bits);
        all.put("policy", policy);
        all.put("pml", pmls);
        all.put("stride", stride);
        all.put("rounds", rounds);
        all.put("warmRounds", warmRounds);
        return all;
    }

    /** CPU times of one round, in ns. */
    private record Round(double start, double split, double stores) {}

    private Map<String, Object> measure(boolean pml) {
        double[] splits = new double[rounds];
        double[] starts = new double[rounds];
        double[] lazyStarts = new double[rounds];
        double[] eagerStores = new double[rounds];
        double[] lazyStores = new double[rounds];
        for (int round = -warmRounds; round < rounds; round++) {
            Round eager = round(pml, true);
            Round lazy = round(pml, false);
            if (round >= 0) {
                splits[round] = eager.split();
                starts[round] = eager.start();
                lazyStarts[round] = lazy.start();
                eagerStores[round] = eager.stores();
                lazyStores[round] = lazy.stores();
            }
        }
        return describe(
                pml,
                Report.median(splits),
                Report.median(starts),
                Report.median(lazyStarts),
                Report.median(eagerStores),
                Report.median(lazyStores));
    }

    private Map<String, Object> describe(
            boolean pml, double split, double start, double lazyStart, double stores, double lazyStores) {
        double leaves = (double) pages() / PagingLevel.pages(PagingLevel.L2M);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("pml", pml);
        row.put("leaves2m", leaves);
        row.put("splitNanosPerLeaf", split / leaves);
        row.put("startNanosPerLeafEager", start / leaves);
        row.put("startNanosPerLeafLazy", lazyStart / leaves);
        row.put("storesNanosPerLeafEager", stores / leaves);
        row.put("storesNanosPerLeafLazy", lazyStores / leaves);
        row.put("savedBySplit", (lazyStores - stores) / split);
        row.put("storesLazyToSplit", lazyStores / split);
        row.put("wholeLazyToEager", (lazyStart + lazyStores) / (start + stores));
        System.err.printf(
                Locale.ROOT,
                "# pml %s, ns a leaf of 2 MiB: split %.0f; start of the log %.0f eager, %.0f lazy; stores %.0f eager,"
                        + " %.0f lazy; stores save %.1f x the split, lazy stores cost %.1f x the split%n",
                pml,
                split / leaves,
                start / leaves,
                lazyStart / leaves,
                stores / leaves,
                lazyStores / leaves,
                (lazyStores - stores) / split,
                lazyStores / split);
        return row;
    }

    private long pages() {
        return 1L << bits;
    }

    private Round round(boolean pml, boolean eager) {
        try (Vm vm = new Vm(BenchVm.config(policy)
                .hugePages(PageSize.SIZE_2M)
                .pml(pml)
                .eagerSplit(eager)
                .build())) {
            vm.prewarmTables(Math.toIntExact(2 * BenchVm.tablesOf(pages())));
            MemSlot slot = vm.addSlot(0, 0, Gfn.toGpa(pages()), Backing.synthetic(PageSize.SIZE_2M));
            Vcpu vcpu = vm.createVcpu();
            double split = timeSplit(vm, slot, vcpu);
            store(vcpu, PagingLevel.pages(PagingLevel.L2M));
            double begin = clock.getCurrentThreadCpuTime();
            DirtyLog log = vm.startDirtyLog(slot);
            double started = clock.getCurrentThreadCpuTime();
            store(vcpu, stride);
            double stored = clock.getCurrentThreadCpuTime();
            long dirty = log.harvest().count();
            if (dirty != pages() / stride) {
                throw new IllegalStateException("log is wrong: dirty=" + dirty + ", expected=" + pages() / stride);
            }
            return new Round(started - begin, split, stored - started);
        }
    }

    /** Times the split alone, and takes everything away again. */
    private double timeSplit(Vm vm, MemSlot slot, Vcpu vcpu) {
        store(vcpu, PagingLevel.pages(PagingLevel.L2M));
        double begin = clock.getCurrentThreadCpuTime();
        long split = vm.mmu().ranges().split(slot.baseGfn(), slot.endGfn(), PagingLevel.L4K);
        double end = clock.getCurrentThreadCpuTime();
        if (split != pages() / PagingLevel.pages(PagingLevel.L2M)) {
            throw new IllegalStateException("not everything was split: split=" + split);
        }
        vm.mmu().ranges().recover(slot);
        vm.zap(slot.gpa(), slot.bytes());
        vm.barrier();
        return end - begin;
    }

    private void store(Vcpu vcpu, long step) {
        for (long gfn = 0; gfn < pages(); gfn += step) {
            vcpu.touch(Gfn.toGpa(gfn), Access.WRITE);
        }
    }
}
