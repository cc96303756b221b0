package dev.tdpmmu.sim;

import java.util.List;

/**
 * What came out of a boot.
 *
 * @param config what was asked for
 * @param runs one a lock policy, in the order asked for
 */
public record BootReport(BootConfig config, List<BootRun> runs) {
    /**
     * Copies the list.
     */
    public BootReport {
        runs = List.copyOf(runs);
    }

    /**
     * Tells whether every check of every run passed.
     *
     * @return whether nothing is broken
     */
    public boolean isSound() {
        for (BootRun run : runs) {
            if (!run.isSound()) {
                return false;
            }
        }
        return true;
    }
}
