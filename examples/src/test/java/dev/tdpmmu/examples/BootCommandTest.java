package dev.tdpmmu.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.tdpmmu.Vm;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.sim.Boot;
import dev.tdpmmu.sim.BootConfig;
import dev.tdpmmu.sim.BootListener;
import dev.tdpmmu.sim.BootPhase;
import dev.tdpmmu.sim.BootReport;
import dev.tdpmmu.sim.Trace;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine;

/** The boot as it is called from a shell, in this process. */
final class BootCommandTest {
    private static final List<String> SPECIFIED_NAMES = List.of(
            "policy",
            "vcpus",
            "memoryBytes",
            "wallNanos",
            "faults",
            "nsPerFault",
            "latencyNanos",
            "pages4k",
            "pages2m",
            "pages1g",
            "tablePages",
            "tlbHitRate",
            "dataErrors");
    private static final List<String> FURTHER_NAMES = List.of(
            "tableBytes",
            "guestBytesTouched",
            "replayNanos",
            "touchNanos",
            "accesses",
            "faultsPerSecond",
            "traceRecords",
            "leftOutRecords",
            "distinctPages",
            "replayedPages",
            "flushes",
            "lockWaits",
            "retiredPages",
            "reclaimedPages",
            "failure");

    @TempDir
    private Path directory;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();

    @Test
    void helpNamesEveryOption() {
        assertEquals(0, run("boot", "--help"));

        for (String option : List.of(
                "--vcpus",
                "--memory",
                "--no-touch",
                "--threads=platform|virtual",
                "--policy=all|exclusive|stamped|parallel",
                "--paging=ept4|ept5|npt4|npt5",
                "--page-size=4k|2m|1g",
                "--trace=FILE...",
                "--json=FILE")) {
            assertTrue(out.toString().contains(option), () -> option + " is not in:\n" + out);
        }
        assertTrue(out.toString().contains("Default: 1000"), out.toString());
    }

    @Test
    void optionsAreExactlyThoseSpecified() {
        CommandLine boot = Main.commandLine().getSubcommands().get("boot");

        List<String> names = new ArrayList<>();
        boot.getCommandSpec().options().forEach(option -> names.add(option.longestName()));

        assertEquals(
                List.of(
                        "--vcpus",
                        "--memory",
                        "--no-touch",
                        "--threads",
                        "--policy",
                        "--paging",
                        "--page-size",
                        "--trace",
                        "--json",
                        "--help",
                        "--version"),
                names);
    }

