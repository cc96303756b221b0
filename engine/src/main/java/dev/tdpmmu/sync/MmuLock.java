package dev.tdpmmu.sync;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.trace.LockWaitEvent;
import dev.tdpmmu.trace.Trace;

/**
 * The lock that protects the shape of a VM's page tables, under one of three policies.
 *
 * <p>Faults call {@link #lockForFault}; operations over ranges choose a {@link LockMode}. Every holder is inside an
 * epoch, so that it may follow table entries. The policy is asked once per operation, never per entry; all code above
 * is the same for the three, so that a benchmark compares policies and nothing else.
 *
 * <p>Lock order: inside the slots lock, outside the pages lock. Not reentrant.
 */
public abstract sealed class MmuLock permits ParallelMmuLock, StampedMmuLock {
    final ReaderSlots slots;
    final StampedGate gate = new StampedGate();

    MmuLock(ReaderSlots slots) {
        this.slots = slots;
    }

    /**
     * Makes the lock of a VM.
     *
     * @param policy how faults share it
     * @param slots readers of the VM
     * @return new lock
     */
    public static MmuLock of(LockPolicy policy, ReaderSlots slots) {
        return switch (policy) {
            case EXCLUSIVE -> new StampedMmuLock(slots, LockMode.EXCLUSIVE);
            case STAMPED -> new StampedMmuLock(slots, LockMode.SHARED);
            case PARALLEL -> new ParallelMmuLock(slots);
        };
    }

    /**
     * Locks for a fault, in the mode of the policy, and enters an epoch.
     *
     * @param slot the faulting vCPU's, in no section
     * @ordering full fence; see the policies
     */
    @HotPath
    public abstract void lockForFault(ReaderSlot slot);

    /**
     * Unlocks after a fault; the slot is {@link ReaderSlot#HANDLING} then.
     *
     * @param slot as locked
     * @ordering release
     */
    @HotPath
    public abstract void unlockForFault(ReaderSlot slot);

    abstract void enterShared(ReaderSlot slot);

    abstract void leaveShared(ReaderSlot slot);

    abstract void awaitSharedHolders();

    /**
     * Locks for an operation over a range and enters an epoch.
     *
     * @param slot the worker's or vCPU's, in no section
     * @param mode shared or exclusive
     */
    public final void lock(ReaderSlot slot, LockMode mode) {
        LockDep.acquire(LockRank.MMU, mode);
        slot.keepRest();
        if (mode == LockMode.SHARED) {
            enterShared(slot);
        } else {
            LockWaitEvent event = Trace.beginLockWait();
            slot.keepStamp(gate.lockExclusive());
            awaitSharedHolders();
            Trace.endLockWait(event, LockMode.EXCLUSIVE);
            slot.enter(ReaderSlot.WALKING);
        }
    }

    /**
     * Unlocks; the slot is what it was before, outside or handling an exit.
     *
     * @param slot as locked
     * @param mode as locked
     */
    public final void unlock(ReaderSlot slot, LockMode mode) {
        if (mode == LockMode.SHARED) {
            leaveShared(slot);
        } else {
            slot.leave(slot.rest());
            gate.unlockExclusive(slot.stamp());
        }
        LockDep.release(LockRank.MMU, mode);
    }

    /**
     * Tells whether a holder should let others in.
     *
     * @param mode how the caller holds the lock
     * @return whether somebody waits who cannot come in
     * @kvm rwlock_needbreak
     */
    @HotPath
    public final boolean isContended(LockMode mode) {
        return mode == LockMode.SHARED ? gate.hasExclusive() : gate.isContendedForExclusive();
    }

    /**
     * Unlocks, lets at least one waiter in, and locks again. Nothing that was read before may be used after, and no
     * flush may be pending.
     *
     * @param slot as locked
     * @param mode as locked
     * @kvm cond_resched_rwlock_read, cond_resched_rwlock_write
     */
    public final void yield(ReaderSlot slot, LockMode mode) {
        slot.count(Counter.YIELDS, 1);
        long admissions = gate.admissions();
        unlock(slot, mode);
        // A shared holder needs no wait: taking the lock again queues it behind the exclusive waiter that it yields
        // to. An exclusive one would overtake its waiters, which wake up slowly.
        if (mode == LockMode.EXCLUSIVE) {
            gate.letOthersIn(admissions);
        }
        if (Interleave.ON) {
            Interleave.step();
        }
        lock(slot, mode);
    }

    /** Asserts that the lock is held in some mode, which every change of a linked entry needs. */
    public static void assertHeld() {
        if (Debug.CHECK) {
            LockDep.assertHeld(LockRank.MMU);
        }
    }

    /** Returns the lock's memory. Nobody may use it any more. */
    public final void close() {
        gate.close();
    }
}
