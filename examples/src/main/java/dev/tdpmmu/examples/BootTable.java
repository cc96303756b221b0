package dev.tdpmmu.examples;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.sim.BootConfig;
import dev.tdpmmu.sim.BootReport;
import dev.tdpmmu.sim.BootRun;
import dev.tdpmmu.sim.Trace;
import java.io.PrintWriter;
import java.util.Locale;
import java.util.function.Function;

/** The report for people: what was run, then one column a lock policy. */
final class BootTable {
    private final BootReport report;
    private final StringBuilder text = new StringBuilder();

    BootTable(BootReport report) {
        this.report = report;
    }

    void print(PrintWriter out) {
        head();
        row("wall time", run -> seconds(run.wallNanos()));
        row("  replay", run -> seconds(run.replayNanos()));
        row("  touch", run -> report.config().touch() ? seconds(run.touchNanos()) : "left out");
        row("guest bytes touched", run -> bytes(run.guestBytesTouched()));
        row("accesses", run -> count(run.accesses()));
        row("TLB hit rate", run -> percent(run.tlbHitRate()));
        section("faults");
        row("  fixed", run -> count(run.faults().fixed()));
        row("  fast", run -> count(run.faults().fast()));
        row("  spurious", run -> count(run.faults().spurious()));
        row("  retries", run -> count(run.faults().retry()));
        row("  emulated", run -> count(run.faults().emulate()));
        row("faults a second", run -> count(Math.round(run.faultsPerSecond())));
        row("ns per fault", run -> format("%,.0f", run.nsPerFault()));
        section("fault latency");
        row("  p50", run -> nanos(run.latencyNanos().p50()));
        row("  p90", run -> nanos(run.latencyNanos().p90()));
        row("  p99", run -> nanos(run.latencyNanos().p99()));
        row("  p99.9", run -> nanos(run.latencyNanos().p999()));
        row("  max", run -> nanos(run.latencyNanos().max()));
        section("tables");
        row("  pages of 4 KiB", run -> count(run.pages4k()));
        row("  pages of 2 MiB", run -> count(run.pages2m()));
        row("  pages of 1 GiB", run -> count(run.pages1g()));
        row("  table pages", run -> count(run.tablePages()));
        row("  table bytes", run -> bytes(run.tableBytes()));
        row("lock waits", run -> count(run.lockWaits()));
        row("TLB flushes", run -> count(run.flushes()));
        row("data errors", run -> count(run.dataErrors()));
        foot();
        out.print(text);
    }

    private void head() {
        BootConfig config = report.config();
        line("");
        line(format(
                "%,d vCPUs on %s threads, %s of guest memory, %s tables, %s pages",
                config.vcpus(),
                name(config.threads()),
                bytes(config.memoryBytes()),
                config.pagingMode(),
                pageSize(config.pageSize())));
        line(format(
                "JDK %s, %d processors; each policy had a short run before, which is not in the figures",
                Runtime.version(), Runtime.getRuntime().availableProcessors()));
        line("host memory is warm and programs are loaded before the clock starts; tables and TLBs are empty");
        for (Trace trace : config.traces()) {
            line(format(
                    "trace %s: %,d records, %,d distinct pages", trace.name(), trace.length(), trace.distinctPages()));
            if (trace.skippedBytes() > 0) {
                line(format("  damaged: %,d NUL bytes in front of a record were skipped", trace.skippedBytes()));
            }
        }
        line("");
        row("", run -> run.policy().toString());
    }

    private void foot() {
        BootRun any = report.runs().getFirst();
        line("");
        if (any.leftOutRecords() == 0) {
            line(format("no record was left out: %,d records a policy, every page fits its share", any.traceRecords()));
        } else {
            line(format(
                    "left out, because their pages do not fit the share: %,d of %,d records (%,d of %,d pages fit)",
                    any.leftOutRecords(), any.traceRecords(), any.replayedPages(), any.distinctPages()));
        }
        line("ns per fault is the mean time from an exit to the re-entry, waiting included");
        for (BootRun run : report.runs()) {
            if (!run.isSound()) {
                line(format("FAILED under %s: %s", run.policy(), run.failure()));
            }
        }
        if (report.isSound()) {
            line("checked: all data, all tables, and that every byte was given back");
        }
    }

    private void section(String label) {
        line(label);
    }

    private void row(String label, Function<BootRun, String> value) {
        StringBuilder line = new StringBuilder(format("%-22s", label));
        for (BootRun run : report.runs()) {
            line.append(format("%18s", value.apply(run)));
        }
        line(line.toString());
    }

    private void line(String line) {
        text.append(line).append(System.lineSeparator());
    }

    private static String name(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    private static String pageSize(PageSize pageSize) {
        return bytes(pageSize.bytes());
    }

    private static String count(long value) {
        return format("%,d", value);
    }

    private static String percent(double share) {
        return format("%.2f %%", 100 * share);
    }

    private static String seconds(long nanos) {
        return format("%.3f s", nanos / 1e9);
    }

    private static String nanos(long nanos) {
        if (nanos < 10_000) {
            return nanos + " ns";
        }
        return nanos < 10_000_000 ? format("%,.1f us", nanos / 1e3) : format("%,.1f ms", nanos / 1e6);
    }

    /** The same text on every machine, whatever its language. */
    private static String format(String pattern, Object... values) {
        return String.format(Locale.ROOT, pattern, values);
    }

    /** Whole numbers of the largest unit that leaves none of it out, else two digits behind the point. */
    static String bytes(long bytes) {
        String[] units = {"B", "KiB", "MiB", "GiB", "TiB"};
        int unit = 0;
        while (unit < units.length - 1 && bytes >> 10 * (unit + 1) > 0) {
            unit++;
        }
        long one = 1L << 10 * unit;
        return bytes % one == 0
                ? bytes / one + " " + units[unit]
                : format("%.2f %s", (double) bytes / one, units[unit]);
    }
}
