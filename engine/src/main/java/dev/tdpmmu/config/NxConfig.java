package dev.tdpmmu.config;

import java.time.Duration;
import java.util.Objects;

/**
 * Whether huge leaves may be executed, and how tables that exist only because one was, are given up again.
 *
 * <p>The mitigation of a processor bug (iTLB multihit): huge leaves are installed without X, and a fetch splits them.
 *
 * @param mitigation whether huge leaves lack X
 * @param recoveryRatio one of so many split tables is zapped in each round; 0 switches recovery off
 * @param recoveryPeriod time between two rounds; zero means one hour divided by the ratio
 * @kvm nx_huge_pages, nx_huge_pages_recovery_ratio, nx_huge_pages_recovery_period_ms
 */
public record NxConfig(boolean mitigation, int recoveryRatio, Duration recoveryPeriod) {
    private static final int MAX_RATIO = 3600;

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException naming a value and its limit
     */
    public NxConfig {
        Objects.requireNonNull(recoveryPeriod, "recoveryPeriod");
        if (recoveryRatio < 0 || recoveryRatio > MAX_RATIO) {
            throw new IllegalArgumentException(
                    "recovery ratio is out of range: recoveryRatio=" + recoveryRatio + ", min=0, max=" + MAX_RATIO);
        }
        if (recoveryPeriod.isNegative()) {
            throw new IllegalArgumentException("recovery period is negative: recoveryPeriod=" + recoveryPeriod);
        }
    }

    /**
     * Returns the time between two rounds.
     *
     * @return above zero; meaningless if recovery is off
     */
    public Duration effectivePeriod() {
        return recoveryPeriod.isZero() ? Duration.ofHours(1).dividedBy(Math.max(1, recoveryRatio)) : recoveryPeriod;
    }
}
