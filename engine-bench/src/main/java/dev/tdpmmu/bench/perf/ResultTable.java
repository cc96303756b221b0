package dev.tdpmmu.bench.perf;

import dev.tdpmmu.config.LockPolicy;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Prints results for people: a row for each phase, the lock policies side by side. */
final class ResultTable {
    private static final double NANOS_PER_MILLI = 1e6;
    private static final String GAP = "  ";

    private final PerfResults results;
    private final List<List<String>> rows = new ArrayList<>();

    ResultTable(PerfResults results) {
        this.results = results;
    }

    void print(PrintWriter out) {
        addTimes();
        printRows(out);
        if (!results.counterNames().isEmpty()) {
            out.println();
            rows.clear();
            addCounters();
            printRows(out);
        }
        out.println();
        out.println("Medians. Wall and CPU time in ms, then ns for each operation of the phase, then how many times the"
                + " cost of " + results.policies().getFirst() + " that is.");
        out.flush();
    }

    private void addTimes() {
        List<String> head = new ArrayList<>(List.of("phase"));
        for (LockPolicy policy : results.policies()) {
            head.addAll(List.of(policy + " ms", "cpu ms", "ns/op", "x"));
        }
        rows.add(head);
        for (String phase : results.phases()) {
            List<String> row = new ArrayList<>(List.of(phase));
            for (LockPolicy policy : results.policies()) {
                row.add(number("%.3f", results.medianNanos(policy, phase) / NANOS_PER_MILLI));
                row.add(number("%.3f", results.medianCpuNanos(policy, phase) / NANOS_PER_MILLI));
                row.add(number("%.1f", results.medianNanosPerOperation(policy, phase)));
                row.add(number("%.2f", results.timesBaseline(policy, phase)));
            }
            rows.add(row);
        }
    }

    private void addCounters() {
        List<String> head = new ArrayList<>(List.of("count"));
        results.policies().forEach(policy -> head.add(policy.toString()));
        rows.add(head);
        for (String name : results.counterNames()) {
            List<String> row = new ArrayList<>(List.of(name));
            results.policies().forEach(policy -> row.add(number("%.0f", results.medianCount(policy, name))));
            rows.add(row);
        }
    }

    private static String number(String format, double value) {
        return Double.isFinite(value) ? String.format(Locale.ROOT, format, value) : "-";
    }

    private void printRows(PrintWriter out) {
        int columns = rows.getFirst().size();
        int[] widths = new int[columns];
        for (List<String> row : rows) {
            for (int column = 0; column < columns; column++) {
                widths[column] = Math.max(widths[column], row.get(column).length());
            }
        }
        for (List<String> row : rows) {
            StringBuilder line = new StringBuilder(row.getFirst());
            line.append(" ".repeat(widths[0] - row.getFirst().length()));
            for (int column = 1; column < columns; column++) {
                String cell = row.get(column);
                line.append(GAP)
                        .append(" ".repeat(widths[column] - cell.length()))
                        .append(cell);
            }
            out.println(line);
        }
    }
}
