package dev.tdpmmu.examples;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.sim.Boot;
import dev.tdpmmu.sim.BootConfig;
import dev.tdpmmu.sim.BootReport;
import dev.tdpmmu.sim.FleetThreads;
import dev.tdpmmu.sim.Trace;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Boots a guest on many vCPUs under each lock policy and prints what it cost. */
@Command(
        name = "boot",
        description = {
            "Boots one guest on many vCPUs at once, under each lock policy in turn.",
            "Each vCPU replays the page accesses of a real program in its own share of guest memory, then touches the rest"
                    + " of it. All data is checked."
        },
        footer = {"", "Exit code: 0 if all is well, 1 if a check failed, 2 if the options are wrong."},
        mixinStandardHelpOptions = true,
        sortOptions = false)
final class BootCommand implements Callable<Integer> {
    private static final List<String> DEFAULT_TRACES = List.of("sqlite.trace.gz", "gcc.trace.gz", "perl.trace.gz");

    /** Lock policies as options name them. */
    enum PolicyChoice {
        ALL(List.of(LockPolicy.values())),
        EXCLUSIVE(List.of(LockPolicy.EXCLUSIVE)),
        STAMPED(List.of(LockPolicy.STAMPED)),
        PARALLEL(List.of(LockPolicy.PARALLEL));

        private final List<LockPolicy> policies;

        PolicyChoice(List<LockPolicy> policies) {
            this.policies = policies;
        }
    }

    @Spec
    private CommandSpec spec;

    @Option(names = "--vcpus", paramLabel = "N", description = "How many vCPUs, 1 to 65536. Default: ${DEFAULT-VALUE}.")
    private int vcpus = BootConfig.DEFAULT_VCPUS;

    @Option(
            names = "--memory",
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            description =
                    "Guest memory, with suffix k, m, g or t. Default: 8g, or half of this machine's memory if that is"
                            + " less.")
    private Long memory;

    @Option(names = "--no-touch", description = "Leave out the second phase: do not touch what no trace uses.")
    private boolean noTouch;

    @Option(
            names = "--threads",
            paramLabel = "platform|virtual",
            description = "Kind of thread that runs a vCPU. Default: virtual.")
    private FleetThreads threads = FleetThreads.VIRTUAL;

    @Option(
            names = "--policy",
            paramLabel = "all|exclusive|stamped|parallel",
            description = "Lock policy. Default: all, side by side.")
    private PolicyChoice policy = PolicyChoice.ALL;

    @Option(
            names = "--paging",
            paramLabel = "ept4|ept5|npt4|npt5",
            description = "Format and depth of the tables. Default: ept4.")
    private PagingMode paging = PagingMode.EPT4;

    @Option(
            names = "--page-size",
            paramLabel = "4k|2m|1g",
            converter = PageSizeConverter.class,
            description = "Size of host frames and of the largest mapping. Default: 4k.")
    private PageSize pageSize = PageSize.SIZE_4K;

    @Option(
            names = "--trace",
            paramLabel = "FILE",
            arity = "1..*",
            description = "Traces (.trace.gz) given out to vCPUs round robin. Default: sqlite, gcc and perl, built in.")
    private List<Path> traces = List.of();

    @Option(names = "--json", paramLabel = "FILE", description = "Also write the figures there, as JSON.")
    private Path json;

    @Override
    public Integer call() throws IOException {
        BootConfig config = config();
        PrintWriter out = spec.commandLine().getOut();
        BootReport report;
        try (BootProgress progress = new BootProgress(spec.commandLine().getErr())) {
            report = Boot.run(config, progress);
        }
        new BootTable(report).print(out);
        out.flush();
        if (json != null) {
            BootJson.write(report, json);
        }
        return exitCode(report);
    }

    static int exitCode(BootReport report) {
        return report.isSound() ? 0 : 1;
    }

    private BootConfig config() throws IOException {
        List<Trace> read = readTraces();
        try {
            return BootConfig.builder(read)
                    .vcpus(vcpus)
                    .memoryBytes(memory != null ? memory : DefaultMemory.bytes())
                    .touch(!noTouch)
                    .threads(threads)
                    .policies(policy.policies)
                    .pagingMode(paging)
                    .pageSize(pageSize)
                    .build();
        } catch (IllegalArgumentException wrong) {
            throw new ParameterException(spec.commandLine(), wrong.getMessage(), wrong);
        }
    }

    private List<Trace> readTraces() throws IOException {
        if (json != null
                && json.toAbsolutePath().getParent() != null
                && !Files.isDirectory(json.toAbsolutePath().getParent())) {
            // Said now: after the run the figures would be lost.
            throw new ParameterException(spec.commandLine(), "no such directory for the figures: --json=" + json);
        }
        List<Trace> read = new ArrayList<>();
        for (Path file : traces) {
            try {
                read.add(Trace.read(file));
            } catch (NoSuchFileException missing) {
                throw new ParameterException(spec.commandLine(), "no such trace: --trace=" + file, missing);
            } catch (IOException broken) {
                throw new ParameterException(spec.commandLine(), broken.getMessage(), broken);
            }
        }
        return read.isEmpty() ? builtInTraces() : read;
    }

    static List<Trace> builtInTraces() throws IOException {
        List<Trace> read = new ArrayList<>();
        for (String name : DEFAULT_TRACES) {
            try (InputStream in = BootCommand.class.getResourceAsStream("traces/" + name)) {
                if (in == null) {
                    throw new FileNotFoundException("built-in trace is missing: name=" + name);
                }
                read.add(Trace.read(in, name));
            }
        }
        return read;
    }
}
