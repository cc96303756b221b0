package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A watch and what it was told since the last look. */
final class ModelWatch {
    final long startGpa;
    final long endGpa;
    private final WriteWatch watch;
    private final List<long[]> reports = new ArrayList<>();

    /** Watches whole pages. */
    ModelWatch(Vm vm, long gpa, long bytes) {
        this.startGpa = gpa;
        this.endGpa = gpa + bytes;
        this.watch = vm.watchWrites(gpa, bytes, (at, length, value) -> reports.add(new long[] {at, length, value}));
    }

    boolean covers(long gpa) {
        return gpa >= startGpa && gpa < endGpa;
    }

    void forget() {
        reports.clear();
    }

    /** Demands that exactly the stored bytes were reported, each once. */
    void requireReports(long gpa, byte[] stored) {
        Map<Long, Byte> expected = new HashMap<>();
        for (int i = 0; i < stored.length; i++) {
            if (covers(gpa + i)) {
                expected.put(gpa + i, stored[i]);
            }
        }
        for (long[] report : reports) {
            for (int i = 0; i < report[1]; i++) {
                assertEquals((byte) (report[2] >>> 8 * i), expected.remove(report[0] + i), "byte reported to a watch");
            }
        }
        assertEquals(Map.of(), expected, "stores that the watch was not told of");
        reports.clear();
    }

    void close() {
        watch.close();
    }
}
