package dev.tdpmmu.bench;

import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.List;

/**
 * A VM with one slot from address 0, its table pages taken from the operating system ahead, so that no figure contains
 * a first touch of a table.
 *
 * <p>The MMU's vCPUs that it hands out are closed with it.
 */
final class BenchVm implements AutoCloseable {
    private static final int SLOT_ID = 0;
    private static final long LEAVES_OF_TABLE = 512;
    private static final long LEAVES_OF_MIDDLE_TABLE = LEAVES_OF_TABLE * LEAVES_OF_TABLE;
    private static final int MAX_THREADS = 16;

    private final Vm vm;
    private final long pages;
    private final Backing backing;
    private MemSlot slot;
    private final List<VcpuMmu> vcpus = new ArrayList<>();

    private BenchVm(VmConfig config, long pages, Backing backing, long tables) {
        BenchGuard.check();
        this.vm = new Vm(config);
        this.pages = pages;
        this.backing = backing;
        addSlot();
        long wanted = tables + (long) MAX_THREADS * TableCache.CAPACITY;
        long warm = vm.prewarmTables(Math.toIntExact(wanted));
        if (warm != wanted) {
            throw new IllegalStateException("table pages are missing: prewarmed=" + warm + ", wanted=" + wanted);
        }
    }

    /** A guest of 4 KiB leaves whose frames have numbers but no bytes. */
    static BenchVm synthetic(LockPolicy policy, long pages) {
        return of(config(policy).build(), pages, Backing.synthetic(PageSize.SIZE_4K));
    }

    static BenchVm of(VmConfig config, long pages, Backing backing) {
        return new BenchVm(config, pages, backing, tablesOf(pages));
    }

    /** What all measured VMs have in common: no thread of their own. */
    static VmConfig.Builder config(LockPolicy policy) {
        return VmConfig.builder()
                .lockPolicy(policy)
                .hugePages(PageSize.SIZE_4K)
                .backgroundReclaim(false)
                .name("bench");
    }

    /** Table pages that a dense guest needs, with one of each upper level to spare. */
    static long tablesOf(long pages) {
        return ceilDivide(pages, LEAVES_OF_TABLE) + ceilDivide(pages, LEAVES_OF_MIDDLE_TABLE) + 3;
    }

    private static long ceilDivide(long a, long b) {
        return (a + b - 1) / b;
    }

    /** The MMU's part of a vCPU, its root loaded. */
    synchronized VcpuMmu newVcpu() {
        VcpuMmu vcpu = vm.mmu().createVcpu("bench " + vcpus.size());
        vcpus.add(vcpu);
        if (!vm.mmu().loadRoot(vcpu)) {
            throw new IllegalStateException("no page for the root: stats=" + vm.stats());
        }
        return vcpu;
    }

    /** Maps every page, or every {@code stride}-th. */
    void populate(long stride) {
        Work.faultStrided(vm.mmu().faults(), newVcpu(), slot, slot.baseGfn(), slot.endGfn(), stride);
    }

    /**
     * Unmaps everything and closes the vCPUs. The table pages go back to the pool with whatever the processors' caches
     * hold of them, as in the reference, which uses the same pages again in every repetition.
     */
    synchronized void empty() {
        closeVcpus();
        vm.mmu().zapAllFast(slot.baseGfn(), slot.endGfn());
        vm.mmu().rcu().barrier();
    }

    /** Puts the slot back that {@link #removeSlot} has taken away. */
    synchronized void addSlot() {
        slot = vm.addSlot(SLOT_ID, 0, Gfn.toGpa(pages), backing);
    }

    /** Removes the slot and all its translations, as a user of the engine does. */
    synchronized void removeSlot() {
        vm.removeSlot(slot);
    }

    private void closeVcpus() {
        for (VcpuMmu vcpu : vcpus) {
            vm.mmu().closeVcpu(vcpu);
        }
        vcpus.clear();
    }

    Vm vm() {
        return vm;
    }

    MemSlot slot() {
        return slot;
    }

    HardwareWalker newWalker() {
        return HardwareWalker.of(vm.config());
    }

    @Override
    public synchronized void close() {
        closeVcpus();
        vm.close();
    }
}
