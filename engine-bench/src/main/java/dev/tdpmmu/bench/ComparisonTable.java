package dev.tdpmmu.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * Makes the Markdown tables of a comparison from the lines that the native reference, {@link NativeComparison} and
 * {@link RangeComparison} printed, each with the number of its round in front.
 *
 * <p>Figures are medians over the rounds of each round's median; the best repetition of all stands in brackets. {@code
 * java -cp target/tdpmmu-benchmarks.jar dev.tdpmmu.bench.ComparisonTable FILE...}
 */
public final class ComparisonTable {
    private static final int FIELDS = 11;
    private static final String NATIVE = "C";
    private static final String MERGED = "merged_lock_rcu";
    private static final String EXCLUSIVE = "mutex";
    private static final String MISSING = "-";

    private static final String NONE = "none";
    private static final String KERNEL = "kernel";
    private static final String API = "api";
    private static final String HARDWARE = "hardware";
    private static final String ZAP = "zap";
    private static final double KERNEL_LIMIT = 1.2;
    private static final double API_LIMIT = 1.5;
    private static final double SPLIT_LIMIT = 1.25;

    /** Highest ratio of the medians that the specification allows. */
    private static final Map<String, Double> LIMITS = Map.ofEntries(
            Map.entry("xlate_seq none", 1.15),
            Map.entry("xlate_seq " + HARDWARE, 1.15),
            Map.entry("xlate_rand " + HARDWARE, 1.15),
            Map.entry("xlate_rand none", 1.15),
            Map.entry("xlate_seq " + MERGED, 1.25),
            Map.entry("xlate_rand " + MERGED, 1.25),
            Map.entry("fault_seq " + MERGED, 1.5),
            Map.entry("fault_rand " + MERGED, 1.25),
            Map.entry("fault_sparse " + MERGED, 1.25),
            Map.entry("wrprot " + KERNEL, KERNEL_LIMIT),
            Map.entry("wrprot " + API, API_LIMIT),
            Map.entry("clear_dirty " + KERNEL, KERNEL_LIMIT),
            Map.entry("clear_dirty " + API, API_LIMIT),
            Map.entry("clear_dirty_1pct " + KERNEL, KERNEL_LIMIT),
            Map.entry("clear_dirty_1pct " + API, API_LIMIT),
            Map.entry("zap " + KERNEL, KERNEL_LIMIT),
            Map.entry("zap " + API, API_LIMIT),
            Map.entry("zap_leaves " + KERNEL, KERNEL_LIMIT),
            Map.entry("zap_leaves " + API, API_LIMIT),
            Map.entry("split " + KERNEL, SPLIT_LIMIT),
            Map.entry("split " + API, SPLIT_LIMIT));

    /** What was measured in one place; sorted so that rows come out in a fixed order. */
    private record Cell(String operation, String mode, int bits, int threads) implements Comparable<Cell> {
        @Override
        public int compareTo(Cell other) {
            return text().compareTo(other.text());
        }

        private String text() {
            return String.format(Locale.ROOT, "%03d %s %03d %s", bits, operation, threads, mode);
        }
    }

    /** Medians and bests of the rounds of one side. */
    private static final class Rounds {
        private final List<Double> medians = new ArrayList<>();
        private double best = Double.MAX_VALUE;

        void add(double median, double min) {
            medians.add(median);
            best = Math.min(best, min);
        }

        boolean isEmpty() {
            return medians.isEmpty();
        }

        double median() {
            return Report.median(
                    medians.stream().mapToDouble(Double::doubleValue).toArray());
        }

        @Override
        public String toString() {
            return isEmpty() ? MISSING : String.format(Locale.ROOT, "%.2f (%.2f)", median(), best);
        }
    }

    private final Map<Cell, Rounds> natives = new TreeMap<>();
    private final Map<Cell, Rounds> engines = new TreeMap<>();

    private ComparisonTable() {}

    /**
     * Prints the tables.
     *
     * @param args files of CSV lines
     * @throws IOException if one cannot be read
     */
    public static void main(String[] args) throws IOException {
        ComparisonTable table = new ComparisonTable();
        for (String file : args) {
            for (String line : Files.readAllLines(Path.of(file))) {
                table.add(line);
            }
        }
        table.printRatios();
        table.printScaling();
    }

