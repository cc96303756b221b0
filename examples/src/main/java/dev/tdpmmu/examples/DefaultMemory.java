package dev.tdpmmu.examples;

import com.sun.management.OperatingSystemMXBean;
import dev.tdpmmu.sim.BootConfig;
import java.lang.management.ManagementFactory;

/** How much guest memory a boot has if nobody says how much. */
final class DefaultMemory {
    /** What the default is a multiple of: the size of a 1 GiB frame. */
    private static final long STEP = 1L << 30;

    private DefaultMemory() {}

    /** Returns the usual size, or half of what this machine or container has if that is less; at least 1 GiB. */
    static long bytes() {
        OperatingSystemMXBean system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
        return bytes(system.getTotalMemorySize());
    }

    static long bytes(long machineBytes) {
        long half = machineBytes / 2 & -STEP;
        return Math.clamp(half, STEP, BootConfig.DEFAULT_MEMORY_BYTES);
    }
}
