package dev.tdpmmu;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.hardware.CoherenceOracle;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.WordBlocks;
import dev.tdpmmu.mmu.RemoteTlb;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReaderSlots;
import dev.tdpmmu.trace.FlushEvent;
import dev.tdpmmu.trace.Trace;
import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.LongAdder;

/**
 * Removes translations from the TLBs of all vCPUs, and waits until none of them can use one any more.
 *
 * <p>Steps of a flush: (1) the tables were changed before the call; (2) take the next sequence number, which every vCPU
 * compares at the start of every access; (3) write the range into the ring; (4) wait for each vCPU until it is outside
 * the guest or has acknowledged this sequence or a later one.
 *
 * <p>Guarantee: when a flush returns, no access completes through a translation that was removed before its call. For a
 * vCPU either was outside at (4) and then finds the new sequence before its next access, or acknowledged, which it does
 * only between two accesses and after removing what the flush names. A walk in flight that read the old entry ends
 * before (4) does.
 *
 * <pre>
 *     +0  sequence of the last flush            own lines: read at every access
 *   +128  completed: highest sequence waited for
 *   +256  ring of 32 entries: stamp, start gfn, end gfn, spare
 * </pre>
 *
 * @kvm kvm_flush_remote_tlbs, kvm_make_all_cpus_request
 */
final class TlbShootdown implements RemoteTlb {
    private static final Cleaner CLEANER = Cleaner.create();

    private static final int BLOCK_BYTES = 2048;
    private static final int COMPLETED = CacheLines.PAIR_BYTES;
    private static final int RING = 2 * CacheLines.PAIR_BYTES;
    private static final int RING_ENTRIES = 32;
    private static final int ENTRY_BYTES = 32;
    private static final int START_GFN = 8;
    private static final int END_GFN = 16;

    /** Stamp of an entry while its range is written. No sequence gets there from either of its starts. */
    private static final long BEING_WRITTEN = -1;

    /** In proof runs the sequence starts just before it becomes negative. */
    private static final long FIRST_SEQUENCE = Debug.PROVE ? Long.MAX_VALUE - 16 : 1;

    private final ReaderSlots readers;
    private final long address = WordBlocks.take(BLOCK_BYTES);
    private final LongAdder requested = new LongAdder();
    private final LongAdder completed = new LongAdder();
    private final LongAdder coalesced = new LongAdder();

    /** Judges in proof runs what became of the flushes; null in others. */
    private final CoherenceOracle oracle = Debug.PROVE ? new CoherenceOracle(FIRST_SEQUENCE) : null;

    // Design note. One sequence for the whole VM instead of a request word for each vCPU: a flush writes one line and
    // the ring, not thousands of lines, and an access compares one word that is rarely written. The ring has no lock:
    // a vCPU that finds an entry not written yet, or overwritten already, flushes everything, which is always right.
    // A flush claims its entry before it writes: were a flush that is held up for a whole turn of the ring to write
    // between the stores of the next owner, a vCPU would find that owner's stamp over a mixed range. So a range that
    // stands between two equal stamps is whole. The vCPUs that hold no translation of the range are waited for as
    // well: to know them, every TLB fill would have to write a shared line.

    TlbShootdown(ReaderSlots readers) {
        this.readers = readers;
        HostWords.setRelease(address, FIRST_SEQUENCE);
        HostWords.setRelease(address + COMPLETED, FIRST_SEQUENCE);
        long block = address;
        // Not freed when the VM closes: a vCPU that is used after that must still find a sequence that is not its own.
        CLEANER.register(this, () -> WordBlocks.give(block, BLOCK_BYTES));
    }

    /** The TLB of a new vCPU, which has applied all flushes up to a sequence. */
    Tlb newTlb(TlbMode mode, String vcpuName, long sequence) {
        return new Tlb(mode, Debug.PROVE ? oracle.newRecord(vcpuName, sequence) : null);
    }

    /** The TLB of linear addresses of a vCPU that has applied all flushes up to a sequence. */
    LinearTlb newLinearTlb(TlbMode mode, String vcpuName, long sequence) {
        return new LinearTlb(mode, Debug.PROVE ? oracle.newRecord(vcpuName + " linear", sequence) : null);
    }

    /** The judge of the flushes; in proof runs only. */
    CoherenceOracle oracle() {
        return oracle;
    }

    /** Throws in proof runs if a vCPU was about to use a translation that a completed flush had covered. */
    void requireCoherent() {
        if (Debug.PROVE) {
            oracle.requireIntact();
        }
    }