    private void add(String line) {
        String[] fields = line.split(",");
        if (line.startsWith("#") || fields.length != FIELDS) {
            return;
        }
        Cell cell = new Cell(fields[2], fields[3], Integer.parseInt(fields[5]), Integer.parseInt(fields[4]));
        boolean isNative = fields[1].equals(NATIVE);
        rounds(isNative ? natives : engines, cell).add(Double.parseDouble(fields[6]), Double.parseDouble(fields[7]));
    }

    private static Rounds rounds(Map<Cell, Rounds> side, Cell cell) {
        return side.computeIfAbsent(cell, unseen -> new Rounds());
    }

    private void printRatios() {
        System.out.println(
                "| operation | mode | pages | threads | rounds | native ns | engine ns | ratio | best ratio | limit |");
        System.out.println("|---|---|---|---|---|---|---|---|---|---|");
        engines.forEach((cell, engine) -> {
            Rounds reference = rounds(natives, referenceOf(cell));
            Double limit = LIMITS.get(cell.operation() + " " + cell.mode());
            System.out.printf(
                    Locale.ROOT,
                    "| %s | %s | 2^%d | %d | %d | %s | %s | %s | %s | %s |%n",
                    cell.operation(),
                    cell.mode(),
                    cell.bits(),
                    cell.threads(),
                    engine.medians.size(),
                    reference,
                    engine,
                    reference.isEmpty() ? MISSING : ratio(engine.median(), reference.median()),
                    reference.isEmpty() ? MISSING : ratio(engine.best, reference.best),
                    limit == null ? MISSING : String.format(Locale.ROOT, "%.2f", limit));
        });
        System.out.println();
    }

    /** The reference knows one walk, one form of a range operation, and one way to zap. */
    private static Cell referenceOf(Cell cell) {
        if (cell.mode().equals(HARDWARE)) {
            return new Cell(cell.operation(), NONE, cell.bits(), cell.threads());
        }
        if (!cell.mode().equals(KERNEL) && !cell.mode().equals(API)) {
            return cell;
        }
        String operation = cell.operation().startsWith(ZAP) ? ZAP : cell.operation();
        return new Cell(operation, NONE, cell.bits(), cell.threads());
    }

    private static String ratio(double a, double b) {
        return String.format(Locale.ROOT, "%.2f", a / b);
    }

    private void printScaling() {
        System.out.println("| what | pages | figure | limit |");
        System.out.println("|---|---|---|---|");
        engines.keySet().stream().map(Cell::bits).distinct().forEach(bits -> {
            printScaling(
                    "throughput of 2 threads against 1, disjoint",
                    bits,
                    2,
                    cell("fault_seq", MERGED, bits, 1),
                    cell("fault_seq", MERGED, bits, 2),
                    "at least 1.60");
            printScaling(
                    "rate on the same lines against disjoint, 2 threads",
                    bits,
                    1,
                    cell("fault_seq", MERGED, bits, 2),
                    cell("fault_interleaved", MERGED, bits, 2),
                    "at least 0.50");
            printScaling(
                    "rate of PARALLEL against EXCLUSIVE, 2 threads",
                    bits,
                    1,
                    cell("fault_seq", EXCLUSIVE, bits, 2),
                    cell("fault_seq", MERGED, bits, 2),
                    "at least 5.00");
            printScaling(
                    "time of PARALLEL against EXCLUSIVE, 1 thread",
                    bits,
                    1,
                    cell("fault_seq", MERGED, bits, 1),
                    cell("fault_seq", EXCLUSIVE, bits, 1),
                    "at most 1.03");
        });
    }

    private Rounds cell(String operation, String mode, int bits, int threads) {
        return engines.getOrDefault(new Cell(operation, mode, bits, threads), new Rounds());
    }

    private static void printScaling(String what, int bits, double factor, Rounds over, Rounds under, String limit) {
        if (!over.isEmpty() && !under.isEmpty()) {
            System.out.printf(
                    Locale.ROOT,
                    "| %s | 2^%d | %.2f | %s |%n",
                    what,
                    bits,
                    factor * over.median() / under.median(),
                    limit);
        }
    }
}
