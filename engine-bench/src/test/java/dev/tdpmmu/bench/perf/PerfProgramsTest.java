package dev.tdpmmu.bench.perf;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs every program once with very little memory, and looks at what it wrote. The figures mean nothing. */
class PerfProgramsTest {
    private static final List<String> POLICIES = List.of("EXCLUSIVE", "STAMPED", "PARALLEL");
    private static final List<String> QUICK = List.of("--repetitions", "1", "--warm", "0");
    private static final int OPTIONS_WRONG = 2;

    private static final Map<String, List<String>> COMMANDS = new LinkedHashMap<>();
    private static final Map<String, Integer> EXIT_CODES = new LinkedHashMap<>();

    @TempDir
    private static Path directory;

    private static String log;

    @BeforeAll
    static void runAllPrograms() throws IOException, InterruptedException {
        command("demand", "demand-paging", "-b", "1m");
        command("demand read", "demand-paging", "-b", "1m", "-r", "-o", "--threads", "virtual", "--paging", "npt5");
        command("demand fresh", "demand-paging", "-b", "2m", "-r", "-s", "2m", "--fresh-frames");
        command("log", "dirty-log", "-b", "1m");
        command("log bitmap", "dirty-log", "-b", "2m", "-g", "-s", "2m", "-i", "3", "-e", "--no-pml");
        command("log ring", "dirty-log", "-b", "8m", "-t", "ring", "-c", "1024", "--no-pml");
        command("log ring pml", "dirty-log", "-b", "8m", "-t", "ring", "-c", "1024");
        command(
                "log knobs",
                "dirty-log",
                "-b",
                "2m",
                "-v",
                "3",
                "-o",
                "-x",
                "2",
                "-p",
                "64m",
                "-f",
                "2",
                "-a",
                "-r",
                "7");
        command(
                "log lazy",
                "dirty-log",
                "-b",
                "2m",
                "-s",
                "2m",
                "--no-eager-split",
                "-w",
                "10",
                "-t",
                "manual_protect");
        command("access", "access-tracking", "-b", "1m", "--flush");
        command("access without A", "access-tracking", "-b", "1m", "--accessed-dirty", "off", "--chunk", "2m");
        command("modification", "memslot-modification", "-b", "1m", "-i", "3", "-d", "100", "--undisturbed", "5");
        command("memslot", "memslot", "-m", "2m", "-s", "5", "-v", "2", "-d", "5");
        command("stress", "mmu-stress", "-m", "4m", "-s", "1m", "-c", "2");
        command("wrong share", "dirty-log", "-f", "2", "-w", "50");
        command("wrong slots", "demand-paging", "-b", "1m", "-x", "1000");
        command("wrong program", "dirty-logs");

        List<Integer> codes = PerfProcess.run(directory.resolve("output"), List.copyOf(COMMANDS.values()));
        log = Files.readString(directory.resolve("output"));
        int index = 0;
        for (String name : COMMANDS.keySet()) {
            EXIT_CODES.put(name, codes.get(index++));
        }
    }

    private static void command(String name, String... options) {
        List<String> all = new ArrayList<>(List.of(options));
        all.addAll(QUICK);
        all.addAll(List.of("--out", directory.resolve(name).toString()));
        COMMANDS.put(name, all);
    }

    @Test
    void everyProgramComesToItsEnd() {
        EXIT_CODES.forEach(
                (name, code) -> assertEquals(name.startsWith("wrong") ? OPTIONS_WRONG : 0, code, name + log));
    }

    @Test
    void everyProgramHasItsPhases() throws IOException {
        assertPhases("demand", "DemandPagingPerf", "demand", "again", "zap", "demand again");
        assertPhases("demand read", "DemandPagingPerf", "demand", "again", "zap", "demand again");
        assertPhases(
                "log",
                "DirtyLogPerf",
                "populate",
                "enable",
                "dirty 1",
                "get 1",
                "clear 1",
                "dirty 2",
                "get 2",
                "clear 2",
                "disable");
        assertPhases(
                "log bitmap",
                "DirtyLogPerf",
                "populate",
                "enable",
                "dirty 1",
                "get 1",
                "dirty 2",
                "get 2",
                "dirty 3",
                "get 3",
                "disable");
        assertPhases(
                "access",
                "AccessTrackingPerf",
                "populate",
                "write populated",
                "read populated",
                "mark idle 1",
                "write idle",
                "mark idle 2",
                "read idle");
        assertPhases(
                "modification",
                "MemSlotModificationPerf",
                "populate",
                "guest undisturbed",
                "add",
                "remove",
                "guest disturbed");
        assertPhases(
                "memslot",
                "MemSlotPerf",
                "set up",
                "map: unmap half",
                "map",
                "unmap: unmap half",
                "unmap",
                "unmap chunked: unmap half",
                "unmap chunked",
                "move active",
                "move inactive",
                "rw");
        assertPhases(
                "stress",
                "MmuStress",
                "write",
                "rewrite",
                "read",
                "read-only",
                "writable",
                "write again",
                "delete even slots",
                "read odd slots");
    }

