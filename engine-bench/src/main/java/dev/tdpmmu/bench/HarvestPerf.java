package dev.tdpmmu.bench;

import dev.tdpmmu.DirtyLog;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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
 * Compares the harvest of a clean slot's dirty log with a plain read of as many words of memory, and prints both as
 * JSON.
 *
 * <p>The read is a loop that ors off-heap words together and stops at none, into which the compiler puts vector
 * instructions. Both alternate, in blocks of some calls each; a round's figure is the median of its blocks.
 */
@Command(
        name = "HarvestPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Compares the harvest of a clean slot with a read of its bitmap.")
public final class HarvestPerf implements Callable<Integer> {
    private static final double NANOS_PER_MICRO = 1e3;

    @Option(names = "--gib", defaultValue = "64", description = "size of the slot; default ${DEFAULT-VALUE}")
    private long gib;

    @Option(
            names = "--pml",
            split = ",",
            defaultValue = "true,false",
            description = "whether the hardware logs stores; default ${DEFAULT-VALUE}")
    private List<Boolean> pmls;

    @Option(
            names = "--vcpus",
            defaultValue = "2",
            description = "whose logs a harvest has to look at; default ${DEFAULT-VALUE}")
    private int vcpus;

    @Option(names = "--rounds", defaultValue = "5", description = "that count; default ${DEFAULT-VALUE}")
    private int rounds;

    @Option(names = "--blocks", defaultValue = "40", description = "of each round; default ${DEFAULT-VALUE}")
    private int blocks;

    @Option(names = "--calls", defaultValue = "20", description = "of each block; default ${DEFAULT-VALUE}")
    private int calls;

    /** Read by nobody: keeps the reads alive. */
    private long sink;

    private HarvestPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new HarvestPerf()).execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("HarvestPerf", parameters());
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
        all.put("gib", gib);
        all.put("pml", pmls);
        all.put("vcpus", vcpus);
        all.put("rounds", rounds);
        all.put("blocks", blocks);
        all.put("calls", calls);
        return all;
    }

    private Map<String, Object> measure(boolean pml) {
        long bytes = gib << 30;
        long words = Gfn.of(bytes) / Long.SIZE;
        try (Arena arena = Arena.ofConfined();
                Vm vm = new Vm(BenchVm.config(LockPolicy.PARALLEL).pml(pml).build())) {
            MemorySegment plain = arena.allocate(words * Long.BYTES, Long.BYTES).fill((byte) 0);
            MemSlot slot = vm.addSlot(0, 0, bytes, Backing.synthetic(PageSize.SIZE_4K));
            for (int i = 0; i < vcpus; i++) {
                vm.createVcpu();
            }
            DirtyLog log = vm.startDirtyLog(slot);
            DirtyPages pages = new DirtyPages(slot.pages());
            double[] harvests = new double[rounds];
            double[] reads = new double[rounds];
            for (int round = -1; round < rounds; round++) {
                double[] harvestBlocks = new double[blocks];
                double[] readBlocks = new double[blocks];
                for (int block = 0; block < blocks; block++) {
                    harvestBlocks[block] = timeHarvest(log, pages);
                    readBlocks[block] = timeRead(plain, words);
                }
                if (round >= 0) {
                    harvests[round] = Report.median(harvestBlocks);
                    reads[round] = Report.median(readBlocks);
                }
            }
            return describe(pml, words, harvests, reads);
        }
    }

    private static Map<String, Object> describe(boolean pml, long words, double[] harvests, double[] reads) {
        double harvest = Report.median(harvests);
        double read = Report.median(reads);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("pml", pml);
        row.put("words", words);
        row.put("harvestMicros", harvest / NANOS_PER_MICRO);
        row.put("readMicros", read / NANOS_PER_MICRO);
        row.put("harvestNanosOfRounds", harvests);
        row.put("readNanosOfRounds", reads);
        row.put("ratio", harvest / read);
        System.err.printf(
                Locale.ROOT,
                "# pml %s: harvest %.1f us, plain read %.1f us, ratio %.2f%n",
                pml,
                harvest / NANOS_PER_MICRO,
                read / NANOS_PER_MICRO,
                harvest / read);
        return row;
    }

    private double timeHarvest(DirtyLog log, DirtyPages into) {
        long begin = System.nanoTime();
        long dirty = 0;
        for (int i = 0; i < calls; i++) {
            dirty += log.harvest(into);
        }
        double nanos = (double) (System.nanoTime() - begin) / calls;
        if (dirty != 0) {
            throw new IllegalStateException("slot is not clean: dirty=" + dirty);
        }
        return nanos;
    }

    private double timeRead(MemorySegment plain, long words) {
        long begin = System.nanoTime();
        long bits = 0;
        for (int i = 0; i < calls; i++) {
            bits |= read(plain, words);
        }
        double nanos = (double) (System.nanoTime() - begin) / calls;
        sink |= bits;
        return nanos;
    }

    private static long read(MemorySegment plain, long words) {
        long bits = 0;
        for (long i = 0; i < words; i++) {
            bits |= plain.getAtIndex(ValueLayout.JAVA_LONG, i);
        }
        return bits;
    }
}
