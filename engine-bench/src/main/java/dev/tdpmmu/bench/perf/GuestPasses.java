package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.base.Gfn;

/** What guests do: one access to the first word of each 4 KiB page. */
final class GuestPasses {
    private GuestPasses() {}

    static long write(Vcpu vcpu, long gpa, long pages, long value) {
        long end = gpa + Gfn.toGpa(pages);
        for (long at = gpa; at < end; at += Gfn.PAGE_SIZE) {
            vcpu.putLong(at, value);
        }
        return pages;
    }

    /** Reads, and throws if a page does not hold what it should. */
    static long check(Vcpu vcpu, long gpa, long pages, long expected) {
        long end = gpa + Gfn.toGpa(pages);
        for (long at = gpa; at < end; at += Gfn.PAGE_SIZE) {
            long value = vcpu.getLong(at);
            if (value != expected) {
                throw wrong(vcpu, at, value, expected);
            }
        }
        return pages;
    }

    /** Reads whatever is there; returns a sum, so that nothing can be left out. */
    static long read(Vcpu vcpu, long gpa, long pages) {
        long sum = 0;
        long end = gpa + Gfn.toGpa(pages);
        for (long at = gpa; at < end; at += Gfn.PAGE_SIZE) {
            sum += vcpu.getLong(at);
        }
        return sum;
    }

    /** Writes round and round until the fleet is stopped; returns how many pages that were. */
    static long writeUntilStopped(VcpuFleet fleet, Vcpu vcpu, long gpa, long pages, long value) {
        long count = 0;
        while (true) {
            for (long page = 0; page < pages; page++) {
                if (fleet.isStopping()) {
                    return count;
                }
                vcpu.putLong(gpa + Gfn.toGpa(page), value);
                count++;
            }
            // On virtual threads more vCPUs than carriers would never get a turn.
            Thread.yield();
        }
    }

    static IllegalStateException wrong(Vcpu vcpu, long gpa, long value, long expected) {
        return new IllegalStateException(
                "page does not hold what was written: vcpu=" + vcpu.name() + ", gpa=0x" + Long.toHexString(gpa)
                        + ", value=0x" + Long.toHexString(value) + ", expected=0x" + Long.toHexString(expected));
    }
}
