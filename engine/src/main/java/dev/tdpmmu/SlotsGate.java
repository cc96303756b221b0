package dev.tdpmmu;

import dev.tdpmmu.base.GuardedBy;
import dev.tdpmmu.sync.LockRank;
import dev.tdpmmu.sync.RankedLock;
import java.util.function.Supplier;

/**
 * The slots lock of a VM: held by whoever changes slots, devices, watches, or the set of vCPUs. Shut for good by the
 * end of the VM, so that what was begun before has ended, and what comes late finds nothing to change.
 */
final class SlotsGate {
    private final RankedLock lock = new RankedLock(LockRank.SLOTS);

    @GuardedBy("lock")
    private boolean shut;

    /** Does something that needs the slots to stay as they are; the action itself asks whether the VM is closing. */
    <T> T under(Supplier<T> action) {
        lock.lock();
        try {
            return action.get();
        } finally {
            lock.unlock();
        }
    }

    /** Does something that the end of the VM has done already if it has come. */
    void underUnlessShut(Runnable action) {
        lock.lock();
        try {
            if (!shut) {
                action.run();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Shuts the gate and does the last thing under the lock; a second call does nothing. */
    void shut(Runnable lastAction) {
        lock.lock();
        try {
            if (!shut) {
                shut = true;
                lastAction.run();
            }
        } finally {
            lock.unlock();
        }
    }
}
