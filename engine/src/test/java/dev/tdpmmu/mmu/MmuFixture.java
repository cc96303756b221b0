package dev.tdpmmu.mmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;

/**
 * An MMU with one vCPU and a recorder in the place of the TLBs. The test thread stands for the holder of the slots lock
 * and for the vCPU. At the end the tree is verified and everything must have come back.
 */
final class MmuFixture implements AutoCloseable {
    static final int VM_ID = 77;
    static final long KIB_4 = PageSize.SIZE_4K.bytes();
    static final long MIB_2 = PageSize.SIZE_2M.bytes();
    static final long GIB_1 = PageSize.SIZE_1G.bytes();

    final VmConfig config;
    final MemoryAccount account;
    final TablePool pool;
    final ReaderSlots readers = new ReaderSlots();
    final RcuDomain rcu;
    final SlotRegistry slots;
    final TlbRecorder tlb = new TlbRecorder();
    final TdpMmu mmu;
    final SpteFormat format;
    final VcpuMmu vcpu;
    final ReaderSlot worker = readers.take("test worker");

    private final long bytesBefore = HostMemory.bytesHandedOut();

    MmuFixture() {
        this(VmConfig.builder());
    }

    MmuFixture(VmConfig.Builder builder) {
        config = builder.backgroundReclaim(false).build();
        account = new MemoryAccount(config.memoryCapInBytes());
        pool = new TablePool(VM_ID, account);
        rcu = new RcuDomain(readers, pool, config.maxRetiredPages(), config.stallTimeout());
        slots = new SlotRegistry(config, new FrameAllocator(account), VM_ID);
        mmu = new TdpMmu(config, VM_ID, readers, pool, slots, rcu, tlb);
        format = mmu.format();
        vcpu = mmu.createVcpu("test vCPU");
    }

    /** Every paging mode with every accessed/dirty setting that it has. */
    static Stream<VmConfig.Builder> formats() {
        List<VmConfig.Builder> all = new ArrayList<>();
        for (PagingMode mode : PagingMode.values()) {
            all.add(VmConfig.builder().pagingMode(mode).name(mode + " on"));
            if (mode.isEpt()) {
                all.add(VmConfig.builder()
                        .pagingMode(mode)
                        .accessedDirty(AccessedDirty.OFF)
                        .name(mode + " off"));
            }
        }
        return all.stream();
    }

    /** Every lock policy. */
    static Stream<VmConfig.Builder> policies() {
        return Stream.of(LockPolicy.values())
                .map(policy -> VmConfig.builder().lockPolicy(policy).name(policy.toString()));
    }

    /** Records what the MMU asks of the TLBs. */
    static final class TlbRecorder implements RemoteTlb {
        final List<String> calls = new ArrayList<>();

        /** Run inside a flush, where vCPUs would acknowledge. */
        Runnable duringFlush = () -> {};

        @Override
        public void flushRange(long startGfn, long endGfn) {
            calls.add("0x" + Long.toHexString(startGfn) + "-0x" + Long.toHexString(endGfn));
            duringFlush.run();
        }

        @Override
        public void flushAll() {
            calls.add("all");
            duringFlush.run();
        }

        @Override
        public void reloadRoots() {
            calls.add("roots");
            duringFlush.run();
        }
    }

    MemSlot add(int id, long gpa, long bytes, PageSize pageSize, SlotFlag... flags) {
        return slots.add(id, gpa, bytes, Backing.synthetic(pageSize), Set.of(flags))
                .newSlot();
    }

    /** Takes a violation as a vCPU does, with what hardware would say about the entry. */
    FaultResult fault(long gpa, int access) {
        if (vcpu.hasRoot() && vcpu.root().isInvalid()) {
            mmu.unloadRoot(vcpu);
        }
        if (!mmu.loadRoot(vcpu)) {
            return FaultResult.OUT_OF_MEMORY;
        }
        return faultInLoadedRoot(gpa, access);
    }

    FaultResult faultInLoadedRoot(long gpa, int access) {
        vcpu.slot.leave(ReaderSlot.HANDLING);
        try {
            return mmu.faults().handle(vcpu, gpa, access, format.isHardwarePresent(read(gpa)));
        } finally {
            vcpu.slot.leave(ReaderSlot.OUTSIDE);
        }
    }

    /** Lowest entry on the way to an address. */
    long read(long gpa) {
        return SpteAccess.readAcquire(addressOf(gpa, levelOf(gpa)));
    }

    /** Level of the lowest entry on the way to an address. */
    int levelOf(long gpa) {
        return mmu.walk().read(vcpu.root(), Gfn.of(gpa), new long[PagingLevel.L256T + 1]);
    }

    /** Address of the entry of a level on the way to an address, whose tables must exist. */
    long addressOf(long gpa, int level) {
        long table = vcpu.root().hpa();
        for (int at = vcpu.root().level(); at > level; at--) {
            table = format.address(SpteAccess.readAcquire(SpteAccess.addressOf(table, Gfn.of(gpa), at)));
        }
        return SpteAccess.addressOf(table, Gfn.of(gpa), level);
    }

    /** Page of the table whose entries of a level lie on the way to an address. */
    long tableOf(long gpa, int level) {
        return addressOf(gpa, level) & -HostMemory.PAGE_SIZE;
    }

    long counted(int counter) {
        return readers.sum(counter);
    }

    void locked(LockMode mode, Runnable work) {
        mmu.lock().lock(worker, mode);
        try {
            work.run();
        } finally {
            mmu.lock().unlock(worker, mode);
        }
    }

    /** Counters of leaves by size and of table pages, for one comparison. */
    String census() {
        TreeCensus census = mmu.verify();
        return "4k=" + census.pages4k() + " 2m=" + census.pages2m() + " 1g=" + census.pages1g() + " tables="
                + census.tablePages() + " mmio=" + census.mmioEntries();
    }

    @Override
    public void close() {
        mmu.verify();
        mmu.closeVcpu(vcpu);
        mmu.zapAllForTeardown();
        rcu.barrier();
        assertEquals(0, counted(Counter.TABLES), "linked table pages");
        assertEquals(0, counted(Counter.PAGES_4K) + counted(Counter.PAGES_2M) + counted(Counter.PAGES_1G), "leaves");
        assertEquals(rcu.retiredPages(), rcu.reclaimedPages(), "retired pages");
        slots.close();
        mmu.close();
        pool.close();
        assertEquals(0, account.usedInBytes(), "bytes charged");
        assertEquals(bytesBefore, HostMemory.bytesHandedOut(), "bytes handed out in the process");
    }
}
