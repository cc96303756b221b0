package dev.tdpmmu.sim;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * The boot scenario: many vCPUs bring one guest up at the same time, once under each lock policy.
 *
 * <p>Each vCPU has its own share of guest memory. A device loads the programs and warms the rest; then every vCPU
 * replays its trace there; then every vCPU touches the rest of its share. At the end each share is read back by another
 * vCPU, the tables are verified, and the VM must give back all that it took.
 *
 * <p>Before the first run that is measured, each policy makes a short one that is not: otherwise the first policy alone
 * would pay for the compilation of the code that all of them use.
 */
public final class Boot {
    private static final int WARM_UP_VCPUS = 12;
    private static final long WARM_UP_BYTES_PER_VCPU = 8L << 20;

    private final BootConfig config;
    private final BootListener listener;

    private Boot(BootConfig config, BootListener listener) {
        this.config = Objects.requireNonNull(config, "config");
        this.listener = Objects.requireNonNull(listener, "listener");
    }

    /**
     * Boots the guest under each lock policy.
     *
     * @param config what to do
     * @param listener told of the progress of measured runs
     * @return one run a policy; data errors are in it, not thrown
     * @throws FleetException if a vCPU failed
     * @throws IllegalStateException if a VM did not give everything back
     */
    public static BootReport run(BootConfig config, BootListener listener) {
        return new Boot(config, listener).run();
    }

    private BootReport run() {
        warmUp();
        List<BootRun> runs = new ArrayList<>();
        for (LockPolicy policy : config.policies()) {
            runs.add(new BootGuest(config, policy, listener).boot());
        }
        return new BootReport(config, runs);
    }

    private void warmUp() {
        int vcpus = Math.min(config.vcpus(), WARM_UP_VCPUS);
        long memoryBytes = Math.min(config.memoryBytes(), vcpus * WARM_UP_BYTES_PER_VCPU);
        // A small guest may have no room for a huge page; then the fault path is warmed with small ones.
        PageSize pageSize = memoryBytes % config.pageSize().bytes() == 0 ? config.pageSize() : PageSize.SIZE_4K;
        BootConfig small = new BootConfig(
                vcpus,
                memoryBytes,
                config.touch(),
                config.threads(),
                config.policies(),
                config.pagingMode(),
                pageSize,
                config.traces());
        for (LockPolicy policy : small.policies()) {
            new BootGuest(small, policy, BootListener.NONE).boot();
        }
    }
}
