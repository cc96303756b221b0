package dev.tdpmmu;

/**
 * Statistics of a VM. Names are the kernel's where the meaning is. Exact while nothing runs; otherwise each value is
 * close.
 *
 * @param pages4k leaves of 4 KiB
 * @param pages2m leaves of 2 MiB
 * @param pages1g leaves of 1 GiB
 * @param tablePages linked table pages
 * @param tableBytes host memory of the linked table pages with their headers
 * @param pfTaken violations that took the slow path
 * @param pfFixed violations that installed an entry
 * @param pfFast violations fixed without the MMU lock
 * @param pfSpurious violations whose entry was there already
 * @param pfEmulate violations that went to an MMIO handler
 * @param pfRetry violations that were tried again because somebody else was at work
 * @param pfMmioSpteCreated MMIO entries installed
 * @param splits huge leaves split
 * @param promotions tables replaced by a huge leaf
 * @param nxLpageSplits tables that exist only because a huge page must not be executed
 * @param accesses guest accesses by vCPUs
 * @param tlbMisses guest accesses whose translation was not cached
 * @param dirtyPagesHarvested dirty pages that were handed out or cleared, and armed again
 * @param pmlFull times that a vCPU left the guest because its page-modification log was full
 * @param dirtyRingFull times that a vCPU left the guest because its dirty ring was full
 * @param remoteTlbFlushRequests flushes asked for
 * @param remoteTlbFlush flushes that were carried out
 * @param remoteTlbFlushCoalesced flushes that another one covered
 * @param lockWaits acquisitions of the MMU lock by faults that had to wait
 * @param yields times that a range operation let others in
 * @param retiredPages table pages ever retired
 * @param reclaimedPages table pages ever returned to the pool
 * @param memoryUsedInBytes host memory charged to the VM
 * @param memoryCapInBytes its cap
 */
public record VmStats(
        long pages4k,
        long pages2m,
        long pages1g,
        long tablePages,
        long tableBytes,
        long pfTaken,
        long pfFixed,
        long pfFast,
        long pfSpurious,
        long pfEmulate,
        long pfRetry,
        long pfMmioSpteCreated,
        long splits,
        long promotions,
        long nxLpageSplits,
        long accesses,
        long tlbMisses,
        long dirtyPagesHarvested,
        long pmlFull,
        long dirtyRingFull,
        long remoteTlbFlushRequests,
        long remoteTlbFlush,
        long remoteTlbFlushCoalesced,
        long lockWaits,
        long yields,
        long retiredPages,
        long reclaimedPages,
        long memoryUsedInBytes,
        long memoryCapInBytes) {
    /**
     * Returns the share of accesses that found their translation cached.
     *
     * @return 0 to 1; 1 if there was no access
     */
    public double tlbHitRate() {
        return accesses == 0 ? 1 : 1 - (double) tlbMisses / accesses;
    }
}
