package dev.tdpmmu.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.Vm;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The examples of a hypervisor's loops, as they are called from a shell, on small guests. */
final class HypervisorLoopsTest {
    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();

    @ParameterizedTest
    @CsvSource({"1, 4m", "2, 10m", "7, 32m"})
    void preCopySendsWhatWasDirtiedUntilBothSidesAreEqual(int vcpus, String memory) {
        int exitCode = run("pre-copy", "--vcpus=" + vcpus, "--memory=" + memory);

        assertEquals(0, exitCode, this::printed);
        List<String[]> rows = rows();
        assertEquals(pages(memory), number(rows.get(0)[1]), this::printed);
        for (int round = 2; round < rows.size(); round++) {
            assertEquals(Integer.toString(round), rows.get(round - 1)[0], this::printed);
            assertEquals(rows.get(round - 2)[2], rows.get(round - 1)[1], this::printed);
        }
        String[] last = rows.get(rows.size() - 1);
        assertEquals("paused", last[0], this::printed);
        assertTrue(number(last[1]) > 0 && number(last[1]) < number(rows.get(0)[2]), this::printed);
        assertEquals("0", last[2], this::printed);
        assertTrue(out.toString().endsWith(line("compared %,d pages, different 0", pages(memory))), this::printed);
    }

    @Test
    void workingSetIsTheTruthInEveryRound() {
        int exitCode = run("working-set", "--vcpus=2", "--memory=8m");

        assertEquals("""
                round  guest works on  estimate, 1 scan  estimate, 3 scans        ms
                    1           2,048             2,048              2,048
                    2             256               256              2,048
                    3             256               256              2,048
                    4             256               256                256
                    5             768               768                768
                    6             512               512                768
                    7             512               512                768
                    8             512               512                512
                every estimate of one scan is exact
                """, withoutTimes());
        assertEquals(0, exitCode);
    }

    @Test
    void balloonTakesFreePagesAndGivesZeroOnes() {
        int exitCode = run("balloon", "--vcpus=2", "--memory=8m");

        assertEquals("""
                balloon   pages in it  pages mapped  not zero  lost stores        ms
                empty               0         2,048     1,024            0
                inflated        1,024         1,024         0            0
                deflated            0         2,048         0            0
                free pages came back zero, and nothing was lost
                """, withoutTimes());
        assertEquals(0, exitCode);
    }

    @Test
    void hotPluggedSlotIsFoundWhereItIsAndTheDeviceElsewhere() {
        int exitCode = run("slot-hot-plug", "--vcpus=2", "--memory=8m");

        assertEquals("""
                module       loads at 4 GiB  loads at 8 GiB  device accesses  lost stores        ms
                absent                   -1              -1                2            0
                added                     0              -1                3            0
                used                     42              -1                4            0
                moved                    -1              42                5            0
                removed                  -1              -1                7            0
                every load found what is there
                """, withoutTimes());
        assertEquals(0, exitCode);
    }

    @Test
    void writeWatchTellsOfTheOneWrongStoreAndOfNoOther() {
        int exitCode = run("write-watch");

        assertEquals("""
                watching 8 bytes at 0x100080, which hold 0x600d600d600d
                vcpu-1 stored 8 bytes at 0x100080: 0x6301
                2,801 stores to the page were reported, 1 of them to the word, which holds 0x6301 now
                """, out.toString());
        assertEquals(0, exitCode);
    }

    /** Times differ from run to run, and so do the counts of pre-copy between its first and its last line. */
    @ParameterizedTest
    @ValueSource(strings = {"pre-copy", "working-set", "balloon", "slot-hot-plug", "write-watch"})
    void documentShowsWhatIsPrinted(String example) throws IOException {
        String document = Files.readString(Path.of("../docs/11-examples.md"));
        Matcher shown = Pattern.compile("examples\\.jar " + example + "\n```\n\n```text\n(.*?)```", Pattern.DOTALL)
                .matcher(document);
        assertTrue(shown.find(), document);

        assertEquals(0, run(example), this::printed);

        assertEquals(stable(example, shown.group(1)), stable(example, out.toString()));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "balloon --vcpus 0; vcpus=0, min=1, max=1024",
                "pre-copy --vcpus 1025; vcpus=1025, min=1, max=1024",
                "pre-copy --vcpus 1024; memory=67108864, min=4294967296, max=8589934592",
                "working-set --memory 16g; memory=17179869184, min=16777216, max=8589934592",
                "slot-hot-plug --memory 17m; no multiple of 2 MiB: memory=17825792",
                "write-watch --vcpus=3; Unknown option: '--vcpus=3'"
            })
    void badOptionIsNamedAndNothingRuns(String options, String expected) {
        int exitCode = run(options.split(" "));

        assertEquals(2, exitCode);
        assertTrue(err.toString().contains(expected), err.toString());
        assertEquals("", out.toString());
    }

    @Test
    void guestMakesOneStepATick() {
        AtomicIntegerArray steps = new AtomicIntegerArray(3);
        try (Vm vm = new Vm(VmConfig.builder().build())) {
            vm.addMemory(0, 0, 1 << 20, PageSize.SIZE_4K);

            try (Guest guest = Guest.start(vm, 3, (vcpu, index, step) -> steps.addAndGet(index, step + 1 << 8))) {
                guest.tick();
                guest.tick();
                guest.pause();
            }
        }

        for (int index = 0; index < 3; index++) {
            assertEquals(1 + 2 + 3 << 8, steps.get(index));
        }
    }

    @Test
    void failureOfAVcpuIsThrownToTheLoop() {
        try (Vm vm = new Vm(VmConfig.builder().build())) {
            try (Guest guest = Guest.start(vm, 2, (vcpu, index, step) -> vcpu.putLong((long) index << 40, 1))) {
                IllegalStateException thrown = assertThrows(IllegalStateException.class, guest::pause);

                assertTrue(thrown.getMessage().startsWith("vCPU failed: cause="), thrown.getMessage());
                assertTrue(thrown.getMessage().contains("reason=NO_SLOT"), thrown.getMessage());
            }
        }
    }

    private int run(String... arguments) {
        return Main.commandLine()
                .setOut(new PrintWriter(out, true))
                .setErr(new PrintWriter(err, true))
                .execute(arguments);
    }

    /** The lines of a table between its head and the line below it, in columns. */
    private List<String[]> rows() {
        List<String> lines = out.toString().lines().toList();
        List<String[]> rows = new ArrayList<>();
        for (String line : lines.subList(1, lines.size() - 1)) {
            rows.add(line.strip().split(" +"));
        }
        return rows;
    }

    private String withoutTimes() {
        return withoutTimes(out.toString());
    }

    private static String withoutTimes(String text) {
        return text.replaceAll(" +\\d+\\.\\d(?=\\R)", "");
    }

    private static String stable(String example, String text) {
        if (!example.equals("pre-copy")) {
            return withoutTimes(text);
        }
        List<String> lines = text.lines().toList();
        return lines.getFirst() + lines.getLast();
    }

    private String printed() {
        return out + "\n" + err;
    }

    private static long pages(String memory) {
        return new SizeConverter().convert(memory) / GuestPages.SIZE;
    }

    private static long number(String text) {
        return Long.parseLong(text.replace(",", ""));
    }

    private static String line(String format, long value) {
        return String.format(Locale.ROOT, format, value) + System.lineSeparator();
    }
}
