package dev.tdpmmu.mmu;

import dev.tdpmmu.base.HotPath;

/**
 * Whether huge leaves may be executed. One object for a VM, asked by everybody who makes a huge leaf or splits one.
 *
 * @kvm nx_huge_pages
 */
final class NxPolicy {
    /** Written under the slots lock, followed by a zap of everything; read under the MMU lock or as a hint. */
    private volatile boolean mitigation;

    NxPolicy(boolean mitigation) {
        this.mitigation = mitigation;
    }

    /** Tells whether huge leaves lack X. */
    @HotPath
    boolean mitigation() {
        return mitigation;
    }

    void setMitigation(boolean on) {
        mitigation = on;
    }
}
