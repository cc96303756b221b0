package dev.tdpmmu;

import dev.tdpmmu.config.NxConfig;

/**
 * The mitigation that forbids the execution of huge pages: its switch, its statistic, and the recovery of huge pages
 * that were split because of it.
 *
 * @kvm nx_huge_pages
 */
public final class NxHugePages {
    private final Vm vm;
    private final NxConfig config;

    NxHugePages(Vm vm) {
        this.vm = vm;
        this.config = vm.config().nx();
    }

    /**
     * Tells whether huge pages cannot be executed.
     *
     * @return whether the mitigation is on
     */
    public boolean isOn() {
        return vm.mmu().nxMitigation();
    }

    /**
     * Switches the mitigation and zaps everything, so that no leaf of the other kind remains.
     *
     * @param on whether huge pages lack X
     */
    public void setOn(boolean on) {
        vm.underSlotsLock(() -> {
            if (on != isOn()) {
                vm.mmu().setNxMitigation(on);
                vm.startNxRecovery();
                vm.mmu().zapAllFast(0, Long.MAX_VALUE);
            }
            return null;
        });
    }

    /**
     * Returns how many tables exist only because of the mitigation and may be given up.
     *
     * @return length of the list
     */
    public long splits() {
        return vm.mmu().nxSplits();
    }

    /**
     * Does one round of recovery now: one of {@code ratio} tables of the list, rounded up, is taken off it and zapped,
     * unless stores to its pages are logged.
     *
     * @return tables zapped
     * @kvm kvm_recover_nx_huge_pages
     */
    public long recover() {
        return OpenVm.whileOpen(vm, this::recoverRound);
    }

    /** One round, also while the VM closes: the MMU is there until the agent has ended. */
    long recoverRound() {
        if (config.recoveryRatio() == 0) {
            return 0;
        }
        long budget = (splits() + config.recoveryRatio() - 1) / config.recoveryRatio();
        return vm.mmu().ranges().recoverNx(budget);
    }
}
