package dev.tdpmmu.sync;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.trace.LockWaitEvent;
import dev.tdpmmu.trace.Trace;

/**
 * The policies {@link dev.tdpmmu.config.LockPolicy#STAMPED} and {@link dev.tdpmmu.config.LockPolicy#EXCLUSIVE}: faults
 * take one StampedLock, in read mode or in write mode.
 *
 * <p>Both write the lock's word on every fault, which is what the third policy avoids.
 */
final class StampedMmuLock extends MmuLock {
    private final LockMode faultMode;

    StampedMmuLock(ReaderSlots slots, LockMode faultMode) {
        super(slots);
        this.faultMode = faultMode;
    }

    @Override
    @HotPath
    public void lockForFault(ReaderSlot slot) {
        LockDep.acquire(LockRank.MMU, faultMode);
        if (faultMode == LockMode.SHARED) {
            slot.keepStamp(lockSharedGate(slot));
        } else {
            slot.keepStamp(gate.lockExclusive());
        }
        slot.enter(ReaderSlot.WALKING);
    }

    @Override
    @HotPath
    public void unlockForFault(ReaderSlot slot) {
        slot.leave(ReaderSlot.HANDLING);
        if (faultMode == LockMode.SHARED) {
            gate.unlockShared(slot.stamp());
        } else {
            gate.unlockExclusive(slot.stamp());
        }
        LockDep.release(LockRank.MMU, faultMode);
    }

    private long lockSharedGate(ReaderSlot slot) {
        long stamp = gate.hasExclusive() ? 0 : gate.tryLockShared();
        if (stamp != 0) {
            return stamp;
        }
        slot.count(Counter.LOCK_WAITS, 1);
        LockWaitEvent event = Trace.beginLockWait();
        stamp = gate.lockSharedFairly();
        Trace.endLockWait(event, LockMode.SHARED);
        return stamp;
    }

    @Override
    void enterShared(ReaderSlot slot) {
        slot.keepStamp(lockSharedGate(slot));
        slot.enter(ReaderSlot.WALKING);
    }

    @Override
    void leaveShared(ReaderSlot slot) {
        slot.leave(slot.rest());
        gate.unlockShared(slot.stamp());
    }

    @Override
    void awaitSharedHolders() {
        // Nothing to wait for: shared holders hold the StampedLock itself.
    }
}
