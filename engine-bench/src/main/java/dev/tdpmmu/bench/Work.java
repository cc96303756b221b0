package dev.tdpmmu.bench;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.TdpWalk;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;

/**
 * The measured loops, one method each, the same for JMH and for the comparison with the native reference. Each returns
 * a sum that depends on every step, so that none can be left out.
 */
final class Work {
    private static final long MIX_FIRST = 0x9E3779B97F4A7C15L;
    private static final long MIX_SECOND = 0xD6E8FEB86659FD93L;

    private Work() {}

    /** Bijection on [0, 2^bits), the same as the native reference's, so that both touch the same pages in the same order. */
    static long mix(long value, int bits) {
        long mask = (1L << bits) - 1;
        int shift = bits / 2;
        long x = value * MIX_FIRST & mask;
        x ^= x >>> shift;
        x = x * MIX_SECOND & mask;
        return x ^ x >>> shift;
    }

    /** Maps every {@code stride}-th frame of a range; returns how many were installed. */
    static long faultStrided(FaultHandler faults, VcpuMmu vcpu, MemSlot slot, long start, long end, long stride) {
        long installed = 0;
        for (long gfn = start; gfn < end; gfn += stride) {
            installed += fault(faults, vcpu, slot, gfn);
        }
        return installed;
    }

    /** Maps the frames {@code mix(start), ..., mix(end - 1)} of a guest of 2^bits frames. */
    static long faultRandom(FaultHandler faults, VcpuMmu vcpu, MemSlot slot, long start, long end, int bits) {
        long installed = 0;
        for (long i = start; i < end; i++) {
            installed += fault(faults, vcpu, slot, mix(i, bits));
        }
        return installed;
    }

    private static long fault(FaultHandler faults, VcpuMmu vcpu, MemSlot slot, long gfn) {
        FaultResult result = faults.map(vcpu, slot, gfn, Access.WRITE);
        return result == FaultResult.FIXED ? 1 : faultAgain(faults, vcpu, slot, gfn, result);
    }

    /**
     * Executes the access again, as a guest would, and the native reference by its goto. Out of line: written as a loop
     * around the call above it made every fault half as dear again.
     */
    private static long faultAgain(FaultHandler faults, VcpuMmu vcpu, MemSlot slot, long gfn, FaultResult first) {
        FaultResult result = first;
        while (result == FaultResult.RETRY) {
            result = faults.map(vcpu, slot, gfn, Access.WRITE);
        }
        return result == FaultResult.FIXED ? 1 : 0;
    }

    static long translateSequential(TdpWalk walk, TdpRoot root, long start, long end) {
        long sum = 0;
        for (long gfn = start; gfn < end; gfn++) {
            sum += walk.translate(root, Gfn.toGpa(gfn));
        }
        return sum;
    }

    static long translateRandom(TdpWalk walk, TdpRoot root, long start, long end, int bits) {
        long sum = 0;
        for (long i = start; i < end; i++) {
            sum += walk.translate(root, Gfn.toGpa(mix(i, bits)));
        }
        return sum;
    }

    /** As {@link #translateSequential}, by the emulated hardware, which remembers tables and no page. */
    static long walkSequential(
            HardwareWalker walker, Tlb tlb, long rootPointer, WalkResult result, long start, long end) {
        long sum = 0;
        for (long gfn = start; gfn < end; gfn++) {
            sum += walker.walk(tlb, rootPointer, Gfn.toGpa(gfn), Access.READ, result) + result.frame;
        }
        return sum;
    }

    /** As {@link #translateRandom}, by the emulated hardware. */
    static long walkRandom(
            HardwareWalker walker, Tlb tlb, long rootPointer, WalkResult result, long start, long end, int bits) {
        long sum = 0;
        for (long i = start; i < end; i++) {
            sum += walker.walk(tlb, rootPointer, Gfn.toGpa(mix(i, bits)), Access.READ, result) + result.frame;
        }
        return sum;
    }

    /** As {@link #translateSequential}, each translation in a reader section of its own. */
    static long translateSequentialInSections(TdpWalk walk, TdpRoot root, ReaderSlot slot, long start, long end) {
        long sum = 0;
        for (long gfn = start; gfn < end; gfn++) {
            slot.enter(ReaderSlot.WALKING);
            sum += walk.translate(root, Gfn.toGpa(gfn));
            slot.leave(ReaderSlot.OUTSIDE);
        }
        return sum;
    }

    /** As {@link #translateRandom}, each translation in a reader section of its own. */
    static long translateRandomInSections(TdpWalk walk, TdpRoot root, ReaderSlot slot, long start, long end, int bits) {
        long sum = 0;
        for (long i = start; i < end; i++) {
            slot.enter(ReaderSlot.WALKING);
            sum += walk.translate(root, Gfn.toGpa(mix(i, bits)));
            slot.leave(ReaderSlot.OUTSIDE);
        }
        return sum;
    }
}
