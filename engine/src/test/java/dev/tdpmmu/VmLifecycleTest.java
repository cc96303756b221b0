package dev.tdpmmu;

import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.ForkedJava;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.MemoryCapExceededException;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReclaimStalledException;
import dev.tdpmmu.sync.StallReport;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Beginning, end and limits of VMs and vCPUs: every misuse has one documented outcome. */
class VmLifecycleTest {
    private static final String MATRIX = "dev.tdpmmu.TestVms#matrix";

    @RegisterExtension
    final TestVms vms = new TestVms();

    @Test
    void everythingButStatisticsIsRefusedAfterClose() {
        Vm vm = vms.vmWithMemory(VmConfig.builder().name("late"), MIB_2);
        MemSlot slot = vm.memorySlots().get(0);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(0, 1);
        vm.close();

        String message =
                assertThrows(VmClosedException.class, () -> vcpu.getLong(0)).getMessage();
        assertEquals("VM is closed: vm=late", message);
        assertThrows(VmClosedException.class, () -> vcpu.putLong(0, 1));
        assertThrows(VmClosedException.class, () -> vcpu.fetch(0));
        assertThrows(VmClosedException.class, () -> vcpu.touch(0, Access.READ));
        assertThrows(VmClosedException.class, () -> vcpu.compareAndSetLong(0, 1, 2));
        assertThrows(VmClosedException.class, () -> vcpu.read(0, new byte[1], 0, 1));
        assertThrows(VmClosedException.class, () -> vm.memory().getByte(0));
        assertThrows(VmClosedException.class, () -> vm.memory().putLong(0, 1));
        assertThrows(VmClosedException.class, vm::createVcpu);
        assertThrows(VmClosedException.class, () -> vm.addSlot(1, MIB_2, MIB_2, SMALL));
        assertThrows(VmClosedException.class, () -> vm.removeSlot(slot));
        assertThrows(VmClosedException.class, () -> vm.moveSlot(slot, MIB_2));
        assertThrows(VmClosedException.class, () -> vm.changeSlotFlags(slot));
        assertThrows(VmClosedException.class, () -> vm.addMmio(MIB_2, 8, new Registers()));
        assertThrows(VmClosedException.class, () -> vm.removeMmio(MIB_2));
        assertThrows(VmClosedException.class, () -> vm.translate(0));
        assertThrows(VmClosedException.class, vm::memorySlots);
        assertThrows(VmClosedException.class, vm::barrier);
        assertThrows(VmClosedException.class, vm::verify);
        assertThrows(VmClosedException.class, vm::stalledReader);
        assertThrows(VmClosedException.class, () -> vm.prewarmTables(1));
        assertTrue(vm.isClosed());
        assertNotNull(vm.config());
        assertEquals(1, vm.stats().accesses());
        vm.close();
        vcpu.close();
    }

    @Test
    void closedVcpuIsRefusedAndASecondCloseDoesNothing() {
        Vm vm = vms.vmWithMemory(VmConfig.builder().maxVcpus(1), MIB_2);
        Vcpu vcpu = vm.createVcpu();
        vcpu.putLong(0, 7);
        vcpu.close();
        vcpu.close();

        IllegalStateException thrown = assertThrows(IllegalStateException.class, () -> vcpu.getLong(0));
        assertTrue(thrown.getMessage().startsWith("vCPU is closed: vcpu="), thrown.getMessage());
        assertThrows(IllegalStateException.class, () -> vcpu.putLong(0, 1));
        assertThrows(IllegalStateException.class, () -> vcpu.fetch(0));
        try (Vcpu next = vm.createVcpu()) {
            assertEquals(7, next.getLong(0));
            vcpu.close();
            assertEquals(7, next.getLong(0), "the closed vCPU did not close its successor");
            assertEquals(3, vm.stats().accesses(), "those of closed vCPUs count on");
        }
    }

