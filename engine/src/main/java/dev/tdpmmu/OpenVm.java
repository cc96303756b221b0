package dev.tdpmmu;

import dev.tdpmmu.sync.ReaderSlot;
import java.util.function.Supplier;

/**
 * Keeps a VM from being taken apart while an operation runs that holds no lock of it.
 *
 * <p>The operation shows in a reader slot, as a vCPU does that handles an exit, and looks whether the VM closes after
 * that. Close marks the VM first and then waits for every reader: so either the operation sees the mark, or close waits
 * for it.
 */
final class OpenVm {
    private OpenVm() {}

    /**
     * Runs an operation.
     *
     * @throws VmClosedException if close has begun
     * @locking outside every section and every lock of the VM
     */
    static <T> T whileOpen(Vm vm, Supplier<T> operation) {
        ReaderSlot reader = vm.takeReader();
        try {
            // Only entering has the fence that the store needs before the look.
            reader.enter(ReaderSlot.WALKING);
            vm.checkOpen();
            // No epoch is held: the operation enters its own, and grace periods need not wait for us.
            reader.leave(ReaderSlot.HANDLING);
            return operation.get();
        } finally {
            vm.giveReader(reader);
        }
    }
}
