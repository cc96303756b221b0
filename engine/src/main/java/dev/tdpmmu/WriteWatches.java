package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.mmu.RangeOperations;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/**
 * The watches of a VM, and the stores that vCPUs cannot make themselves because of them. Changed under the slots lock;
 * asked by any thread.
 */
final class WriteWatches {
    private final GuestMemory memory;
    private final RangeOperations ranges;
    private final List<WriteWatch> watches = new CopyOnWriteArrayList<>();

    WriteWatches(GuestMemory memory, RangeOperations ranges) {
        this.memory = memory;
        this.ranges = ranges;
    }

    void add(WriteWatch watch) {
        // First: a store that leaves the guest because of this watch is reported.
        Interleave.step();
        watches.add(watch);
        Interleave.step();
        ranges.watch(watch.startGfn(), watch.endGfn());
    }

    void remove(WriteWatch watch) {
        ranges.unwatch(watch.startGfn(), watch.endGfn());
        watches.remove(watch);
    }

    /** Makes a store that left the guest because its page was watched, and reports it if the page still is. */
    void store(long gpa, int bytes, long value) {
        memory.store(gpa, bytes, value);
        report(gpa, bytes, value);
    }

    boolean compareAndSet(long gpa, int bytes, long expected, long value) {
        boolean replaced = memory.compareAndSet(gpa, bytes, expected, value);
        if (replaced) {
            report(gpa, bytes, value);
        }
        return replaced;
    }

    private void report(long gpa, int bytes, long value) {
        long gfn = Gfn.of(gpa);
        for (WriteWatch watch : watches) {
            if (watch.covers(gfn)) {
                watch.watcher().written(gpa, bytes, value);
            }
        }
    }
}