    @Test
    void commandIsRequired() {
        assertEquals(2, run());

        assertTrue(err.toString().contains("Missing required subcommand"), err.toString());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "--vcpus 0; vcpus=0, min=1, max=65536",
                "--vcpus ten; '--vcpus': 'ten' is not an int",
                "--memory 12q; '12q' is no size",
                "--memory 1k; memoryBytes=1024, min=",
                "--memory 4097k --page-size 2m --vcpus 1; no multiple of the page size",
                "--page-size 3k; expected one of 4k, 2m, 1g",
                "--threads green; [PLATFORM, VIRTUAL]",
                "--policy fair; [ALL, EXCLUSIVE, STAMPED, PARALLEL]",
                "--paging ept3; [EPT4, EPT5, NPT4, NPT5]",
                "--trace; Missing required parameter for option '--trace'",
                "--trace no-such.trace.gz; no such trace: --trace=no-such.trace.gz",
                "--json no-such-directory/x.json; no such directory",
                "--frobnicate; Unknown option: '--frobnicate'"
            })
    void badOptionIsNamedAndNothingRuns(String options, String expected) {
        int exitCode = run(("boot " + options).split(" "));

        assertEquals(2, exitCode);
        assertTrue(err.toString().contains(expected), err.toString());
        assertEquals("", out.toString());
    }

    @Test
    void badTraceIsNamedWithLineAndContent() throws IOException {
        Path bad = trace("bad.trace.gz", "R 1\nnonsense\n");

        int exitCode = run("boot", "--trace", bad.toString());

        assertEquals(2, exitCode);
        assertTrue(err.toString().contains("file=" + bad + ", line=2, content='nonsense'"), err.toString());
    }

    @Test
    void smallBootPrintsTheThreePoliciesSideBySide() {
        int exitCode = run("boot", "--vcpus", "6", "--memory", "48m");

        assertEquals(0, exitCode, err.toString());
        String report = out.toString();
        assertTrue(
                report.contains("6 vCPUs on virtual threads, 48 MiB of guest memory, EPT4 tables, 4 KiB pages"),
                report);
        assertTrue(report.matches("(?s).*EXCLUSIVE +STAMPED +PARALLEL.*"), report);
        for (String row : List.of(
                "guest bytes touched",
                "faults a second",
                "ns per fault",
                "retries",
                "p99.9",
                "table pages",
                "table bytes",
                "TLB hit rate")) {
            assertTrue(report.contains(row), () -> row + " is not in:\n" + report);
        }
        assertTrue(report.matches("(?s).*  fixed +12,288 +12,288 +12,288.*"), report);
        assertTrue(report.matches("(?s).*data errors +0 +0 +0.*"), report);
        assertTrue(report.contains("no record was left out"), report);
        assertTrue(err.toString().contains("boot-PARALLEL replay   100% ["), err.toString());
    }

    @Test
    void jsonHasExactlyTheSpecifiedNamesInTheirOrder() throws IOException {
        Path json = directory.resolve("boot.json");
        Path trace = trace("one.trace.gz", "X 1\nR 2\nW 3\nX 1\n");

        int exitCode = run(
                "boot",
                "--vcpus",
                "2",
                "--memory",
                "16k",
                "--no-touch",
                "--trace",
                trace.toString(),
                trace.toString(),
                "--json",
                json.toString());

        assertEquals(0, exitCode, err.toString());
        JsonNode runs = new ObjectMapper().readTree(json.toFile()).get("runs");
        assertEquals(3, runs.size());
        List<String> all = new ArrayList<>(SPECIFIED_NAMES);
        all.addAll(FURTHER_NAMES);
        for (int index = 0; index < 3; index++) {
            JsonNode run = runs.get(index);
            assertEquals(all, names(run));
            assertEquals(List.of("fixed", "fast", "spurious", "retry", "emulate"), names(run.get("faults")));
            assertEquals(List.of("p50", "p90", "p99", "p999", "max"), names(run.get("latencyNanos")));
            assertEquals(LockPolicy.values()[index].name(), run.get("policy").asText());
            assertEquals(16_384, run.get("memoryBytes").asLong());
            // Two pages a share: the trace's third page does not fit.
            assertEquals(4, run.get("pages4k").asLong());
            assertEquals(2, run.get("leftOutRecords").asLong());
            assertEquals(0, run.get("dataErrors").asLong());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"exclusive", "STAMPED", "Parallel"})
    void onePolicyIsOneRun(String policy) throws IOException {
        Path json = directory.resolve("boot.json");
        Path trace = trace("one.trace.gz", "W 3\n");

        int exitCode = run(
                "boot",
                "--policy=" + policy,
                "--vcpus=3",
                "--memory=2m",
                "--paging=npt5",
                "--page-size=2m",
                "--threads=platform",
                "--trace=" + trace,
                "--json=" + json);

        assertEquals(0, exitCode, err.toString());
        JsonNode runs = new ObjectMapper().readTree(json.toFile()).get("runs");
        assertEquals(1, runs.size());
        assertEquals(policy.toUpperCase(Locale.ROOT), runs.get(0).get("policy").asText());
        assertEquals(1, runs.get(0).get("pages2m").asLong());
    }

    @Test
    void dataErrorIsPrintedAndEndsInExitCodeOne() throws IOException {
        Trace trace = Trace.read(trace("one.trace.gz", "R 1\nR 2\n"));
        BootConfig config = BootConfig.builder(List.of(trace))
                .vcpus(1)
                .memoryBytes(8192)
                .policies(List.of(LockPolicy.PARALLEL))
                .build();
        BootReport report = Boot.run(config, new BootListener() {
            @Override
            public void phaseStarts(Vm vm, BootPhase phase, long steps) {}

            @Override
            public void stepsDone(Vm vm, long steps) {}

            @Override
            public void phaseEnds(Vm vm, BootPhase phase) {
                if (phase == BootPhase.LOAD) {
                    vm.memory().write(0, new byte[8192], 0, 8192);
                }
            }
        });

        new BootTable(report).print(new PrintWriter(out, true));

        assertFalse(report.isSound());
        assertEquals(1, BootCommand.exitCode(report));
        assertTrue(out.toString().contains("FAILED under PARALLEL: wrong data: vcpu="), out.toString());
        assertTrue(out.toString().matches("(?s).*data errors +[1-9].*"), out.toString());
    }

    private int run(String... arguments) {
        return Main.commandLine()
                .setOut(new PrintWriter(out, true))
                .setErr(new PrintWriter(err, true))
                .execute(arguments);
    }

    private Path trace(String name, String text) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (OutputStream gzip = new GZIPOutputStream(bytes)) {
            gzip.write(text.getBytes(StandardCharsets.UTF_8));
        }
        return Files.write(directory.resolve(name), bytes.toByteArray());
    }

    private static List<String> names(JsonNode node) {
        List<String> names = new ArrayList<>();
        node.fieldNames().forEachRemaining(names::add);
        return names;
    }
}
