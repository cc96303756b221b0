package dev.tdpmmu.sim;

import dev.tdpmmu.config.LockPolicy;

/**
 * What one lock policy made of a boot. Counts are those of replay and touch; loading before and checking after are not
 * in them, nor in the times.
 *
 * @param policy the lock policy
 * @param vcpus how many
 * @param memoryBytes guest memory
 * @param wallNanos time of replay and touch together
 * @param faults exits by outcome
 * @param nsPerFault mean time from an exit to the re-entry, in nanoseconds; 0 if there was no exit
 * @param latencyNanos how that time is distributed
 * @param pages4k leaves of 4 KiB at the end
 * @param pages2m leaves of 2 MiB at the end
 * @param pages1g leaves of 1 GiB at the end
 * @param tablePages linked table pages at the end
 * @param tlbHitRate share of accesses that found their translation cached, 0 to 1
 * @param dataErrors loads and fetches that found something else than what was stored; 0 unless something is broken
 * @param tableBytes host memory of the linked table pages with their headers
 * @param guestBytesTouched guest memory that was accessed, in whole pages of 4 KiB
 * @param replayNanos time of the replay alone
 * @param touchNanos time of the touch alone; 0 if it was left out
 * @param accesses loads, stores and fetches
 * @param faultsPerSecond exits that made progress, by wall time
 * @param traceRecords records of all vCPUs' traces
 * @param leftOutRecords records left out because their pages did not fit the share
 * @param distinctPages pages of all vCPUs' traces, whether they fit or not
 * @param replayedPages pages of all vCPUs' traces that fit
 * @param flushes remote TLB flushes that were carried out
 * @param lockWaits times that a fault had to wait for the MMU lock
 * @param retiredPages table pages retired
 * @param reclaimedPages table pages returned to the pool
 * @param failure the first check that failed; empty if all is well
 */
public record BootRun(
        LockPolicy policy,
        int vcpus,
        long memoryBytes,
        long wallNanos,
        Faults faults,
        double nsPerFault,
        Latency latencyNanos,
        long pages4k,
        long pages2m,
        long pages1g,
        long tablePages,
        double tlbHitRate,
        long dataErrors,
        long tableBytes,
        long guestBytesTouched,
        long replayNanos,
        long touchNanos,
        long accesses,
        double faultsPerSecond,
        long traceRecords,
        long leftOutRecords,
        long distinctPages,
        long replayedPages,
        long flushes,
        long lockWaits,
        long retiredPages,
        long reclaimedPages,
        String failure) {
    /**
     * Exits by outcome.
     *
     * @param fixed an entry was installed
     * @param fast fixed without the MMU lock
     * @param spurious the entry was there already
     * @param retry tried again because somebody else was at work
     * @param emulate done by a device
     */
    public record Faults(long fixed, long fast, long spurious, long retry, long emulate) {
        /**
         * Returns the exits after which the guest came on: all but retries.
         *
         * @return count
         */
        public long handled() {
            return fixed + fast + spurious + emulate;
        }
    }

    /**
     * Time from an exit to the re-entry, in nanoseconds.
     *
     * @param p50 half of the exits took at most so long
     * @param p90 90 % of the exits
     * @param p99 99 % of the exits
     * @param p999 99.9 % of the exits
     * @param max the longest, 60 seconds at most
     */
    public record Latency(long p50, long p90, long p99, long p999, long max) {}

    /**
     * Tells whether every check passed: data, number of leaves.
     *
     * @return whether nothing is broken
     */
    public boolean isSound() {
        return failure.isEmpty();
    }
}
