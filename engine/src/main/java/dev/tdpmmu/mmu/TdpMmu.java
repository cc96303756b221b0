package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.RcuDomain;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;

/**
 * The two-dimensional-paging MMU of one VM: what the root package, the tests and the benchmarks call.
 *
 * <p>Safe for use by many threads; what belongs to one vCPU ({@link VcpuMmu}) belongs to one thread at a time.
 */
public final class TdpMmu {
    private final SpteFormat format;
    private final int vmId;
    private final long endGfn;
    private final ReaderSlots readers;
    private final TablePool pool;
    private final SlotRegistry slots;
    private final RcuDomain rcu;
    private final RemoteTlb remoteTlb;
    private final MmuLock lock;
    private final InvalidationTracker tracker = new InvalidationTracker();
    private final SpteUpdater updater;
    private final FaultHandler faults;
    private final RootRegistry roots;
    private final RootZapper zapper;
    private final RangeOperations ranges;
    private final PossibleNxPages nxPages = new PossibleNxPages();
    private final NxPolicy nx;
    private final TdpWalk walk;
    private final TableScanner scanner;
    private final FaultForecaster forecaster;

    /**
     * Makes the MMU of a VM.
     *
     * @param config of the VM
     * @param vmId owner of the table pages
     * @param readers its vCPUs and workers
     * @param pool its table pages
     * @param slots its memory slots
     * @param rcu its deferred reclaim
     * @param remoteTlb owner of the TLBs
     */
    public TdpMmu(
            VmConfig config,
            int vmId,
            ReaderSlots readers,
            TablePool pool,
            SlotRegistry slots,
            RcuDomain rcu,
            RemoteTlb remoteTlb) {
        this.format = SpteFormat.of(config);
        this.vmId = vmId;
        this.endGfn = Gfn.of(config.guestAddressLimit());
        this.readers = readers;
        this.pool = pool;
        this.slots = slots;
        this.rcu = rcu;
        this.remoteTlb = remoteTlb;
        this.lock = MmuLock.of(config.lockPolicy(), readers);
        this.nx = new NxPolicy(config.nx().mitigation());
        this.updater = new SpteUpdater(format, vmId, remoteTlb, rcu, nxPages);
        WriteTracks tracks = new WriteTracks();
        TableLinker linker = new TableLinker(format, updater, nxPages, nx);
        this.faults = new FaultHandler(config, vmId, format, lock, tracker, slots, updater, rcu, linker, tracks, nx);
        this.roots = new RootRegistry(config.pagingMode().levels(), lock, rcu);
        this.zapper = new RootZapper(format, lock, roots, updater, rcu, remoteTlb, tracker);
        RangeOperations.Parts parts = new RangeOperations.Parts(
                new RangeZapper(format, lock, updater, remoteTlb),
                new WriteProtector(format, lock, updater),
                new DirtyClearer(format, lock, updater, config.dirtyLog().pml()),
                new HugePageSplitter(format, lock, linker),
                new HugePageRecoverer(
                        format,
                        lock,
                        updater,
                        remoteTlb,
                        rcu,
                        tracks,
                        nx,
                        config.hugePages().level()),
                new AgeScanner(format, updater),
                new NxHugePageRecovery(format, lock, updater, remoteTlb, rcu, slots, nxPages),
                tracks);
        this.ranges = new RangeOperations(readers, pool, lock, roots, tracker, rcu, remoteTlb, parts);
        this.walk = new TdpWalk(format);
        this.scanner = new TableScanner(format, readers, roots, endGfn);
        this.forecaster = new FaultForecaster(config, format, tracker, tracks, nx);
    }

    /**
     * Makes the MMU's part of a vCPU.
     *
     * @param name for reports
     * @return part with a reader slot, without a root
     */
    public VcpuMmu createVcpu(String name) {
        return createVcpu(name, DirtyRing.NONE);
    }

    /**
     * Makes the MMU's part of a vCPU that logs its stores in a ring.
     *
     * @param name for reports
     * @param ring of the vCPU, or {@link DirtyRing#NONE}
     * @return part with a reader slot, without a root
     */
    public VcpuMmu createVcpu(String name, DirtyRing ring) {
        return new VcpuMmu(readers.take(name), new TableCache(pool), ring);
    }

    /**
     * Gives back all that a vCPU holds. It must not be used any more.
     *
     * @param vcpu outside, used by nobody
     */
    public void closeVcpu(VcpuMmu vcpu) {
        detachVcpu(vcpu);
        readers.give(vcpu.slot);
    }

    /**
     * Gives back a vCPU's root and table pages but leaves it its reader slot, which a late access of its thread may
     * still write.
     *
     * @param vcpu outside
     */
    public void detachVcpu(VcpuMmu vcpu) {
        unloadRoot(vcpu);
        vcpu.tables.drain();
    }

