package dev.tdpmmu.sync;

import dev.tdpmmu.base.HotPath;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.trace.LockWaitEvent;
import dev.tdpmmu.trace.Trace;

/**
 * The policy {@link dev.tdpmmu.config.LockPolicy#PARALLEL}: shared holders announce themselves in their own reader
 * slots and write no shared line; an exclusive holder raises a counter, takes the StampedLock, and waits until no slot
 * is in shared mode.
 *
 * <p>Who may race: a reader that enters while a writer comes.
 *
 * <pre>
 *  reader                                   | writer
 *  slot := FAULTING            (volatile)   | exclusive := exclusive + 1   (volatile)
 *  read exclusive              (volatile)   | read each slot               (volatile)
 *  0: go on; else leave, queue              | FAULTING: wait; else go on
 * </pre>
 *
 * <p>Both store first and read then, with a full fence between, so at least one sees the other. Were the reader's store
 * a mere release, both could read the old values, and the writer would tear down a table under the reader's
 * compare-and-set.
 */
final class ParallelMmuLock extends MmuLock {
    /** The gate's counter of exclusive waiters and holders: one load less on the way to it. */
    private final long exclusiveAddress;

    ParallelMmuLock(ReaderSlots slots) {
        super(slots);
        exclusiveAddress = gate.exclusiveAddress();
    }

    @Override
    @HotPath
    public void lockForFault(ReaderSlot slot) {
        LockDep.acquire(LockRank.MMU, LockMode.SHARED);
        enterShared(slot);
    }

    @Override
    @HotPath
    public void unlockForFault(ReaderSlot slot) {
        slot.leave(ReaderSlot.HANDLING);
        LockDep.release(LockRank.MMU, LockMode.SHARED);
    }

    @Override
    @HotPath
    void enterShared(ReaderSlot slot) {
        slot.enter(ReaderSlot.FAULTING);
        if (HostWords.readVolatile(exclusiveAddress) != 0) {
            enterBehindExclusive(slot);
        }
    }

    private void enterBehindExclusive(ReaderSlot slot) {
        slot.leave(ReaderSlot.HANDLING);
        slot.count(Counter.LOCK_WAITS, 1);
        LockWaitEvent event = Trace.beginLockWait();
        long stamp = gate.lockSharedFairly();
        Trace.endLockWait(event, LockMode.SHARED);
        // While we hold the stamp no writer is inside; one that comes later scans the slots and finds us.
        slot.enter(ReaderSlot.FAULTING);
        gate.unlockShared(stamp);
    }

    @Override
    @HotPath
    void leaveShared(ReaderSlot slot) {
        slot.leave(slot.rest());
    }

    @Override
    void awaitSharedHolders() {
        for (int i = 0, n = slots.size(); i < n; i++) {
            ReaderSlot other = slots.at(i);
            Waiting waiting = null;
            while (ReaderSlot.modeOf(other.state()) == ReaderSlot.FAULTING) {
                if (waiting == null) {
                    waiting = new Waiting();
                }
                waiting.once();
            }
        }
    }
}
