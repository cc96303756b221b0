package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.hardware.GuestPageFault;
import dev.tdpmmu.hardware.GuestPageWalker;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.LinearAccess;
import dev.tdpmmu.hardware.LinearResult;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.Optional;

/**
 * What a vCPU does when an access to a linear address is not a mere TLB hit: the loop of {@link VcpuRun} with a walk
 * of two dimensions in it. Belongs to one thread at a time.
 */
final class LinearRun {
    final VcpuRun run;
    final LinearTlb tlb;

    /** What the caller of the vCPU sees. */
    final GuestLinear view;

    /** Bits of {@link LinearAccess} that every access of now has. */
    int mode;

    /** Guest physical address of the access that was translated last by a walk. */
    private long gpa;

    /** By how much an address is shifted left and right to see whether it is canonical. */
    private int canonicalShift;

    private final Vm vm;
    private final GuestPageWalker walker;
    private final LinearResult result;
    private GuestPaging paging;
    private PageFaultHandler handler;

    // Design note. Whatever stops a walk, a flush, a page that the host has to bring, a full log, the guest's own
    // page fault handler, the whole access starts again at the linear address: what was found before the exit is in
    // the TLBs if it may still be used, and nowhere else.
    //
    // A guest table that the vCPU cannot store to although the read of an entry counts as a store (its page is
    // watched, or its slot is read-only) would exit for ever. Then the rest of the access is done as an emulator does
    // it: the walk reads tables as data, and flags are set through the VM's memory, where the watcher hears of them.

    LinearRun(
            VcpuRun run, Vm vm, HardwareWalker secondLevel, LinearResult result, LinearTlb tlb, long sequenceAddress) {
        this.run = run;
        this.vm = vm;
        this.tlb = tlb;
        this.result = result;
        this.walker = new GuestPageWalker(secondLevel, vm.config());
        this.view = new GuestLinear(this, sequenceAddress);
    }

    void load(GuestPaging registers) {
        paging = registers;
        canonicalShift = Long.SIZE - registers.linearAddressBits();
        tlb.load(registers);
    }

    GuestPaging paging() {
        return paging;
    }

    void onPageFault(PageFaultHandler guestHandler) {
        handler = guestHandler;
    }

    boolean isCanonical(long gva) {
        return gva << canonicalShift >> canonicalShift == gva;
    }

    void checkCanonical(long gva) {
        if (!isCanonical(gva)) {
            throw new NonCanonicalAddressException(gva, paging.linearAddressBits());
        }
    }

    /** Guest physical address behind {@link VcpuRun#MMIO}, until the next access. */
    long gpa() {
        return gpa;
    }

    /**
     * Translates an access that missed, or that found a request; faults until it can be done.
     *
     * @param gva guest linear address
     * @param access one bit of {@link Access}
     * @return host physical address, the slot being in the guest; or {@link VcpuRun#MMIO}, the slot being outside
     */
    long translate(long gva, int access) {
        long hpa = translateAny(gva, access);
        if (hpa >= 0 && !HostMemory.isFrame(hpa)) {
            run.slot.leave(ReaderSlot.OUTSIDE);
            throw new GuestAccessException(GuestAccessException.Reason.NO_BYTES, gpa, access);
        }
        return hpa;
    }

    /** A hit that the coherence oracle judges. In the guest; leaves it if a flush should have removed the mapping. */
    long judgedHit(long gva, int access) {
        boolean done = false;
        try {
            long hpa = tlb.translate(gva, access);
            done = true;
            return hpa;
        } finally {
            if (!done) {
                run.slot.leave(ReaderSlot.OUTSIDE);
            }
        }
    }

    /** Makes an access without its data; returns whether memory is there. */
    boolean touch(long gva, int access) {
        run.accesses++;
        run.slot.enter(ReaderSlot.IN_GUEST);
        if (translateAny(gva, access) < 0) {
            return false;
        }
        run.slot.leave(ReaderSlot.OUTSIDE);
        return true;
    }

    /** As {@link #touch}, with a page fault as a value. */
    Optional<GuestPageFault> probe(long gva, int access) {
        PageFaultHandler kernel = handler;
        handler = null;
        try {
            touch(gva, access);
            return Optional.empty();
        } catch (GuestPageFaultException e) {
            return Optional.of(e.fault());
        } finally {
            handler = kernel;
        }
    }