    /** The slot's next owner would stay in the guest for ever, and every flush would wait for it. */
    @Test
    void lateAccessOfAClosedVcpuLeavesTheNextOwnerOfItsSlotAlone() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        Vcpu closed = vm.createVcpu();
        ReaderSlot slot = closed.run().slot;
        closed.close();
        try (Vcpu next = vm.createVcpu()) {
            assertSame(slot, next.run().slot);

            assertThrows(IllegalStateException.class, () -> closed.getLong(0));
            assertThrows(IllegalStateException.class, () -> closed.putLong(0, 1));
            int mode = ReaderSlot.modeOf(slot.state());
            // Or a failure would keep the VM from closing.
            slot.leave(ReaderSlot.OUTSIDE);

            assertEquals(ReaderSlot.OUTSIDE, mode);
            next.putLong(0, 7);
            assertEquals(7, next.getLong(0));
        }
    }

    @Test
    void closedVmsGiveTheirWordsBackWhenNoneAreLeft() throws Exception {
        List<String> fewWords = List.of("--enable-native-access=ALL-UNNAMED", "-Dtdpmmu.memory.tables=" + (1 << 25));

        ForkedJava.Result result = ForkedJava.run(fewWords, ManyVmsProbe.class);

        assertEquals("", result.err());
        assertEquals("vms=600, handedOut=0", result.out());
    }

    @Test
    void oneVcpuTooManyIsRefused() {
        Vm vm = vms.vm(VmConfig.builder().maxVcpus(2));
        Vcpu first = vm.createVcpu();
        vm.createVcpu();

        IllegalStateException thrown = assertThrows(IllegalStateException.class, vm::createVcpu);

        assertEquals("too many vCPUs: count=2, max=2", thrown.getMessage());
        first.close();
        vm.createVcpu();
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void closeDuringAccessesOfOtherThreadsGivesEachOneOutcome(VmConfig.Builder config) {
        for (int round = 0; round < 8; round++) {
            Vm vm = vms.vmWithMemory(config, 4 * MIB_2);
            CountDownLatch started = new CountDownLatch(4);
            List<CompletableFuture<String>> ends = IntStream.range(0, 4)
                    .mapToObj(i -> CompletableFuture.supplyAsync(
                            () -> useUntilClosed(vm, i, started), Thread.ofPlatform()::start))
                    .toList();
            await(started);

            vm.close();

            for (CompletableFuture<String> end : ends) {
                assertEquals("closed", end.join());
            }
        }
    }

    private static String useUntilClosed(Vm vm, int number, CountDownLatch started) {
        Vcpu vcpu = vm.createVcpu();
        started.countDown();
        try {
            for (long i = 0; ; i++) {
                long gpa = (i * 37 + number) % 1024 * KIB_4 + 8L * number;
                if (number == 3) {
                    vm.memory().putLong(gpa, i);
                } else {
                    vcpu.putLong(gpa, i);
                }
            }
        } catch (VmClosedException closed) {
            vcpu.close();
            return "closed";
        }
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException("test was interrupted", interrupted);
        }
    }

    @Test
    void twoThreadsThatCloseBothReturnWhenAllIsReturned() {
        for (int round = 0; round < 20; round++) {
            Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
            vm.createVcpu().putLong(0, 1);
            CompletableFuture<Void> other = CompletableFuture.runAsync(vm::close);

            vm.close();
            assertEquals(0, vm.stats().memoryUsedInBytes());

            other.join();
        }
    }

    /** Pages that the root and the first fault of one vCPU take: the root, and a whole stock. */
    private static long tablesForFirstFault(VmConfig config) {
        return TablePool.bytesOf(config.pagingMode().levels());
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void capThatIsJustEnoughServesTheFirstFault(VmConfig.Builder config) {
        long cap = KIB_4 + tablesForFirstFault(config.build());
        Vm vm = vms.vmWithMemory(config.memoryCapInBytes(cap), KIB_4);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);

            assertEquals(1, vcpu.getLong(0));
            assertEquals(cap, vm.stats().memoryUsedInBytes());
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void capThatIsOnePageShortEndsTheFaultByNameAndTheVmGoesOnWhenASlotIsRemoved(VmConfig.Builder config) {
        long cap = 3 * KIB_4 + tablesForFirstFault(config.build()) - 1;
        Vm vm = vms.vm(config.memoryCapInBytes(cap));
        vm.addSlot(0, 0, KIB_4, SMALL);
        MemSlot spare = vm.addSlot(1, MIB_2, 2 * KIB_4, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int i = 0; i < 2; i++) {
                MemoryCapExceededException thrown =
                        assertThrows(MemoryCapExceededException.class, () -> vcpu.putLong(0, 1));
                assertEquals(cap, thrown.capInBytes());
                assertTrue(thrown.getMessage().contains("cap=" + cap), thrown.getMessage());
            }
            vm.verify();

            vm.removeSlot(spare);

            vcpu.putLong(0, 2);
            assertEquals(2, vcpu.getLong(0));
        }
    }

    @ParameterizedTest
    @MethodSource(MATRIX)
    void faultAtTheCapWaitsForTablesThatAreRetired(VmConfig.Builder config) {
        long cap = MIB_2 + tablesForFirstFault(config.build());
        Vm vm = vms.vm(config.memoryCapInBytes(cap).backgroundReclaim(false));
        MemSlot slot = vm.addSlot(0, 0, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 7);
            vm.moveSlot(slot, MIB_2);

            assertEquals(7, vcpu.getLong(MIB_2));
            assertEquals(cap, vm.stats().memoryUsedInBytes());
        }
    }

    @Test
    void slotThatDoesNotFitUnderTheCapChangesNothing() {
        Vm vm = vms.vm(VmConfig.builder().memoryCapInBytes(MIB_2 - 1));

        assertThrows(MemoryCapExceededException.class, () -> vm.addSlot(0, 0, MIB_2, SMALL));

        assertEquals(List.of(), vm.memorySlots());
        assertEquals(0, vm.stats().memoryUsedInBytes());
        vm.addSlot(0, 0, MIB_2 - KIB_4, SMALL);
    }

    /** A VM whose zaps need a grace period. */
    private Vm vmThatMayRetireOnePage() {
        Vm vm = vms.vm(VmConfig.builder()
                .maxRetiredPages(1)
                .stallTimeout(Duration.ofMillis(20))
                .backgroundReclaim(false));
        vm.addSlot(0, 0, MIB_2, SMALL);
        vm.addSlot(1, 2 * MIB_2, MIB_2, SMALL);
        return vm;
    }

    @Test
    void stalledReaderIsNamedAndARemovalOverTheBoundEndsTyped() {
        Vm vm = vmThatMayRetireOnePage();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            VcpuMmu sleeper = vm.mmu().createVcpu("sleepy reader");
            sleeper.slot().enter(ReaderSlot.WALKING);
            long used = vm.stats().memoryUsedInBytes();

            ReclaimStalledException thrown =
                    assertThrows(ReclaimStalledException.class, () -> vm.removeSlot(TestVms.slotAt(vm, 0)));

            assertTrue(thrown.getMessage().contains("reader=sleepy reader"), thrown.getMessage());
            StallReport report = awaitStall(vm);
            assertEquals("sleepy reader", report.readerName());
            assertEquals(ReaderSlot.WALKING, report.mode());
            assertTrue(report.retiredPages() >= 1, report.toString());
            assertEquals(used, vm.stats().memoryUsedInBytes(), "the reader may still look at the frames");
            sleeper.slot().leave(ReaderSlot.OUTSIDE);
            vm.mmu().closeVcpu(sleeper);
            vm.barrier();
            assertEquals(Optional.empty(), vm.stalledReader());
        }
    }

    private static StallReport awaitStall(Vm vm) {
        while (vm.stalledReader().isEmpty()) {
            Thread.onSpinWait();
        }
        return vm.stalledReader().orElseThrow();
    }

    /**
     * The removal ended early because a reader stalls; the frames must outlive the reader, also when the next slot
     * change needs no zap of its own.
     */
    @Test
    void framesOfAnUnfinishedRemovalAreKeptWhileAReaderMayUseThem() {
        Vm vm = vmThatMayRetireOnePage();
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.putLong(0, 1);
            VcpuMmu sleeper = vm.mmu().createVcpu("sleepy reader");
            sleeper.slot().enter(ReaderSlot.WALKING);
            long used;
            try {
                assertThrows(ReclaimStalledException.class, () -> vm.removeSlot(TestVms.slotAt(vm, 0)));
                used = vm.stats().memoryUsedInBytes();

                assertThrows(ReclaimStalledException.class, () -> vm.addSlot(2, 8 * MIB_2, KIB_4, SMALL));

                assertEquals(used + KIB_4, vm.stats().memoryUsedInBytes());
            } finally {
                sleeper.slot().leave(ReaderSlot.OUTSIDE);
            }
            vm.mmu().closeVcpu(sleeper);
            vm.addSlot(3, 16 * MIB_2, KIB_4, SMALL);
            assertEquals(used + 2 * KIB_4 - MIB_2, vm.stats().memoryUsedInBytes());
            vcpu.putLong(16 * MIB_2, 1);
        }
    }

    @Test
    void prewarmedTablesAreChargedAndUsed() {
        Vm vm = vms.vm(VmConfig.builder().memoryCapInBytes(TablePool.bytesOf(20)));

        assertEquals(10, vm.prewarmTables(10));
        assertEquals(TablePool.bytesOf(10), vm.stats().memoryUsedInBytes());
        assertEquals(20, vm.prewarmTables(30));
        assertEquals(TablePool.bytesOf(20), vm.stats().memoryUsedInBytes());
    }

    @Test
    void vcpuMayGoFromThreadToThread() throws Exception {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int i = 0; i < 10; i++) {
                long value = i;
                Thread thread = i % 2 == 0
                        ? Thread.ofPlatform().start(() -> vcpu.putLong(value * KIB_4, value))
                        : Thread.ofVirtual().start(() -> vcpu.putLong(value * KIB_4, value));
                thread.join();
            }

            for (int i = 0; i < 10; i++) {
                assertEquals(i, vcpu.getLong(i * KIB_4));
            }
        }
    }
}
