package dev.tdpmmu;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.slot.Backing;

/** Makes and closes more VMs than there are words for at a time; run in a process of its own with few words. */
final class ManyVmsProbe {
    private static final int VMS = 600;

    private ManyVmsProbe() {}

    public static void main(String[] arguments) {
        for (int i = 0; i < VMS; i++) {
            try (Vm vm = new Vm(VmConfig.builder().backgroundReclaim(false).build())) {
                vm.addSlot(0, 0, PageSize.SIZE_4K.bytes(), Backing.anonymous(PageSize.SIZE_4K));
                vm.createVcpu().putLong(0, i);
            }
        }
        System.out.print("vms=" + VMS + ", handedOut=" + HostMemory.bytesHandedOut());
    }
}