    private long translateAny(long gva, int access) {
        boolean done = false;
        try {
            long hpa = run(gva, access | mode);
            done = true;
            return hpa;
        } finally {
            if (!done) {
                // Whatever was thrown: nobody may wait for a section of ours any more.
                run.slot.leave(ReaderSlot.OUTSIDE);
            }
        }
    }

    private long run(long gva, int access) {
        run.checkNotClosed();
        checkCanonical(gva);
        result.softwareSetsFlags = false;
        int fruitless = 0;
        boolean missed = false;
        while (true) {
            if (!run.serveRequests()) {
                continue;
            }
            if (run.isRingFull()) {
                run.leaveForFullRing(gva, access & Access.ALL);
                continue;
            }
            if (!missed) {
                long cached = tlb.translate(gva, access);
                if (cached >= 0) {
                    return cached;
                }
                missed = true;
                run.tlbMisses++;
            }
            int outcome = walker.walk(run.tlb, tlb, run.rootPointer(), paging, gva, access, result);
            gpa = result.gpa;
            if (outcome == GuestPageWalker.OK) {
                return result.hpa;
            }
            if (outcome == GuestPageWalker.SECOND_LEVEL) {
                if (result.secondLevel == HardwareWalker.LOG_FULL) {
                    run.drainFullLog();
                    continue;
                }
                FaultResult answer = exit();
                if (answer != FaultResult.EMULATE) {
                    fruitless = run.reenter(answer, fruitless);
                    continue;
                }
                if (!result.secondLevelIsTable) {
                    run.slot.leave(ReaderSlot.OUTSIDE);
                    return VcpuRun.MMIO;
                }
                emulateTables();
            } else {
                leave(gva, outcome);
            }
        }
    }

    /** Has the MMU handle what the second level has refused. */
    private FaultResult exit() {
        if (walker.isTrapped(run.tlb, run.rootPointer(), result)) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.EXECUTE_TRAPPED, result.secondLevelGpa, Access.EXECUTE);
        }
        return run.exit(result.secondLevelGpa, walker.accessToAllow(result), result.secondLevel);
    }

    /** Goes on without stores to guest tables, if the table that was refused can be read at least. */
    private void emulateTables() {
        long tableGpa = result.secondLevelGpa;
        MemSlot memSlot = vm.slots().current().find(Gfn.of(tableGpa));
        run.slot.leave(ReaderSlot.OUTSIDE);
        if (!memSlot.exists()) {
            // Throws itself if nothing at all is there.
            run.mmioHandler(tableGpa, Long.BYTES, Access.READ);
            throw new GuestAccessException(GuestAccessException.Reason.TABLE_ON_MMIO, tableGpa, Access.READ);
        }
        result.softwareSetsFlags = true;
        run.slot.enter(ReaderSlot.IN_GUEST);
    }

    /** Leaves the guest for a reason that is not the MMU's, and comes back if the access may be tried again. */
    private void leave(long gva, int outcome) {
        run.slot.leave(ReaderSlot.OUTSIDE);
        switch (outcome) {
            case GuestPageWalker.PAGE_FAULT -> handle(new GuestPageFault(gva, result.errorCode));
            case GuestPageWalker.TABLE_STORE -> storeToTable();
            case GuestPageWalker.TABLE_WITHOUT_BYTES ->
                throw new GuestAccessException(
                        GuestAccessException.Reason.NO_BYTES, result.secondLevelGpa, Access.READ, ", guestTable=true");
            default ->
                throw new GuestAccessException(
                        GuestAccessException.Reason.BEYOND_LIMIT,
                        result.secondLevelGpa,
                        result.secondLevelAccess & Access.ALL,
                        ", limit=0x" + Long.toHexString(vm.config().guestAddressLimit()) + ", guestTable="
                                + result.secondLevelIsTable);
        }
        vm.checkOpen();
        run.checkNotClosed();
        run.slot.enter(ReaderSlot.IN_GUEST);
    }

    private void handle(GuestPageFault fault) {
        if (handler == null || !handler.handle(fault)) {
            throw new GuestPageFaultException(fault);
        }
        // The handler may have used this vCPU.
        result.softwareSetsFlags = false;
    }

    private void storeToTable() {
        long entryGpa = result.secondLevelGpa;
        if (!run.isMemory(entryGpa)) {
            throw new GuestAccessException(
                    GuestAccessException.Reason.READ_ONLY, entryGpa, Access.WRITE, ", guestTable=true");
        }
        // Whether it was replaced is seen by the walk that follows.
        vm.watches().compareAndSet(entryGpa, Long.BYTES, result.oldEntry, result.newEntry);
    }
}
