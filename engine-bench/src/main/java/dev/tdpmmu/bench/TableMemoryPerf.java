package dev.tdpmmu.bench;

import dev.tdpmmu.VmStats;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.mmu.VcpuMmu;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Prints how many bytes of tables, headers included, and of heap a dense 4 KiB mapping takes, as JSON. */
@Command(
        name = "TableMemoryPerf",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Maps whole guests and prints the memory of their tables.")
public final class TableMemoryPerf implements Callable<Integer> {
    @Option(
            names = "--bits",
            split = ",",
            defaultValue = "18,22,24",
            description = "log2 of the 4 KiB pages, one guest each; default ${DEFAULT-VALUE}")
    private List<Integer> bits;

    private TableMemoryPerf() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new TableMemoryPerf()).execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        Report report = new Report("TableMemoryPerf", Map.of("bits", bits));
        List<Map<String, Object>> guests = new ArrayList<>();
        for (int log2 : bits) {
            guests.add(measure(log2));
        }
        report.put("guests", guests);
        report.print();
        return 0;
    }

    private static Map<String, Object> measure(int log2) {
        long pages = 1L << log2;
        try (BenchVm bench = BenchVm.synthetic(LockPolicy.PARALLEL, pages)) {
            VcpuMmu vcpu = bench.newVcpu();
            long heapBefore = Heap.usedBytes();
            Work.faultStrided(bench.vm().mmu().faults(), vcpu, bench.slot(), 0, pages, 1);
            long heapAfter = Heap.usedBytes();
            VmStats stats = bench.vm().stats();
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("bits", log2);
            row.put("mappings", stats.pages4k());
            row.put("tablePages", stats.tablePages());
            row.put("tableBytes", stats.tableBytes());
            row.put("bytesPerMapping", (double) stats.tableBytes() / stats.pages4k());
            row.put("heapGrowthBytes", heapAfter - heapBefore);
            row.put("heapBytesPerMapping", (double) (heapAfter - heapBefore) / stats.pages4k());
            return row;
        }
    }
}
