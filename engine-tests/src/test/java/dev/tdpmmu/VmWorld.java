package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.TlbView;
import dev.tdpmmu.memory.FrameRun;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.testkit.Scenario;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A small VM for one schedule, with vCPUs whose TLBs can be looked at.
 *
 * <p>After the actors have ended the tree and the counters are verified, every pending flush is applied, and then each
 * TLB entry must say what the tables say. At close nothing may be left.
 */
abstract class VmWorld implements Scenario {
    static final long PAGE = Gfn.PAGE_SIZE;
    static final long BLOCK = PageSize.SIZE_2M.bytes();

    /** Guest address of the slot; not 0, so that a wrong index does not look right. */
    static final long BASE = 6 * BLOCK;

    /** An address that never has a slot, far from those that have. */
    static final long NOWHERE = 1L << 45;

    static final int READ_WRITE = Access.READ | Access.WRITE;

    /** Frames of all worlds, one after the other: to clear fresh ones for each schedule would take most of the time. */
    private static final FrameRun FRAMES = Vm.allocateSharedFrames(PageSize.SIZE_2M, 2 * BLOCK);

    private static final int WARM_TABLES = 24;
    private static final int RETRIES_BEFORE_WAIT = 2;

    final Vm vm;
    final TlbShootdown shootdown;
    private final List<VcpuRun> runs = new ArrayList<>();
    private final List<VcpuMmu> parts = new ArrayList<>();
    private final Map<Long, String> names = new LinkedHashMap<>();
    private final long[] sptes = new long[PagingLevel.L256T + 1];

    VmWorld(VmConfig.Builder config) {
        vm = new Vm(config.backgroundReclaim(false).hardware(Explore.hardware()).build());
        shootdown = vm.shootdown();
        vm.prewarmTables(WARM_TABLES);
        for (long page = 0; page < 2 * BLOCK; page += BLOCK / 2) {
            GuestBytes.putLong(FRAMES.hpa() + page, 0);
        }
        for (long page = 0; page < 16; page++) {
            GuestBytes.putLong(FRAMES.hpa() + page * PAGE, 0);
        }
        names.put(shootdown.sequenceAddress(), "flush sequence");
    }

    static VmConfig.Builder parallel() {
        return of(LockPolicy.PARALLEL);
    }

    static VmConfig.Builder of(LockPolicy policy) {
        return VmConfig.builder().lockPolicy(policy).mmioCaching(false);
    }

    /** Puts the common frames behind {@link #BASE}. */
    final MemSlot addSlot(SlotFlag... flags) {
        return vm.addSlot(1, BASE, 2 * BLOCK, Backing.held(FRAMES, 0), flags);
    }

    /** The frame behind a guest address of the slot. */
    static long hpa(long gpa) {
        return FRAMES.hpa() + (gpa - BASE);
    }

    static long page(int index) {
        return BASE + index * PAGE;
    }

    final void name(long address, String text) {
        names.put(address, text);
    }

    /** A vCPU as the VM makes it, but with its TLB in our hands. */
    final VcpuRun run(String name) {
        VcpuMmu part = vm.mmu().createVcpu(name);
        parts.add(part);
        VcpuRun run = new VcpuRun(vm, part, HardwareWalker.of(vm.config()), shootdown);
        runs.add(run);
        // Loads the root, so that the actors do not begin by making one.
        assertFalse(run.touch(NOWHERE, Access.READ));
        return run;
    }

    /** A vCPU that the VM knows: one whose hardware log a harvest drains. */
    final VcpuRun attached() {
        VcpuRun run = vm.createVcpu().run();
        runs.add(run);
        assertFalse(run.touch(NOWHERE, Access.READ));
        return run;
    }

    final Vcpu vcpu(VcpuRun run) {
        return new Vcpu(run, shootdown.sequenceAddress());
    }

    final Vcpu vcpu(String name) {
        return vcpu(run(name));
    }

    /** The MMU's part of a vCPU, with a root. */
    final VcpuMmu part(String name) {
        VcpuMmu part = vm.mmu().createVcpu(name);
        assertTrue(vm.mmu().loadRoot(part));
        parts.add(part);
        return part;
    }

