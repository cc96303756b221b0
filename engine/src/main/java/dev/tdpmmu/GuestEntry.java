package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * How a vCPU enters the guest for one access and leaves it: the few instructions that every load and store pays for.
 *
 * <p>Belongs to one thread at a time.
 */
abstract sealed class GuestEntry permits Vcpu {
    final VcpuRun run;
    final long sequenceAddress;
    private final long epochAddress;

    /** Where the run's reader slot has its state; that of the tombstone after close. */
    private long stateAddress;

    /** The run's, as it was when this vCPU last came back from it. One that lags costs a detour, no more. */
    private long seenSequence;

    /** Loads and stores; {@link VcpuRun#accesses} has the others. */
    private long accesses;

    /** The run's TLB, as {@link Tlb#hits} gives it. */
    private final long[] tlbHits;

    // Design note. An access is bracketed by the reader slot: IN_GUEST with the epoch in front (a store with a full
    // fence), OUTSIDE behind it (a release store). Between the two: one comparison with the flush sequence, one with
    // the TLB's tag, the load or store itself. Everything else is out of line in VcpuRun. The fence is what lets a
    // flush be sure of us with nothing but a look at the slot. What belongs to the vCPU alone is read before the
    // fence, so that only the sequence and the TLB's entry are left to be read behind it, where nothing overlaps; and
    // it stands in this object, since each object more on the way to the fence costs every access a nanosecond or so.

    GuestEntry(VcpuRun run, long sequenceAddress) {
        this.run = run;
        this.sequenceAddress = sequenceAddress;
        this.tlbHits = run.tlb.hits();
        this.stateAddress = run.slot.stateAddress();
        this.epochAddress = run.slot.epochAddress();
        this.seenSequence = run.seenSequence;
        run.attach(this);
    }

    /** Enters the guest for a load and returns the host physical address, or leaves again and returns {@link VcpuRun#MMIO}. */
    @HotPath
    final long beginRead(long gpa) {
        long[] hits = tlbHits;
        long seen = seenSequence;
        accesses++;
        if (Debug.CHECK) {
            run.slot.assertNoSection();
        }
        ReaderSlot.enter(stateAddress, epochAddress, ReaderSlot.IN_GUEST);
        if (HostWords.readVolatile(sequenceAddress) == seen) {
            long hpa = Tlb.readHit(hits, gpa);
            if (hpa >= 0) {
                if (Debug.PROVE) {
                    run.judgeHit(gpa, Access.READ);
                }
                return hpa;
            }
        }
        return translate(gpa, Access.READ);
    }

    /** Enters the guest for a store, as {@link #beginRead} does for a load. */
    @HotPath
    final long beginWrite(long gpa) {
        long[] hits = tlbHits;
        long seen = seenSequence;
        accesses++;
        if (Debug.CHECK) {
            run.slot.assertNoSection();
        }
        ReaderSlot.enter(stateAddress, epochAddress, ReaderSlot.IN_GUEST);
        if (HostWords.readVolatile(sequenceAddress) == seen) {
            long hpa = Tlb.writeHit(hits, gpa);
            if (hpa >= 0) {
                if (Debug.PROVE) {
                    run.judgeHit(gpa, Access.WRITE);
                }
                return hpa;
            }
        }
        return translate(gpa, Access.WRITE);
    }

    private long translate(long gpa, int access) {
        long hpa = run.translate(gpa, access);
        seenSequence = run.seenSequence;
        return hpa;
    }

    @HotPath
    final void end() {
        ReaderSlot.leave(stateAddress, ReaderSlot.OUTSIDE);
    }

    /** Points this vCPU at the slot that all closed ones share. */
    final void moveTo(ReaderSlot slot) {
        stateAddress = slot.stateAddress();
    }

    final long ownAccesses() {
        return accesses;
    }
}