    /** Address of the word that a vCPU compares at the start of each access. */
    long sequenceAddress() {
        return address;
    }

    @Override
    public void flushRange(long startGfn, long endGfn) {
        requested.increment();
        flush(startGfn, endGfn);
    }

    @Override
    public void flushAll() {
        flushRange(0, Long.MAX_VALUE);
    }

    @Override
    public void reloadRoots() {
        // A vCPU that applies any flush looks whether its root is still valid. The MMU marked it before this call.
        flushAll();
    }

    private void flush(long startGfn, long endGfn) {
        long ticket = HostWords.getAndAdd(address, 1) + 1;
        writeEntry(ticket, startGfn, endGfn);
        if (HostWords.readVolatile(address + COMPLETED) - ticket >= 0) {
            // A later flush has waited for all vCPUs since our number was visible: its wait was ours.
            coalesced.increment();
            publish(ticket, startGfn, endGfn);
            Trace.endFlush(Trace.beginFlush(), startGfn, endGfn, true);
            return;
        }
        FlushEvent event = Trace.beginFlush();
        awaitVcpus(ticket);
        publish(ticket, startGfn, endGfn);
        Trace.endFlush(event, startGfn, endGfn, false);
        raiseCompleted(ticket);
        completed.increment();
    }

    /** Tells the oracle that no vCPU may use anything any more that the flush names. */
    private void publish(long ticket, long startGfn, long endGfn) {
        if (Debug.PROVE) {
            oracle.publish(ticket, startGfn, endGfn);
        }
    }

    private void writeEntry(long ticket, long startGfn, long endGfn) {
        long entry = entryOf(ticket);
        long older = HostWords.readAcquire(entry);
        if (older == BEING_WRITTEN || !HostWords.compareAndSet(entry, older, BEING_WRITTEN)) {
            // Another flush writes here, one of us being held up for a whole turn of the ring. Whoever looks for our
            // stamp does not find it and flushes everything.
            return;
        }
        HostWords.setRelease(entry + START_GFN, startGfn);
        HostWords.setRelease(entry + END_GFN, endGfn);
        HostWords.setRelease(entry, ticket);
    }

    private long entryOf(long ticket) {
        return address + RING + (ticket & (RING_ENTRIES - 1)) * ENTRY_BYTES;
    }

    private void awaitVcpus(long ticket) {
        for (int i = 0, n = readers.size(); i < n; i++) {
            ReaderSlot slot = readers.at(i);
            // Spins: the caller may be inside a section. A vCPU is in the guest for one access only, and it never parks
            // there.
            while (ReaderSlot.modeOf(slot.state()) == ReaderSlot.IN_GUEST && slot.acknowledged() - ticket < 0) {
                if (!Interleave.blocked()) {
                    Thread.onSpinWait();
                }
            }
        }
    }

    private void raiseCompleted(long ticket) {
        while (true) {
            long highest = HostWords.readVolatile(address + COMPLETED);
            if (highest - ticket >= 0 || HostWords.compareAndSet(address + COMPLETED, highest, ticket)) {
                return;
            }
        }
    }

    /**
     * Applies to a vCPU's TLBs what was flushed since it looked last. It acknowledges afterwards.
     *
     * @param tlb of the calling vCPU
     * @param linear of the same vCPU; null if it has none
     * @param seen sequence that it has applied already
     * @param now sequence that it has just read
     */
    void apply(Tlb tlb, LinearTlb linear, long seen, long now) {
        if (now - seen > RING_ENTRIES) {
            flushAll(tlb, linear);
            return;
        }
        for (long ticket = seen + 1; ticket - now <= 0; ticket++) {
            long entry = entryOf(ticket);
            boolean written = HostWords.readAcquire(entry) == ticket;
            long startGfn = HostWords.readAcquire(entry + START_GFN);
            long endGfn = HostWords.readAcquire(entry + END_GFN);
            if (!written || HostWords.readAcquire(entry) != ticket) {
                flushAll(tlb, linear);
                return;
            }
            tlb.flushRange(startGfn, endGfn);
            if (linear != null) {
                linear.flushRange(startGfn, endGfn);
            }
        }
    }

    private static void flushAll(Tlb tlb, LinearTlb linear) {
        tlb.flushAll();
        if (linear != null) {
            linear.flushAll();
        }
    }

    long requested() {
        return requested.sum();
    }

    long completed() {
        return completed.sum();
    }

    long coalesced() {
        return coalesced.sum();
    }
}
