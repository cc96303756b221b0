package dev.tdpmmu.mmu;

/**
 * What the MMU asks of whoever owns the TLBs. After a call returns, no access completes through a translation that was
 * removed from the tables before the call.
 *
 * <p>Callers may hold the MMU lock and be inside an epoch: an implementation waits only for vCPUs to reach the boundary
 * between two accesses, which needs neither.
 */
public interface RemoteTlb {
    /**
     * Removes the translations of a gfn range from every vCPU.
     *
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @kvm kvm_flush_remote_tlbs_range
     */
    void flushRange(long startGfn, long endGfn);

    /**
     * Removes all translations from every vCPU.
     *
     * @kvm kvm_flush_remote_tlbs
     */
    void flushAll();

    /**
     * Makes every vCPU drop all translations and its root before its next access.
     *
     * @kvm KVM_REQ_MMU_FREE_OBSOLETE_ROOTS
     */
    void reloadRoots();
}
