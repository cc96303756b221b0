package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The boot scenario in small. */
final class BootTest {
    private static final int VCPUS = 16;
    private static final long MEMORY = 64L << 20;

    /** 100, 300 and 5,000 pages; a share has 1,024, so the last one does not fit. */
    private List<Trace> traces;

    @BeforeEach
    void makeTraces() throws IOException {
        traces = List.of(TraceTexts.program(100), TraceTexts.program(300), TraceTexts.program(5_000));
    }

    @ParameterizedTest
    @EnumSource(FleetThreads.class)
    void everyPolicyBootsWithoutDataError(FleetThreads threads) {
        BootReport report = Boot.run(small().threads(threads).build(), BootListener.NONE);

        assertEquals(
                List.of(LockPolicy.values()),
                report.runs().stream().map(BootRun::policy).toList());
        assertTrue(report.isSound());
        for (BootRun run : report.runs()) {
            assertEquals("", run.failure());
            assertEquals(0, run.dataErrors());
            assertEquals(MEMORY / Gfn.PAGE_SIZE, run.pages4k());
            assertEquals(MEMORY / Gfn.PAGE_SIZE, run.faults().fixed());
            assertEquals(MEMORY, run.guestBytesTouched());
            assertEquals(run.replayNanos() + run.touchNanos(), run.wallNanos());
            assertTrue(run.tlbHitRate() > 0 && run.tlbHitRate() < 1, run.toString());
            assertTrue(
                    run.nsPerFault() > 0
                            && run.latencyNanos().max() >= run.latencyNanos().p50(),
                    run.toString());
        }
    }

    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void withoutTouchThereAreAsManyLeavesAsDistinctPages(PagingMode mode) {
        BootReport report = Boot.run(
                small().vcpus(2)
                        .touch(false)
                        .pagingMode(mode)
                        .policies(List.of(LockPolicy.PARALLEL))
                        .build(),
                BootListener.NONE);

        BootRun run = report.runs().getFirst();
        assertEquals(100 + 300, run.distinctPages());
        assertEquals(400, run.pages4k());
        assertEquals(0, run.leftOutRecords());
        assertEquals(0, run.touchNanos());
        assertEquals(400 * Gfn.PAGE_SIZE, run.guestBytesTouched());
        assertTrue(run.isSound(), run.failure());
    }

    @Test
    void recordsOfPagesThatDoNotFitAreCounted() {
        BootRun run = Boot.run(small().policies(List.of(LockPolicy.STAMPED)).build(), BootListener.NONE)
                .runs()
                .getFirst();

        // Round robin: vCPUs 2, 5, 8, 11 and 14 have the large trace, with nine records a page.
        assertEquals(5 * (5_000 - 1_024) * 9, run.leftOutRecords());
        assertEquals(6 * 100 + 5 * 300 + 5 * 5_000, run.distinctPages());
        assertEquals(6 * 100 + 5 * 300 + 5 * 1_024, run.replayedPages());
        assertEquals(run.distinctPages() * 9, run.traceRecords());
        assertTrue(run.isSound(), run.failure());
    }

    @Test
    void hugeFramesAreMappedByHugeLeaves() {
        BootRun run = Boot.run(
                        small().pageSize(PageSize.SIZE_2M)
                                .policies(List.of(LockPolicy.PARALLEL))
                                .build(),
                        BootListener.NONE)
                .runs()
                .getFirst();

        assertEquals(MEMORY / PageSize.SIZE_2M.bytes(), run.pages2m());
        assertEquals(0, run.pages4k());
        assertTrue(run.isSound(), run.failure());
    }

    @Test
    void memoryThatIsNoMultipleOfTheVcpusIsTouchedWhole() {
        BootRun run = Boot.run(
                        small().vcpus(7)
                                .memoryBytes(100 * Gfn.PAGE_SIZE)
                                .policies(List.of(LockPolicy.PARALLEL))
                                .build(),
                        BootListener.NONE)
                .runs()
                .getFirst();

        assertEquals(100, run.pages4k());
        assertTrue(run.isSound(), run.failure());
    }

    @Test
    void byteChangedBeforeTheReplayIsADataError() {
        AtomicBoolean changed = new AtomicBoolean();

        BootReport report = Boot.run(small().build(), afterPhase(BootPhase.LOAD, vm -> {
            changed.set(true);
            flip(vm, 0);
        }));

        assertTrue(changed.get());
        assertFalse(report.isSound());
        for (BootRun run : report.runs()) {
            assertTrue(run.dataErrors() > 0, run.toString());
            assertTrue(run.failure().startsWith("wrong data: vcpu="), run.failure());
        }
    }