    /**
     * Makes sure that a vCPU has a root.
     *
     * @param vcpu in no section
     * @return false if no table page is left under the VM's memory cap
     * @kvm kvm_mmu_load
     */
    public boolean loadRoot(VcpuMmu vcpu) {
        if (vcpu.hasRoot()) {
            return true;
        }
        if (!vcpu.tables.topUp(1)) {
            return false;
        }
        vcpu.load(roots.acquire(vcpu.slot, vcpu.tables));
        return true;
    }

    /**
     * Drops a vCPU's root; its TLB must be flushed before the next access.
     *
     * @param vcpu in no section
     * @kvm kvm_mmu_unload
     */
    public void unloadRoot(VcpuMmu vcpu) {
        if (vcpu.hasRoot()) {
            roots.put(vcpu.slot, vcpu.unload());
        }
    }

    /**
     * Zaps everything by replacing all roots; faults go on meanwhile in new ones.
     *
     * @param startGfn first frame whose faults in flight must retry
     * @param lastGfnExclusive frame behind the last
     * @locking slots lock held; takes the MMU lock; may wait for a grace period if much is retired
     * @kvm kvm_mmu_zap_all_fast
     */
    public void zapAllFast(long startGfn, long lastGfnExclusive) {
        ReaderSlot worker = readers.take("zap");
        try {
            zapper.zapAllFast(worker, startGfn, lastGfnExclusive);
        } finally {
            readers.give(worker);
        }
    }

    /** Zaps every root of a VM whose vCPUs have stopped and dropped theirs. */
    public void zapAllForTeardown() {
        zapAllFast(0, endGfn);
    }

    /**
     * Returns the operations on gfn ranges.
     *
     * @return operations
     */
    public RangeOperations ranges() {
        return ranges;
    }

    /**
     * Switches the mitigation that forbids the execution of huge leaves. What is mapped stays as it is: the caller zaps
     * everything after.
     *
     * @param on whether huge leaves lack X
     * @locking slots lock held
     */
    public void setNxMitigation(boolean on) {
        nx.setMitigation(on);
    }

    /**
     * Tells whether huge leaves lack X.
     *
     * @return whether the mitigation is on
     */
    public boolean nxMitigation() {
        return nx.mitigation();
    }

    /**
     * Returns how many tables exist only because a huge leaf must not be executed, and may be given up.
     *
     * @return length of the list
     * @kvm nx_lpage_splits
     */
    public long nxSplits() {
        return nxPages.size();
    }

    /**
     * Checks the whole tree and the counters while faults wait.
     *
     * @return what was found
     * @throws MmuCorruptionException naming what is broken
     * @locking takes the MMU lock exclusive
     */
    public TreeCensus verify() {
        ReaderSlot worker = readers.take("verify");
        try {
            lock.lock(worker, LockMode.EXCLUSIVE);
            try {
                // The last user of an invalid root puts it without the MMU lock.
                roots.holdStill();
                try {
                    return new TreeVerifier(format, vmId, slots.current(), ranges).verify(roots, readers, nxPages);
                } finally {
                    roots.letChange();
                }
            } finally {
                lock.unlock(worker, LockMode.EXCLUSIVE);
            }
        } finally {
            readers.give(worker);
        }
    }

    /**
     * Returns the handler of violations.
     *
     * @return handler
     */
    public FaultHandler faults() {
        return faults;
    }

    /**
     * Returns the setters of entries, for operations over ranges and for tests of races.
     *
     * @return updater
     */
    public SpteUpdater updater() {
        return updater;
    }

    /**
     * Returns the reader of tables.
     *
     * @return walk
     */
    public TdpWalk walk() {
        return walk;
    }

    /**
     * Returns the reader of all tables.
     *
     * @return scanner
     */
    public TableScanner scanner() {
        return scanner;
    }

    /**
     * Returns who says what a fault would end in.
     *
     * @return forecaster
     */
    public FaultForecaster forecaster() {
        return forecaster;
    }

    /**
     * Returns the MMU lock.
     *
     * @return lock
     */
    public MmuLock lock() {
        return lock;
    }

    /**
     * Returns the tracker of invalidations.
     *
     * @return tracker
     */
    public InvalidationTracker invalidations() {
        return tracker;
    }

    /**
     * Returns the roots.
     *
     * @return registry
     */
    public RootRegistry roots() {
        return roots;
    }

    /**
     * Returns the format of the entries.
     *
     * @return format
     */
    public SpteFormat format() {
        return format;
    }

    /**
     * Returns the deferred reclaim.
     *
     * @return domain
     */
    public RcuDomain rcu() {
        return rcu;
    }

    /** Returns the words of lock and tracker. Nobody may use the MMU any more. */
    public void close() {
        lock.close();
        tracker.close();
    }
}
