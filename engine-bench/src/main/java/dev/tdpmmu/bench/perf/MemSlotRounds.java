package dev.tdpmmu.bench.perf;

import dev.tdpmmu.GuestMemory;
import dev.tdpmmu.MmioHandler;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.slot.MemSlot;

/** The rounds of {@link MemSlotPerf}, on one VM. */
final class MemSlotRounds {
    private static final long FIRST_VALUE = 0x1122_3344_5566_7788L;
    private static final long SECOND_VALUE = 0x99AA_BBCC_DDEE_FF00L;

    /** The host's word of a page in RW; the guest's is the first. */
    private static final long HOST_WORD = Gfn.PAGE_SIZE / 2;

    /** A device that forgets: what a vCPU writes to a slot that is away. */
    private static final MmioHandler NOWHERE = new MmioHandler() {
        @Override
        public long read(long gpa, int bytes) {
            return 0;
        }

        @Override
        public void write(long gpa, int bytes, long value) {
            // The memory is away.
        }
    };

    private final Vm vm;
    private final VcpuFleet fleet;
    private final GuestLayout layout;
    private final PerfVm perf;
    private final long chunkBytes;
    private final PhaseTimer timer;

    /** The one that moves, where it is now. */
    private MemSlot moving;

    MemSlotRounds(PerfVm perf, GuestLayout layout, long chunkBytes, PhaseTimer timer) {
        this.perf = perf;
        this.vm = perf.vm();
        this.fleet = perf.fleet();
        this.layout = layout;
        this.chunkBytes = chunkBytes;
        this.timer = timer;
        this.moving = perf.slots().getLast();
    }

    /** Makes ready for the first round. */
    void prepare(MemSlotTest test) {
        switch (test) {
            case MAP, UNMAP, UNMAP_CHUNKED -> writeHalf(1, true, SECOND_VALUE);
            case MOVE_ACTIVE -> {
                vm.addMmio(moving.gpa(), moving.bytes(), NOWHERE);
                startWriting(moving.gpa(), moving.pages());
            }
            case MOVE_INACTIVE ->
                startWriting(layout.gpa(), perf.slots().getFirst().pages());
            case RW -> {
                writeHalf(0, true, FIRST_VALUE);
                writeHalf(1, true, FIRST_VALUE);
            }
        }
    }

    void round(MemSlotTest test) {
        switch (test) {
            case MAP -> mapRound();
            case UNMAP -> unmapRound(Long.MAX_VALUE);
            case UNMAP_CHUNKED -> unmapRound(chunkBytes);
            case MOVE_ACTIVE, MOVE_INACTIVE -> moveRound();
            case RW -> readWriteRound();
        }
    }

    /** Ends what runs from round to round. */
    void finish(MemSlotTest test) {
        if (test == MemSlotTest.MOVE_ACTIVE || test == MemSlotTest.MOVE_INACTIVE) {
            fleet.stop();
        }
    }

    private void mapRound() {
        startHalf(0, true, FIRST_VALUE);
        unmapHalf(1, Long.MAX_VALUE, "map: unmap half");
        fleet.await();
        checkEnds(0, FIRST_VALUE);

        startHalf(1, true, SECOND_VALUE);
        unmapHalf(0, Long.MAX_VALUE, "map: unmap half");
        fleet.await();
        checkEnds(1, SECOND_VALUE);
    }

    /** With more than one page for the guest the host would wait for it most of the time. */
    private void unmapRound(long pieceBytes) {
        String phase = pieceBytes == Long.MAX_VALUE ? "unmap: unmap half" : "unmap chunked: unmap half";
        startHalf(0, false, FIRST_VALUE);
        unmapHalf(1, pieceBytes, phase);
        fleet.await();
        check(halfGpa(0, 0), FIRST_VALUE);

        startHalf(1, false, SECOND_VALUE);
        unmapHalf(0, pieceBytes, phase);
        fleet.await();
        check(halfGpa(0, 1), SECOND_VALUE);
    }

    private void moveRound() {
        long home = layout.gpa() + layout.slotOffset(layout.slots() - 1);
        // Twice the memory's length above: free, and apart from it.
        moving = vm.moveSlot(moving, home + 2 * layout.bytes());
        moving = vm.moveSlot(moving, home);
    }

    private void readWriteRound() {
        GuestMemory host = vm.memory();
        long end = layout.gpa() + layout.bytes();
        fleet.run((index, vcpu) -> GuestPasses.write(vcpu, layout.regionGpa(index), layout.regionPages(), FIRST_VALUE));
        for (long gpa = layout.gpa(); gpa < end; gpa += Gfn.PAGE_SIZE) {
            check(gpa, FIRST_VALUE);
            host.putLong(gpa, 0);
            host.putLong(gpa + HOST_WORD, SECOND_VALUE);
        }
        fleet.run((index, vcpu) -> {
            long gpa = layout.regionGpa(index) + HOST_WORD;
            GuestPasses.check(vcpu, gpa, layout.regionPages(), SECOND_VALUE);
            GuestPasses.write(vcpu, gpa, layout.regionPages(), 0);
        });
    }

    private void startWriting(long gpa, long pages) {
        fleet.startAndAwaitRunning(
                (index, vcpu) -> GuestPasses.writeUntilStopped(fleet, vcpu, gpa, pages, FIRST_VALUE));
    }

    private void writeHalf(int half, boolean allPages, long value) {
        startHalf(half, allPages, value);
        fleet.await();
    }

    private void startHalf(int half, boolean allPages, long value) {
        long pages = allPages ? halfPages() : 1;
        fleet.start((index, vcpu) -> GuestPasses.write(vcpu, halfGpa(index, half), pages, value));
    }

    /** Halves of the whole memory; each vCPU has a part of each. */
    private long halfGpa(int vcpu, int half) {
        return layout.gpa() + half * (layout.bytes() / 2) + vcpu * Gfn.toGpa(halfPages());
    }

    private long halfPages() {
        return layout.pages() / 2 / layout.vcpus();
    }

    private void unmapHalf(int half, long pieceBytes, String phase) {
        timer.timePart(phase, () -> {
            long start = layout.gpa() + half * (layout.bytes() / 2);
            long end = start + layout.bytes() / 2;
            for (MemSlot slot : perf.slots()) {
                long last = Math.min(slot.gpa() + slot.bytes(), end);
                for (long gpa = Math.max(slot.gpa(), start); gpa < last; ) {
                    long length = Math.min(pieceBytes, last - gpa);
                    vm.discard(gpa, length);
                    gpa += length;
                }
            }
        });
    }

    private void checkEnds(int half, long expected) {
        check(halfGpa(0, half), expected);
        check(layout.gpa() + (half + 1) * (layout.bytes() / 2) - Gfn.PAGE_SIZE, expected);
    }

    private void check(long gpa, long expected) {
        long value = vm.memory().getLong(gpa);
        if (value != expected) {
            throw new IllegalStateException("host does not see what the guest wrote: gpa=0x" + Long.toHexString(gpa)
                    + ", value=0x" + Long.toHexString(value) + ", expected=0x" + Long.toHexString(expected));
        }
    }
}
