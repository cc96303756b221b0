package dev.tdpmmu.bench.perf;

import java.lang.management.ManagementFactory;
import java.util.HashMap;
import java.util.Map;

/**
 * Tells the CPU time that all Java threads of the process have taken between two moments, the carriers of virtual ones
 * among them. Compilation and collection are not contained; nor is a thread that ended in between. For one thread.
 */
final class CpuClock {
    // The process's own clock counts compilers and collectors, and the JVM reads it in ticks of 10 ms.
    private final com.sun.management.ThreadMXBean threads =
            ManagementFactory.getPlatformMXBean(com.sun.management.ThreadMXBean.class);
    private Map<Long, Long> atBegin = Map.of();

    void begin() {
        atBegin = nanosOfThreads();
    }

    /** Returns the nanoseconds since {@link #begin}. */
    long end() {
        long sum = 0;
        for (Map.Entry<Long, Long> thread : nanosOfThreads().entrySet()) {
            sum += thread.getValue() - atBegin.getOrDefault(thread.getKey(), 0L);
        }
        return sum;
    }

    private Map<Long, Long> nanosOfThreads() {
        long[] ids = threads.getAllThreadIds();
        long[] nanos = threads.getThreadCpuTime(ids);
        Map<Long, Long> all = new HashMap<>();
        for (int i = 0; i < ids.length; i++) {
            if (nanos[i] >= 0) {
                all.put(ids[i], nanos[i]);
            }
        }
        return all;
    }
}
