package dev.tdpmmu.examples;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;

/** A guest with one memory slot and one vCPU: the first store faults a page in, the load after it hits the TLB. */
public final class FirstGuest {
    private FirstGuest() {}

    /**
     * Runs the guest and prints one line.
     *
     * @param args none
     */
    public static void main(String[] args) {
        try (Vm vm = new Vm(VmConfig.builder().name("first").build())) {
            vm.addMemory(0, 0x0, 64L << 20, PageSize.SIZE_4K);
            Vcpu vcpu = vm.createVcpu();

            vcpu.putLong(0x1000, 42);
            long answer = vcpu.getLong(0x1000);

            VmStats stats = vm.stats();
            System.out.println("answer=" + answer + ", faults=" + stats.pfFixed() + ", pages4k=" + stats.pages4k()
                    + ", tablePages=" + stats.tablePages());
        }
    }
}
