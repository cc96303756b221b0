package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.io.IOException;
import java.io.InputStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The recorded traces hold what was measured when they came here, and a cold replay faults once a page. */
final class RealTraceTest {
    // sqlite: its description says 637 pages. One of its lines has 1,346,583 NUL bytes in front of the record "W
    // 403f"; whoever takes that line for a page of its own counts 637. Without the NUL bytes there are 636, and all
    // other numbers agree.
    @ParameterizedTest
    @CsvSource({
        "sqlite, 226456, 636, 60638, 48555, 117263, 1346583",
        "gcc, 250439, 1994, 120066, 45171, 85202, 0",
        "perl, 361301, 828, 152595, 85560, 123146, 0"
    })
    void traceHoldsWhatItsDescriptionSays(
            String name, int records, int pages, int reads, int writes, int fetches, long skippedBytes)
            throws IOException {
        Trace trace = read(name);

        assertEquals(records, trace.length());
        assertEquals(pages, trace.distinctPages());
        assertEquals(reads, trace.count(Access.READ));
        assertEquals(writes, trace.count(Access.WRITE));
        assertEquals(fetches, trace.count(Access.EXECUTE));
        assertEquals(skippedBytes, trace.skippedBytes());
    }

    @ParameterizedTest
    @CsvSource({
        "sqlite, EPT4", "gcc, EPT4", "perl, EPT4",
        "sqlite, NPT5", "gcc, NPT5", "perl, NPT5"
    })
    void coldReplayMapsEachDistinctPageOnce(String name, PagingMode mode) throws IOException {
        Trace trace = read(name);
        Vm vm = new Vm(VmConfig.builder().name(name).pagingMode(mode).build());
        try (vm) {
            vm.addMemory(0, 0, 16 << 20, PageSize.SIZE_4K);
            Vcpu vcpu = vm.createVcpu();
            TraceReplay replay = new TraceReplay(trace, 0x10_0000, trace.distinctPages() * Gfn.PAGE_SIZE);
            replay.load(vm.memory());

            int done = replay.replay(vcpu, Integer.MAX_VALUE);
            replay.check(vcpu);

            VmStats stats = vm.stats();
            assertEquals(trace.length(), done);
            assertEquals(0, replay.leftOutRecords());
            assertEquals(trace.distinctPages(), stats.pages4k());
            assertEquals(trace.distinctPages(), stats.pfFixed());
            assertEquals(0, replay.dataErrors(), replay.firstDataError());
            vm.checkTables();
        }
        assertEquals(0, vm.stats().memoryUsedInBytes());
    }

    private static Trace read(String name) throws IOException {
        try (InputStream in = RealTraceTest.class.getResourceAsStream("/traces/" + name + ".trace.gz")) {
            assertNotNull(in, name);
            return Trace.read(in, name);
        }
    }
}
