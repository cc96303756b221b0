package dev.tdpmmu;

import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Iterator;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;

/** The vCPUs of a VM. Changed under the slots lock; statistics walk it without. */
final class VcpuSet implements Iterable<VcpuRun> {
    /** Where closed vCPUs point; never waited for in earnest, since nothing runs under it. */
    private final ReaderSlot tombstone;

    private final Set<VcpuRun> runs = ConcurrentHashMap.newKeySet();
    private final LongAdder closedAccesses = new LongAdder();
    private final LongAdder closedMisses = new LongAdder();

    VcpuSet(ReaderSlot tombstone) {
        this.tombstone = tombstone;
    }

    VcpuRun add(Vm vm, MemoryAccount account, HardwareWalker walker) {
        VmConfig config = vm.config();
        if (runs.size() >= config.maxVcpus()) {
            throw new IllegalStateException("too many vCPUs: count=" + runs.size() + ", max=" + config.maxVcpus());
        }
        VcpuMmu part = vm.mmu().createVcpu(config.name() + " vCPU " + runs.size(), newRing(config, account));
        VcpuRun run = new VcpuRun(vm, part, walker, vm.shootdown());
        runs.add(run);
        return run;
    }

    private static DirtyRing newRing(VmConfig config, MemoryAccount account) {
        return config.dirtyLog().tracking() == DirtyTracking.RING
                ? new DirtyRing(
                        new FrameAllocator(account),
                        config.dirtyLog().ringEntries(),
                        config.dirtyLog().reservedRingEntries())
                : DirtyRing.NONE;
    }

    /** Closes one vCPU. What its hardware has logged counts: no log is dropped with marks in it. */
    void remove(VcpuRun run, DirtyLogging dirty, TdpMmu mmu) {
        count(run);
        dirty.close(run);
        run.markClosed(tombstone);
        mmu.closeVcpu(run.mmu());
        run.mmu().ring().release();
        runs.remove(run);
    }

    /** Takes what all vCPUs hold, of a VM that closes; late accesses of theirs may still come, and are refused. */
    void detachAll(TdpMmu mmu) {
        for (VcpuRun run : runs) {
            count(run);
            mmu.detachVcpu(run.mmu());
            run.closeLog();
            run.mmu().ring().release();
        }
        runs.clear();
    }

    private void count(VcpuRun run) {
        closedAccesses.add(run.accesses());
        closedMisses.add(run.tlbMisses);
    }

    /** Accesses by all vCPUs, closed ones too. */
    long accesses() {
        long sum = closedAccesses.sum();
        for (VcpuRun run : runs) {
            sum += run.accesses();
        }
        return sum;
    }

    /** Accesses whose translation was not cached. */
    long misses() {
        long sum = closedMisses.sum();
        for (VcpuRun run : runs) {
            sum += run.tlbMisses;
        }
        return sum;
    }

    /** A reader for whoever holds the slots lock. */
    ReaderSlot reader() {
        return tombstone;
    }

    @Override
    public Iterator<VcpuRun> iterator() {
        return runs.iterator();
    }
}
