package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tdpmmu.base.ForkedJava;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

final class HostMemoryTest {
    private static final long MIB_256 = 1L << 28;

    @Test
    void partsAreDisjointAndInsideTheRange() {
        long headersEnd = HostMemory.HEADERS_BASE + (HostMemory.TABLES_END - HostMemory.TABLES_BASE) / 64;

        assertEquals(1, Long.bitCount(HostMemory.SIZE));
        assertEquals(1, Long.bitCount(HostMemory.TABLES_END));
        assertTrue(headersEnd <= HostMemory.TABLES_BASE, "headers end before the tables");
        assertTrue(HostMemory.TABLES_END <= HostMemory.FRAMES_BASE, "tables end before the frames");
        assertTrue(HostMemory.RANGE.byteSize() >= HostMemory.SIZE + 8, "the last frame has slack behind it");
    }

    @Test
    void everyAddressIsFrameOrTableOrNeitherButNeverBoth() {
        long size = HostMemory.SIZE;
        long base = HostMemory.TABLES_BASE;
        long end = HostMemory.TABLES_END;

        for (long hpa : new long[] {0, 4096, HostMemory.HEADERS_BASE, base - 1, size, -1}) {
            assertFalse(HostMemory.isFrame(hpa) || HostMemory.isTable(hpa), () -> "hpa=" + hpa);
        }
        for (long hpa : new long[] {base, end - 1}) {
            assertTrue(HostMemory.isTable(hpa) && !HostMemory.isFrame(hpa), () -> "hpa=" + hpa);
        }
        for (long hpa : new long[] {end, size / 2, size - 1}) {
            assertTrue(HostMemory.isFrame(hpa) && !HostMemory.isTable(hpa), () -> "hpa=" + hpa);
        }
    }

    @Test
    void extentsComeFromTheirOwnPartsAndNeverFromTheFirstPage() {
        long words = HostMemory.WORDS.take(4096, 4096);
        long tables = HostMemory.TABLES.take(4096, 4096);
        long frames = HostMemory.FRAMES.take(4096, 4096);

        assertTrue(words >= 4096 && words + 4096 <= HostMemory.HEADERS_BASE);
        assertTrue(HostMemory.isTable(tables));
        assertTrue(HostMemory.isFrame(frames));
        HostMemory.WORDS.release(words, 4096);
        HostMemory.TABLES.release(tables, 4096);
        HostMemory.FRAMES.release(frames, 4096);
    }

    @Test
    void sizeOfTheTablesPartCanBeChosen() throws Exception {
        ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=eager", "-Dtdpmmu.memory.tables=" + (1L << 26));

        assertEquals("", result.err());
        assertEquals("kind=EAGER, size=" + MIB_256 + ", frames=true, tables=true, reuse=true, left=0", result.out());
    }

    @Test
    void badSizeOfTheTablesPartIsRefused() throws Exception {
        for (String tables : new String[] {"0", "-1", "8388608", "100000000", "134217728", "1G"}) {
            ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=eager", "-Dtdpmmu.memory.tables=" + tables);

            assertNotEquals(0, result.exitCode(), tables);
            assertTrue(result.err().contains("tdpmmu.memory.tables=" + tables + ", min=16777216"), result::err);
        }
    }

    @Test
    void sparseFileServesWithoutNativeAccessAndWithoutWarning() throws Exception {
        Path directory = Path.of("/dev/shm");
        assumeTrue(Files.isDirectory(directory) && Files.getFileStore(directory).getUsableSpace() > 2 * MIB_256);

        ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=file", "-Dtdpmmu.memory.reserve=" + MIB_256);

        assertEquals("", result.err());
        assertEquals("kind=FILE, size=" + MIB_256 + ", frames=true, tables=true, reuse=true, left=0", result.out());
    }

    @Test
    void eagerAllocationServesWithoutNativeAccessAndWithoutWarning() throws Exception {
        ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=EAGER");

        assertEquals("", result.err());
        assertEquals("kind=EAGER, size=" + MIB_256 + ", frames=true, tables=true, reuse=true, left=0", result.out());
    }

    @Test
    void processWithoutNativeAccessFallsBackByItselfAndWithoutWarning() throws Exception {
        ForkedJava.Result result = probe("--illegal-native-access=warn", "-Dtdpmmu.memory.reserve=" + (1L << 26));

        assertEquals("", result.err());
        assertTrue(result.out().startsWith("kind=FILE") || result.out().startsWith("kind=EAGER"), result::out);
        assertTrue(result.out().endsWith("size=67108864, frames=true, tables=true, reuse=true, left=0"), result::out);
    }

    @Test
    void mappingServesWithNativeAccess() throws Exception {
        ForkedJava.Result result = probe("--enable-native-access=ALL-UNNAMED", "-Dtdpmmu.memory.reserve=" + (1L << 32));

        assertEquals("", result.err());
        if (System.getProperty("os.name").equals("Linux")) {
            assertEquals(
                    "kind=MMAP, size=" + (1L << 32) + ", frames=true, tables=true, reuse=true, left=0", result.out());
        }
    }

    @Test
    void badReserveIsRefused() throws Exception {
        for (String reserve : new String[] {"0", "-1", "33554432", "100000000", "4G", "1e9", "18446744073709551616"}) {
            ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=eager", "-Dtdpmmu.memory.reserve=" + reserve);

            assertNotEquals(0, result.exitCode());
            String text =
                    "size is no power of two or out of range: tdpmmu.memory.reserve=" + reserve + ", min=67108864";
            assertTrue(result.err().contains(text), result::err);
        }
    }

    @Test
    void unknownKindIsRefused() throws Exception {
        ForkedJava.Result result = probe("-Dtdpmmu.memory.kind=swap");

        assertNotEquals(0, result.exitCode());
        assertTrue(
                result.err().contains("unknown kind of host memory: tdpmmu.memory.kind=swap, expected=mmap|file|eager"),
                result::err);
    }

    private static ForkedJava.Result probe(String... options) throws Exception {
        List<String> all = new ArrayList<>(List.of(options));
        all.add("-Dtdpmmu.debug=check");
        return ForkedJava.run(all, HostMemoryProbe.class);
    }
}
