package dev.tdpmmu;

import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Pages whose stores by vCPUs are reported, until this is closed. Their leaves are never writable, and never huge; each
 * store leaves the guest, is done by the VM, and then reported.
 *
 * <p>Stores by devices ({@link GuestMemory}) are not reported, as in the kernel.
 *
 * @kvm kvm_page_track_notifier_node
 */
public final class WriteWatch implements AutoCloseable {
    private final Vm vm;
    private final long startGfn;
    private final long endGfn;
    private final WriteWatcher watcher;
    private final AtomicBoolean closed = new AtomicBoolean();

    WriteWatch(Vm vm, long startGfn, long endGfn, WriteWatcher watcher) {
        this.vm = vm;
        this.startGfn = startGfn;
        this.endGfn = endGfn;
        this.watcher = watcher;
    }

    boolean covers(long gfn) {
        return gfn >= startGfn && gfn < endGfn;
    }

    long startGfn() {
        return startGfn;
    }

    long endGfn() {
        return endGfn;
    }

    WriteWatcher watcher() {
        return watcher;
    }

    /** Ends the watch. A second call, or one after the VM's close, does nothing. */
    @Override
    public void close() {
        if (closed.compareAndSet(false, true)) {
            vm.unwatch(this);
        }
    }
}
