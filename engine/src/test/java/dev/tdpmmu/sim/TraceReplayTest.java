package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import java.io.IOException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** One vCPU, one share, one trace. */
final class TraceReplayTest {
    private static final long SHARE_GPA = 0x20_0000;
    private static final int PAGES = 100;
    private static final long SHARE_BYTES = 128 * Gfn.PAGE_SIZE;

    private Vm vm;
    private Vcpu vcpu;

    @BeforeEach
    void makeGuest() {
        vm = new Vm(VmConfig.builder().name("replay").build());
        vm.addMemory(0, 0, 8 << 20, PageSize.SIZE_4K);
        vcpu = vm.createVcpu();
    }

    @AfterEach
    void verifyAndClose() {
        vm.checkTables();
        vm.close();
        assertEquals(0, vm.stats().memoryUsedInBytes());
    }

    @Test
    void coldReplayMapsEachDistinctPageOnce() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), SHARE_BYTES);

        replayAll(replay);

        VmStats stats = vm.stats();
        assertEquals(PAGES, stats.pages4k());
        assertEquals(PAGES, stats.pfFixed());
        assertEquals(0, replay.leftOutRecords());
        assertEquals(0, replay.dataErrors(), replay.firstDataError());
        assertEquals("", replay.firstDataError());
    }

    @Test
    void pagesBeyondTheShareAreLeftOutAndCounted() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), 60 * Gfn.PAGE_SIZE);

        replayAll(replay);

        assertEquals(60, replay.replayedPages());
        assertEquals(40 * 9, replay.leftOutRecords());
        assertEquals(60, vm.stats().pages4k());
        assertEquals(0, replay.dataErrors(), replay.firstDataError());
    }

    @Test
    void replayStaysInsideItsShare() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), 60 * Gfn.PAGE_SIZE);

        replayAll(replay);
        replay.touch(vcpu, replay.replayedPages(), replay.sharePages());

        assertTrue(vm.translate(SHARE_GPA - 1).isEmpty());
        assertTrue(vm.translate(SHARE_GPA).isPresent());
        assertTrue(vm.translate(SHARE_GPA + 60 * Gfn.PAGE_SIZE - 1).isPresent());
        assertTrue(vm.translate(SHARE_GPA + 60 * Gfn.PAGE_SIZE).isEmpty());
    }

    @Test
    void slicesOfAnySizeReplayTheSame() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), SHARE_BYTES);

        int done = 0;
        int slice = replay.replay(vcpu, 7);
        while (slice > 0) {
            done += slice;
            slice = replay.replay(vcpu, 7);
        }

        assertEquals(replay.trace().length(), done);
        assertEquals(PAGES, vm.stats().pages4k());
        assertEquals(0, replay.dataErrors(), replay.firstDataError());
    }

    @Test
    void touchReachesThePagesThatTheTraceDoesNotUse() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), SHARE_BYTES);
        replayAll(replay);

        replay.warm(vm.memory(), PAGES, 128);
        replay.touch(vcpu, PAGES, 128);
        replay.check(vcpu);
        replay.checkTouched(vcpu, PAGES, 128);

        assertEquals(128, vm.stats().pages4k());
        assertEquals(0, replay.dataErrors(), replay.firstDataError());
    }

    @Test
    void wrongByteIsCountedByLoadsAndFetches() throws IOException {
        TraceReplay loads = loaded(TraceTexts.trace("R 1\nR 1\n"), SHARE_BYTES);
        flip(SHARE_GPA, 0);
        replayAll(loads);
        TraceReplay fetches = loaded(TraceTexts.trace("X 1\nX 1\nX 1\n"), SHARE_BYTES);
        flip(SHARE_GPA, Integer.BYTES);
        replayAll(fetches);

        assertEquals(2, loads.dataErrors());
        assertEquals(3, fetches.dataErrors());
        assertTrue(loads.firstDataError().contains("gfn=0x200"), loads.firstDataError());
    }

    @Test
    void lostStoreIsCounted() throws IOException {
        TraceReplay replay = loaded(TraceTexts.trace("W 1\nR 1\n"), SHARE_BYTES);
        long address = valueAddress(SHARE_GPA);
        long before = vm.memory().getLong(address);

        replay.replay(vcpu, 1);
        vm.memory().putLong(address, before);
        replayAll(replay);

        assertEquals(1, replay.dataErrors());
    }

    @Test
    void untouchedPageIsNotTakenForATouchedOne() throws IOException {
        TraceReplay replay = loaded(TraceTexts.program(PAGES), SHARE_BYTES);

        replay.warm(vm.memory(), PAGES, 128);
        replay.checkTouched(vcpu, PAGES, 128);

        assertEquals(28, replay.dataErrors());
    }

    @Test
    void badShareIsRefused() throws IOException {
        Trace trace = TraceTexts.program(1);

        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, -4096, 4096));
        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, 17, 4096));
        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, 0, 0));
        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, 0, 4097));
        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, 0, 1L << 44));
        assertThrows(IllegalArgumentException.class, () -> new TraceReplay(trace, 0, 4096).replay(vcpu, 0));
    }

    private TraceReplay loaded(Trace trace, long bytes) {
        TraceReplay replay = new TraceReplay(trace, SHARE_GPA, bytes);
        replay.load(vm.memory());
        return replay;
    }

    private void replayAll(TraceReplay replay) {
        replay.replay(vcpu, Integer.MAX_VALUE);
    }

    private void flip(long gpa, int offset) {
        long address = valueAddress(gpa) + offset;
        vm.memory().putByte(address, (byte) ~vm.memory().getByte(address));
    }

    private static long valueAddress(long gpa) {
        return new GuestShare(Gfn.of(gpa), 1).gpa(0);
    }
}
