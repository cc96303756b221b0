package dev.tdpmmu;

import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlots;

/** Adds up what the parts of a VM have counted, each on its own lines. */
final class StatsCollector {
    private final ReaderSlots readers;
    private final RcuDomain rcu;
    private final TlbShootdown shootdown;
    private final MemoryAccount account;
    private final TdpMmu mmu;
    private final DirtyLogging dirty;

    StatsCollector(
            ReaderSlots readers,
            RcuDomain rcu,
            TlbShootdown shootdown,
            MemoryAccount account,
            TdpMmu mmu,
            DirtyLogging dirty) {
        this.readers = readers;
        this.rcu = rcu;
        this.shootdown = shootdown;
        this.account = account;
        this.mmu = mmu;
        this.dirty = dirty;
    }

    VmStats collect(VcpuSet vcpus) {
        long tables = readers.sum(Counter.TABLES);
        return new VmStats(
                readers.sum(Counter.PAGES_4K),
                readers.sum(Counter.PAGES_2M),
                readers.sum(Counter.PAGES_1G),
                tables,
                TablePool.bytesOf(tables),
                readers.sum(Counter.PF_TAKEN),
                readers.sum(Counter.PF_FIXED),
                readers.sum(Counter.PF_FAST),
                readers.sum(Counter.PF_SPURIOUS),
                readers.sum(Counter.PF_EMULATE),
                readers.sum(Counter.PF_RETRY),
                readers.sum(Counter.MMIO_SPTE_CREATED),
                readers.sum(Counter.SPLITS),
                readers.sum(Counter.PROMOTIONS),
                mmu.nxSplits(),
                vcpus.accesses(),
                vcpus.misses(),
                dirty.harvestedPages(),
                dirty.logFullExits(),
                dirty.ringFullExits(),
                shootdown.requested(),
                shootdown.completed(),
                shootdown.coalesced(),
                readers.sum(Counter.LOCK_WAITS),
                readers.sum(Counter.YIELDS),
                rcu.retiredPages(),
                rcu.reclaimedPages(),
                account.usedInBytes(),
                account.capInBytes());
    }
}