    /** Faults as a vCPU would until the fault is not sent back any more. */
    final FaultResult fault(VcpuMmu part, MemSlot slot, long gpa, int access) {
        for (int tries = 1; ; tries++) {
            FaultResult result = vm.mmu().faults().map(part, slot, Gfn.of(gpa), access);
            if (result != FaultResult.RETRY) {
                return result;
            }
            if (tries % RETRIES_BEFORE_WAIT == 0) {
                Interleave.blocked();
            }
        }
    }

    /** The lowest entry that decides over an address now. */
    final long spte(VcpuMmu part, long gpa) {
        return sptes[level(part, gpa)];
    }

    /** The level of that entry. */
    final int level(VcpuMmu part, long gpa) {
        return vm.mmu().walk().read(part.root(), Gfn.of(gpa), sptes);
    }

    /** Where the entry of an address at a level is; the tables above it must exist. */
    final long spteAddress(VcpuMmu part, long gpa, int level) {
        long table = part.root().hpa();
        int lowest = vm.mmu().walk().read(part.root(), Gfn.of(gpa), sptes);
        assertTrue(lowest <= level, "no table of the level");
        if (level < part.root().level()) {
            table = vm.mmu().format().address(sptes[level + 1]);
        }
        return SpteAccess.addressOf(table, Gfn.of(gpa), level);
    }

    final boolean isLeaf(VcpuMmu part, long gpa) {
        int level = level(part, gpa);
        return vm.mmu().format().isLeaf(sptes[level], level);
    }

    /** What a scenario says beyond the common checks. */
    abstract void judge();

    @Override
    public final void check() {
        vm.verify();
        judge();
        vm.verify();
        for (VcpuRun run : runs) {
            checkTlb(run);
        }
    }

    private void checkTlb(VcpuRun run) {
        assertEquals(ReaderSlot.OUTSIDE, ReaderSlot.modeOf(run.slot.state()), "vCPU is not outside");
        long now = HostWords.readVolatile(shootdown.sequenceAddress());
        if (now != run.seenSequence) {
            shootdown.apply(run.tlb, null, run.seenSequence, now);
            run.seenSequence = now;
        }
        if (!run.mmu().hasRoot() || run.mmu().root().isInvalid()) {
            return;
        }
        TlbView view = new TlbView();
        for (int i = 0; i < run.tlb.capacity(); i++) {
            if (run.tlb.entryAt(i, view)) {
                checkEntry(run.mmu(), view);
            }
        }
    }

    private void checkEntry(VcpuMmu part, TlbView view) {
        int level = level(part, Gfn.toGpa(view.gfn));
        String text = "stale TLB entry: gfn=0x" + Long.toHexString(view.gfn) + ", level=" + view.level + ", table="
                + view.table + ", permissions=" + view.permissions + ", tablesLevel=" + level + ", spte=0x"
                + Long.toHexString(sptes[level]);
        if (view.table) {
            assertTrue(level <= view.level, text);
            assertEquals(vm.mmu().format().address(sptes[view.level + 1]), view.hpa, text);
            return;
        }
        assertTrue(vm.mmu().format().isLeaf(sptes[level], level), text);
        long offset = Gfn.toGpa(view.gfn) & (PagingLevel.bytes(level) - 1);
        assertEquals(vm.mmu().format().address(sptes[level]) + offset, view.hpa, text);
        assertTrue(
                (view.permissions & Access.WRITE) == 0 || vm.mmu().format().isWritable(sptes[level]),
                "TLB allows stores that the tables forbid: " + text);
    }

    @Override
    public Map<Long, String> names() {
        return names;
    }

    @Override
    public final void close() {
        for (VcpuMmu part : parts) {
            vm.mmu().closeVcpu(part);
        }
        vm.close();
        VmStats stats = vm.stats();
        assertEquals(0, stats.memoryUsedInBytes(), "memory is charged after close");
        assertEquals(0, stats.pages4k(), "pages4k after close");
        assertEquals(0, stats.pages2m(), "pages2m after close");
        assertEquals(0, stats.tablePages(), "tables after close");
        assertEquals(stats.retiredPages(), stats.reclaimedPages(), "retired pages after close");
        assertEquals(0, vm.mmu().roots().roots().size(), "roots after close");
    }
}