    private void assertPhases(String name, String program, String... phases) throws IOException {
        JsonNode json = json(name, program);
        Map<String, Set<String>> found = new LinkedHashMap<>();
        for (JsonNode result : json.get("results")) {
            found.computeIfAbsent(result.get("policy").asText(), absent -> new LinkedHashSet<>())
                    .add(result.get("phase").asText());
            assertTrue(result.get("medianNanos").asDouble() > 0, result::toString);
            assertEquals(1, result.get("repetitions").size(), result::toString);
        }
        assertEquals(POLICIES, List.copyOf(found.keySet()));
        found.values().forEach(ofPolicy -> assertEquals(List.of(phases), List.copyOf(ofPolicy)));
        List<String> csv = Files.readAllLines(directory.resolve(name).resolve(program + ".csv"));
        assertEquals(1 + POLICIES.size() * phases.length, csv.size());
    }

    @Test
    void reportNamesWhatTheFiguresWereTakenWith() throws IOException {
        JsonNode json = json("log", "DirtyLogPerf");

        for (String what : List.of("jdk", "flags", "cores", "commit", "debug")) {
            assertTrue(json.get("environment").hasNonNull(what), what);
        }
        assertEquals("INITIALLY_SET", json.get("parameters").get("tracking").asText());
        assertEquals("1048576", json.get("parameters").get("bytes").asText());
    }

    @Test
    void everyWrittenPageIsGot() throws IOException {
        for (String name : List.of("log", "log bitmap")) {
            List<Long> expected = Collections.nCopies(POLICIES.size(), pages(name));

            assertEquals(expected, counts(name, "DirtyLogPerf", "dirty pages 1"), name);
            assertEquals(expected, counts(name, "DirtyLogPerf", "dirty pages 2"), name);
        }
    }

    /** A store that finds the ring full has logged its page already, and logs it again when it is done after all. */
    @Test
    void everyWrittenPageIsInRing() throws IOException {
        for (String name : List.of("log ring", "log ring pml")) {
            List<Long> full = counts(name, "DirtyLogPerf", "ring full");
            for (String round : List.of("dirty pages 1", "dirty pages 2")) {
                List<Long> got = counts(name, "DirtyLogPerf", round);
                for (int i = 0; i < got.size(); i++) {
                    assertTrue(got.get(i) >= pages(name) && got.get(i) <= pages(name) + full.get(i), name + got + full);
                }
            }
        }
    }

    @Test
    void smallRingsFillUp() throws IOException {
        for (String name : List.of("log ring", "log ring pml")) {
            counts(name, "DirtyLogPerf", "ring full").forEach(times -> assertTrue(times > 0, name));
        }
    }

    @Test
    void hugeLeavesAreSplitAndComeBack() throws IOException {
        for (String name : List.of("log bitmap", "log lazy")) {
            counts(name, "DirtyLogPerf", "splits").forEach(splits -> assertTrue(splits > 0, name));
            counts(name, "DirtyLogPerf", "promotions").forEach(promotions -> assertTrue(promotions > 0, name));
        }
    }

    @Test
    void noAccessGoesUnseenWhereMarkingFlushes() throws IOException {
        List<Long> idle = counts("access", "AccessTrackingPerf", "still idle after read");

        assertEquals(Collections.nCopies(POLICIES.size(), 0L), idle);
    }

    @Test
    void storesToReadOnlyPagesAreRefused() throws IOException {
        counts("stress", "MmuStress", "refused writes").forEach(refused -> assertTrue(refused > 0));
    }

    @Test
    void programsRefuseCheckingProcess() {
        for (Callable<Integer> program : PerfCommand.programs()) {
            IllegalStateException refused = assertThrows(IllegalStateException.class, program::call);

            assertTrue(refused.getMessage().contains("tdpmmu.debug=CHECK"), refused.getMessage());
        }
    }

    /** Pages of 4 KiB that both vCPUs have. */
    private long pages(String name) throws IOException {
        return json(name, "DirtyLogPerf").get("parameters").get("bytes").asLong() * 2 / 4096;
    }

    /** One for each policy. */
    private List<Long> counts(String name, String program, String counter) throws IOException {
        List<Long> all = new ArrayList<>();
        for (JsonNode one : json(name, program).get("counters")) {
            if (one.get("name").asText().equals(counter)) {
                one.get("repetitions").forEach(count -> all.add(count.asLong()));
            }
        }
        assertEquals(POLICIES.size(), all.size(), name + ": " + counter);
        return all;
    }

    private JsonNode json(String name, String program) throws IOException {
        return new ObjectMapper()
                .readTree(directory.resolve(name).resolve(program + ".json").toFile());
    }
}
