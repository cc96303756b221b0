package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Reading of traces, good and bad. */
final class TraceTest {
    @TempDir
    private Path directory;

    @Test
    void pagesAreNumberedByFirstAppearance() throws IOException {
        Trace trace = TraceTexts.trace("X 48F6\nR ffffffffff\nW 48f6\nX 0\n");

        assertEquals(4, trace.length());
        assertEquals(3, trace.distinctPages());
        assertEquals(Access.EXECUTE, trace.access(0));
        assertEquals(Access.READ, trace.access(1));
        assertEquals(Access.WRITE, trace.access(2));
        assertEquals(0, trace.page(0));
        assertEquals(1, trace.page(1));
        assertEquals(0, trace.page(2));
        assertEquals(2, trace.page(3));
        assertEquals(0x48f6, trace.virtualPage(0));
        assertEquals(0xff_ffff_ffffL, trace.virtualPage(1));
        assertEquals(2, trace.count(Access.EXECUTE));
    }

    @Test
    void traceGrowsBeyondItsFirstArrays() throws IOException {
        StringBuilder text = new StringBuilder();
        for (int page = 0; page < 10_000; page++) {
            text.append("W ").append(Integer.toHexString(page * 3)).append('\n');
        }

        Trace trace = TraceTexts.trace(text.toString());

        assertEquals(10_000, trace.length());
        assertEquals(10_000, trace.distinctPages());
        assertEquals(9_999, trace.page(9_999));
        assertEquals(29_997, trace.virtualPage(9_999));
    }

    @Test
    void fileIsNamedInTheTrace() throws IOException {
        Path file = directory.resolve("one.trace.gz");
        Files.write(file, TraceTexts.gzip("R 1\n"));

        Trace trace = Trace.read(file);

        assertEquals(file.toString(), trace.name());
    }

    @ParameterizedTest
    @CsvSource({
        "'Q 12', R W or X",
        "'', R W or X",
        "'R', R W or X",
        "'R12', R W or X",
        "'r 12', R W or X",
        "' R 12', R W or X",
        "'R ', hexadecimal",
        "'R -1', hexadecimal",
        "'R +1', hexadecimal",
        "'R 0x1', hexadecimal",
        "'R 12 ', hexadecimal",
        "'R 1g', hexadecimal",
        "'R 12345678901234', hexadecimal",
        "'R \u0663', hexadecimal"
    })
    void badRecordIsNamedWithFileLineAndContent(String line, String problem) {
        TraceFormatException refused =
                assertThrows(TraceFormatException.class, () -> TraceTexts.trace("R 1\nX 2\n" + line + "\nR 3\n"));

        assertEquals("sample", refused.file());
        assertEquals(3, refused.line());
        assertEquals(line, refused.content());
        assertTrue(refused.getMessage().contains("file=sample, line=3, content='" + line + "'"), refused.getMessage());
        assertTrue(
                refused.getMessage().replace(",", "").contains(problem), () -> "no '" + problem + "' in: " + refused);
    }

    @Test
    void longContentIsCutInTheMessage() {
        TraceFormatException refused =
                assertThrows(TraceFormatException.class, () -> TraceTexts.trace("Z".repeat(100_000)));

        assertTrue(refused.getMessage().length() < 200, refused.getMessage());
    }

    @Test
    void emptyTraceIsRefused() {
        TraceFormatException refused = assertThrows(TraceFormatException.class, () -> TraceTexts.trace(""));

        assertTrue(refused.getMessage().startsWith("trace has no records: file=sample"), refused.getMessage());
    }

    @Test
    void holeOfNulBytesIsSkippedAndCounted() throws IOException {
        Trace trace = TraceTexts.trace("R 1\n" + "\0".repeat(5_000) + "W 2\nX 3\n");

        assertEquals(3, trace.length());
        assertEquals(3, trace.distinctPages());
        assertEquals(Access.WRITE, trace.access(1));
        assertEquals(5_000, trace.skippedBytes());
    }

    @Test
    void nulBytesInsideRecordAreRefused() {
        assertThrows(TraceFormatException.class, () -> TraceTexts.trace("R 1\0\n"));
        assertThrows(TraceFormatException.class, () -> TraceTexts.trace("R\0 1\n"));
        assertThrows(TraceFormatException.class, () -> TraceTexts.trace("\0\0\n"));
    }

    @Test
    void textWithoutGzipIsRefusedByName() {
        byte[] plain = "R 1\n".getBytes(StandardCharsets.UTF_8);

        IOException refused =
                assertThrows(IOException.class, () -> Trace.read(new ByteArrayInputStream(plain), "plain.txt"));

        assertTrue(refused.getMessage().contains("file=plain.txt"), refused.getMessage());
    }

    @Test
    void truncatedGzipIsRefusedByName() throws IOException {
        byte[] whole = TraceTexts.gzip("R 1\nW 2\n".repeat(1_000));
        byte[] half = Arrays.copyOf(whole, whole.length - 12);

        IOException refused =
                assertThrows(IOException.class, () -> Trace.read(new ByteArrayInputStream(half), "half.trace.gz"));

        assertTrue(refused.getMessage().contains("file=half.trace.gz"), refused.getMessage());
    }

    @Test
    void missingFileIsNamed() {
        Path missing = directory.resolve("missing.trace.gz");

        NoSuchFileException refused = assertThrows(NoSuchFileException.class, () -> Trace.read(missing));

        assertTrue(refused.getMessage().contains("missing.trace.gz"), refused.getMessage());
    }
}
