package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Limits of a boot. */
final class BootConfigTest {
    private List<Trace> traces;

    @BeforeEach
    void makeTraces() throws IOException {
        traces = List.of(TraceTexts.program(3));
    }

    @Test
    void usualValuesAreThoseOfTheReport() {
        BootConfig config = BootConfig.builder(traces).build();

        assertEquals(1_000, config.vcpus());
        assertEquals(8L << 30, config.memoryBytes());
        assertTrue(config.touch());
        assertEquals(FleetThreads.VIRTUAL, config.threads());
        assertEquals(List.of(LockPolicy.values()), config.policies());
        assertEquals(PageSize.SIZE_4K, config.pageSize());
    }

    @Test
    void vcpusOutOfRangeAreNamedWithTheirLimit() {
        refused("vcpus=0, min=1, max=65536", BootConfig.builder(traces).vcpus(0));
        refused("vcpus=-5, min=1, max=65536", BootConfig.builder(traces).vcpus(-5));
        refused("vcpus=65537, min=1, max=65536", BootConfig.builder(traces).vcpus(65_537));
    }

    @Test
    void memoryOutOfRangeIsNamedWithItsLimit() {
        refused("memoryBytes=0, min=4096000", BootConfig.builder(traces).memoryBytes(0));
        refused("memoryBytes=-4096, min=", BootConfig.builder(traces).memoryBytes(-4096));
        refused("memoryBytes=4091904, min=4096000", BootConfig.builder(traces).memoryBytes(4_091_904));
        refused("max=4398046511104", BootConfig.builder(traces).memoryBytes((1L << 42) + 4096));
        refused(
                "min=1073741824",
                BootConfig.builder(traces).pageSize(PageSize.SIZE_1G).memoryBytes(1L << 29));
    }

    @Test
    void smallestMemoryIsAPageAVcpu() {
        BootConfig config = BootConfig.builder(traces).memoryBytes(4_096_000).build();

        assertEquals(4_096_000, config.memoryBytes());
    }

    @Test
    void memoryThatIsNoMultipleOfThePageSizeIsRefused() {
        refused(
                "no multiple of the page size: memoryBytes=8589938687",
                BootConfig.builder(traces).memoryBytes((8L << 30) + 4095));
        refused(
                "pageBytes=2097152",
                BootConfig.builder(traces).pageSize(PageSize.SIZE_2M).memoryBytes((8L << 30) + 4096));
    }

    @Test
    void policiesMustBeSomeAndDifferent() {
        refused("policies=[]", BootConfig.builder(traces).policies(List.of()));
        refused(
                "policies=[STAMPED, STAMPED]",
                BootConfig.builder(traces).policies(List.of(LockPolicy.STAMPED, LockPolicy.STAMPED)));
    }

    @Test
    void bootWithoutTraceIsRefused() {
        refused("traces=[]", BootConfig.builder(List.of()));
    }

    @Test
    void listsAreCopied() {
        List<Trace> mine = new ArrayList<>(traces);
        BootConfig config = BootConfig.builder(mine).build();

        mine.clear();

        assertEquals(traces, config.traces());
    }

    private static void refused(String expected, BootConfig.Builder builder) {
        IllegalArgumentException refused = assertThrows(IllegalArgumentException.class, builder::build);
        assertTrue(refused.getMessage().contains(expected), refused.getMessage());
    }
}
