package dev.tdpmmu.bench;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotRegistry;
import dev.tdpmmu.sync.MmuLock;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Set;

/**
 * One violation and each of its steps by itself, over the same pages in the same order. A step can run once on a new
 * object, after the {@link Preparation} it needs; each method returns a count that depends on all its work.
 *
 * <p>Belongs to one thread. The frames are warm: they are held and touched before.
 */
final class ViolationSteps implements AutoCloseable {
    /** What must be there before a step runs. */
    enum Preparation {
        /** Nothing is mapped. */
        NONE,
        /** Tables down to the last level are linked, and one leaf in each. */
        TABLES,
        /** Every page is mapped; hardware has used none. */
        LEAVES
    }

    private static final long LEAVES_OF_TABLE = 512;
    private static final int TABLES_OF_A_FAULT = 3;

    private final BenchVm bench;
    private final long pages;
    private final Vcpu vcpu;
    private final VcpuMmu part;
    private final FaultHandler faults;
    private final MmuLock lock;
    private final HardwareWalker walker;
    private final long rootPointer;
    private final Tlb tlb = new Tlb();
    private final WalkResult walk = new WalkResult();
    private final TablePool pool = new TablePool(0, new MemoryAccount(Long.MAX_VALUE));
    private final TableCache stock = new TableCache(pool);
    private final SlotRegistry registry;

    ViolationSteps(LockPolicy policy, FrameRun frames, Preparation preparation) {
        VmConfig config = BenchVm.config(policy).build();
        this.pages = Gfn.of(frames.bytes());
        this.bench = BenchVm.of(config, pages, Backing.held(frames, 0));
        this.vcpu = bench.vm().createVcpu();
        this.part = bench.newVcpu();
        this.faults = bench.vm().mmu().faults();
        this.lock = bench.vm().mmu().lock();
        this.walker = bench.newWalker();
        this.rootPointer = walker.makeRootPointer(part.root().hpa());
        this.registry = new SlotRegistry(config, new FrameAllocator(new MemoryAccount(Long.MAX_VALUE)), 0);
        registry.add(0, 0, Gfn.toGpa(pages), Backing.synthetic(PageSize.SIZE_4K), Set.of());
        if (!stock.topUp(TABLES_OF_A_FAULT)) {
            throw new IllegalStateException("no table pages: wanted=" + TABLES_OF_A_FAULT);
        }
        if (preparation != Preparation.NONE) {
            bench.populate(preparation == Preparation.TABLES ? LEAVES_OF_TABLE : 1);
        }
    }

    /** Allocates and touches frames for a number of pages. */
    static FrameRun warmFrames(long pages) {
        BenchGuard.check();
        FrameRun frames = Vm.allocateSharedFrames(PageSize.SIZE_4K, Gfn.toGpa(pages));
        try (BenchVm toucher =
                BenchVm.of(BenchVm.config(LockPolicy.PARALLEL).build(), pages, Backing.held(frames, 0))) {
            for (long gfn = 0; gfn < pages; gfn++) {
                toucher.vm().memory().putLong(Gfn.toGpa(gfn), gfn);
            }
        }
        return frames;
    }

    long pages() {
        return pages;
    }

    /** The whole violation: look-up, walk, exit, fault, second walk, insertion; no byte is accessed. Needs nothing mapped. */
    long whole() {
        long done = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            done += vcpu.touch(Gfn.toGpa(gfn), Access.WRITE) ? 1 : 0;
        }
        return done;
    }

    /** The whole violation and the store that caused it. Needs nothing mapped. */
    long wholeStore() {
        for (long gfn = 0; gfn < pages; gfn++) {
            vcpu.putLong(Gfn.toGpa(gfn), gfn);
        }
        return pages;
    }

    /** Step 1: enters the guest, asks the TLB, leaves. */
    long tlbMiss() {
        long sum = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            part.slot().enter(ReaderSlot.IN_GUEST);
            sum += tlb.writeFrame(Gfn.toGpa(gfn));
            part.slot().leave(ReaderSlot.OUTSIDE);
        }
        return sum;
    }

    /** Step 2: a hardware walk that ends in a violation. Needs the tables. */
    long firstWalk() {
        long sum = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            sum += walker.walk(tlb, rootPointer, Gfn.toGpa(gfn), Access.WRITE, walk);
        }
        return sum;
    }

    /** Steps 4 to 11 for an entry that is not there: the fast fix is not tried. Needs nothing mapped. */
    long handle() {
        return handle(false);
    }

    /** Steps 4 to 11 when hardware saw an entry: the fast fix walks in vain first. Needs nothing mapped. */
    long handleProbed() {
        return handle(true);
    }

    private long handle(boolean present) {
        long fixed = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            fixed += faults.handle(part, Gfn.toGpa(gfn), Access.WRITE, present) == FaultResult.FIXED ? 1 : 0;
        }
        return fixed;
    }

    /** Step 6: the slot, where a vCPU finds it: in the slot that it found last. */
    long slotLookUp() {
        long sum = 0;
        MemSlot last = MemSlot.NONE;
        for (long gfn = 0; gfn < pages; gfn++) {
            last = registry.current().find(gfn, last);
            sum += last.hpa(gfn) + last.maxLevel(gfn) + last.access();
        }
        return sum;
    }

    /** Step 7: the stock of table pages, full already. */
    long topUp() {
        long sum = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            sum += stock.topUp(TABLES_OF_A_FAULT) ? gfn : 0;
        }
        return sum;
    }

    /** Steps 8 and 11: the MMU lock and the epoch. */
    long lock() {
        for (long gfn = 0; gfn < pages; gfn++) {
            lock.lockForFault(part.slot());
            lock.unlockForFault(part.slot());
        }
        return pages;
    }

    /** Steps 7 to 11: stock, lock, staleness, walk, exchange, unlock. Needs nothing mapped. */
    long map() {
        return Work.faultStrided(faults, part, bench.slot(), 0, pages, 1);
    }

    /** The repeated access: a hardware walk that sets A and D, and its insertion. Needs the leaves. */
    long secondWalk() {
        long sum = 0;
        for (long gfn = 0; gfn < pages; gfn++) {
            long gpa = Gfn.toGpa(gfn);
            sum += walker.walk(tlb, rootPointer, gpa, Access.WRITE, walk);
            tlb.insert(gpa, walk);
        }
        return sum + walk.frame;
    }

    @Override
    public void close() {
        stock.drain();
        pool.close();
        registry.close();
        bench.close();
    }
}
