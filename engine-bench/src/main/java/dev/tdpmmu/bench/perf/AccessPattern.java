package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.base.Gfn;
import java.util.SplittableRandom;

/**
 * How a vCPU goes over its memory: in order or at random, writing all pages or a share of them and reading the others.
 *
 * @param writePercent 0 to 100
 * @param random whether pages are picked at random, as many times as there are pages
 */
record AccessPattern(int writePercent, boolean random) {
    private static final int ALL = 100;

    /** Makes one pass; returns a sum over what was read, so that no load can be left out. */
    long pass(Vcpu vcpu, long gpa, long pages, long value, SplittableRandom seeded) {
        if (writePercent == ALL && !random) {
            return GuestPasses.write(vcpu, gpa, pages, value);
        }
        long sum = 0;
        for (long i = 0; i < pages; i++) {
            sum += access(vcpu, gpa, pages, i, value, seeded);
        }
        return sum;
    }

    /** Makes passes until the fleet is stopped; returns the number of accesses. */
    long passUntilStopped(VcpuFleet fleet, Vcpu vcpu, long gpa, long pages, long value, SplittableRandom seeded) {
        long count = 0;
        while (true) {
            for (long i = 0; i < pages; i++) {
                if (fleet.isStopping()) {
                    return count;
                }
                access(vcpu, gpa, pages, i, value, seeded);
                count++;
            }
            // On virtual threads more vCPUs than carriers would never get a turn.
            Thread.yield();
        }
    }

    private long access(Vcpu vcpu, long gpa, long pages, long index, long value, SplittableRandom seeded) {
        long page = random ? seeded.nextLong(pages) : index;
        long at = gpa + Gfn.toGpa(page);
        if (writePercent == ALL || seeded.nextInt(ALL) < writePercent) {
            vcpu.putLong(at, value);
            return 0;
        }
        return vcpu.getLong(at);
    }
}