    @Test
    void byteChangedAfterTheTouchIsOneDataError() {
        // The last page of the first share: its trace does not use it.
        BootReport report = Boot.run(
                small().policies(List.of(LockPolicy.PARALLEL)).build(),
                afterPhase(BootPhase.TOUCH, vm -> flip(vm, 1_023)));

        assertEquals(1, report.runs().getFirst().dataErrors());
        assertTrue(
                report.runs().getFirst().failure().contains("gfn=0x3ff"),
                report.runs().getFirst().failure());
    }

    @Test
    void byteChangedWhileTheVcpusRunIsADataError() {
        AtomicBoolean once = new AtomicBoolean();
        BootReport report =
                Boot.run(small().policies(List.of(LockPolicy.PARALLEL)).build(), new Recording() {
                    @Override
                    public void stepsDone(Vm vm, long steps) {
                        if (phase == BootPhase.TOUCH && once.compareAndSet(false, true)) {
                            // Page 5 belongs to the first trace: nobody writes it any more.
                            flip(vm, 5);
                        }
                    }
                });

        assertTrue(once.get());
        assertEquals(1, report.runs().getFirst().dataErrors());
    }

    @Test
    void leafThatNobodyTouchedIsAFailure() {
        BootReport report = Boot.run(
                small().vcpus(2)
                        .touch(false)
                        .policies(List.of(LockPolicy.PARALLEL))
                        .build(),
                afterPhase(BootPhase.REPLAY, vm -> {
                    try (var stranger = vm.createVcpu()) {
                        stranger.getLong(MEMORY - Long.BYTES);
                    }
                }));

        assertFalse(report.isSound());
        assertEquals(
                "leaves are not the pages that were touched: pages4k=401, touched=400",
                report.runs().getFirst().failure());
    }

    @Test
    void everyPhaseIsHeardOfWithAllItsSteps() {
        Recording listener = new Recording();

        Boot.run(
                small().policies(List.of(LockPolicy.EXCLUSIVE, LockPolicy.PARALLEL))
                        .build(),
                listener);

        List<BootPhase> twice = new ArrayList<>(List.of(BootPhase.values()));
        Collections.addAll(twice, BootPhase.values());
        assertEquals(twice, listener.phases);
        assertEquals(listener.announced, listener.done.get());
    }

    @Test
    void failureOfAVcpuNamesItAndLeavesNoVmOpen() {
        List<Vm> vms = new ArrayList<>();

        FleetException failure = assertThrows(
                FleetException.class,
                () -> Boot.run(small().policies(List.of(LockPolicy.STAMPED)).build(), new Recording() {
                    @Override
                    public void phaseStarts(Vm vm, BootPhase started, long steps) {
                        super.phaseStarts(vm, started, steps);
                        vms.add(vm);
                    }

                    @Override
                    public void stepsDone(Vm vm, long steps) {
                        if (phase == BootPhase.REPLAY) {
                            throw new IllegalStateException("planted");
                        }
                    }
                }));

        assertTrue(failure.getMessage().contains("fleet=boot-STAMPED-REPLAY, vcpu="), failure.getMessage());
        assertTrue(vms.getFirst().isClosed());
        assertEquals(0, vms.getFirst().stats().memoryUsedInBytes());
    }

    private BootConfig.Builder small() {
        return BootConfig.builder(traces).vcpus(VCPUS).memoryBytes(MEMORY);
    }

    /** Changes one byte of a page's value, as a stray device would. */
    private static void flip(Vm vm, long gfn) {
        long address = new GuestShare(gfn, 1).gpa(0) + Integer.BYTES;
        vm.memory().putByte(address, (byte) ~vm.memory().getByte(address));
    }

    private static BootListener afterPhase(BootPhase wanted, Consumer<Vm> action) {
        return new Recording() {
            @Override
            public void phaseEnds(Vm vm, BootPhase ended) {
                if (ended == wanted) {
                    action.accept(vm);
                }
            }
        };
    }

    /** Hears everything. */
    private static class Recording implements BootListener {
        final List<BootPhase> phases = new ArrayList<>();
        final AtomicLong done = new AtomicLong();
        long announced;
        volatile BootPhase phase;

        @Override
        public void phaseStarts(Vm vm, BootPhase started, long steps) {
            phase = started;
            phases.add(started);
            announced += steps;
        }

        @Override
        public void stepsDone(Vm vm, long steps) {
            done.addAndGet(steps);
        }

        @Override
        public void phaseEnds(Vm vm, BootPhase ended) {}
    }
}
