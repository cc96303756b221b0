package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.SlotException;
import dev.tdpmmu.testkit.EngineAtRest;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Every pair of operations ends, whatever waits for whom: locks, grace periods, flushes, notifications, full rings. */
class OperationPairsTest {
    private static final int ROUNDS = 3;

    /** Not a bound on time, but on patience: a pair takes milliseconds, or for ever. */
    private static final long PATIENCE_SECONDS = 20;

    private static final DirtyTracking[] TRACKINGS = {DirtyTracking.RING, DirtyTracking.GET_AND_CLEAR};

    private static final long PAGE = PageSize.SIZE_4K.bytes();
    private static final long BLOCK = PageSize.SIZE_2M.bytes();
    private static final long HOST = 64 * BLOCK;
    private static final int HOST_PAGES = 64;
    private static final long SIDE = 128 * BLOCK;

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    /** What can be done to a VM. */
    private enum Operation {
        STORE(world -> world.stores(0)),
        FETCH(World::fetch),
        DEVICE(world -> world.vm.memory().putLong(BLOCK - 4, 1)),
        SLOTS(World::addMoveAndRemove),
        FLAGS(World::changeFlags),
        LOG(World::log),
        RINGS(World::takeRings),
        AGE(world -> world.vm.ageing().clearYoungAndFlush(0, 2 * BLOCK)),
        DISCARD(world -> world.vm.discard(PAGE, 8 * PAGE)),
        ZAP(world -> world.vm.zap(0, 2 * BLOCK)),
        WRITE_PROTECT(world -> world.vm.mmu().ranges().writeProtect(0, 1024)),
        SPLIT(world -> world.vm.mmu().ranges().split(0, 1024, PagingLevel.L4K)),
        HOST_PAGES_CHANGE(World::changeHostPages),
        WATCH(World::watch),
        NX_SWITCH(world -> world.vm.nxHugePages().setOn(!world.vm.nxHugePages().isOn())),
        NX_RECOVERY(world -> world.vm.nxHugePages().recover()),
        VCPUS(World::openVcpu),
        VERIFY(world -> world.vm.verify()),
        BARRIER(world -> world.vm.barrier()),
        CLOSE(world -> world.vm.close());

        private final Body body;

        Operation(Body body) {
            this.body = body;
        }
    }

    private interface Body {
        void run(World world) throws Exception;
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void everyPairOfOperationsEnds(LockPolicy policy) throws Exception {
        int pairs = 0;
        for (Operation first : Operation.values()) {
            World world = new World(engine, policy, TRACKINGS[first.ordinal() % TRACKINGS.length]);
            try (world.host) {
                // The close comes last: nothing can follow it.
                for (Operation second : Operation.values()) {
                    if (second.ordinal() >= first.ordinal() && mayMeet(first, second)) {
                        runBoth(world, first, second, second == Operation.CLOSE ? 1 : ROUNDS);
                        pairs++;
                    }
                }
            }
        }
        assertEquals(Operation.values().length * (Operation.values().length + 1) / 2 - 2, pairs, "pairs");
    }

    /** Operations of the MMU itself must have ended before the VM is closed. */
    private static boolean mayMeet(Operation first, Operation second) {
        return second != Operation.CLOSE || first != Operation.WRITE_PROTECT && first != Operation.SPLIT;
    }

    private static void runBoth(World world, Operation first, Operation second, int rounds) throws Exception {
        CyclicBarrier start = new CyclicBarrier(2);
        List<FutureTask<Void>> tasks = new ArrayList<>();
        for (Operation operation : List.of(first, second)) {
            FutureTask<Void> task = new FutureTask<>(() -> {
                start.await();
                for (int i = 0; i < rounds; i++) {
                    world.run(operation);
                }
                return null;
            });
            tasks.add(task);
            Thread.ofPlatform().daemon().name(operation.name()).start(task);
        }
        for (Future<Void> task : tasks) {
            try {
                task.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
            } catch (TimeoutException stuck) {
                throw new AssertionError("operations do not end: first=" + first + ", second=" + second + stacks());
            } catch (ExecutionException failure) {
                throw new AssertionError(
                        "operation fails: first=" + first + ", second=" + second + ", cause=" + failure.getCause(),
                        failure.getCause());
            }
        }
    }

    private static String stacks() {
        var text = new StringBuilder();
        for (Map.Entry<Thread, StackTraceElement[]> entry :
                Thread.getAllStackTraces().entrySet()) {
            text.append("\n").append(entry.getKey());
            for (StackTraceElement frame : entry.getValue()) {
                text.append("\n    at ").append(frame);
            }
        }
        return text.toString();
    }

    /** A VM with something of everything. */
    private static final class World {
        final Vm vm;
        final HostPages host;
        private int nextId = 8;

        World(EngineAtRest engine, LockPolicy policy, DirtyTracking tracking) {
            vm = engine.vm(VmConfig.builder()
                    .lockPolicy(policy)
                    .dirtyTracking(tracking)
                    .dirtyRingEntries(1024)
                    .slotZap(tracking == DirtyTracking.RING ? SlotZap.RANGE : SlotZap.ALL_ROOTS)
                    .unmapLock(tracking == DirtyTracking.RING ? OperationLock.SHARED : OperationLock.EXCLUSIVE)
                    .nxHugePageMitigation(true)
                    .nxRecoveryRatio(1)
                    .hardware(HardwareConfig.DEFAULT.withTlb(
                            tracking == DirtyTracking.RING ? TlbMode.UNHELPFUL : TlbMode.TYPICAL))
                    .build());
            vm.addSlot(0, 0, 2 * BLOCK, Backing.anonymous(PageSize.SIZE_2M));
            host = HostPages.allocate(HOST_PAGES * PAGE);
            vm.addSlot(1, HOST, HOST_PAGES * PAGE, Backing.host(host, 0), SlotFlag.LOG_DIRTY);
        }

        void run(Operation operation) throws Exception {
            try {
                operation.body.run(this);
            } catch (VmClosedException | GuestAccessException | SlotException refused) {
                // The other one has closed the VM, protected the page, removed or changed the slot.
            } catch (IllegalStateException refused) {
                if (operation == Operation.CLOSE) {
                    // Something was leaked.
                    throw refused;
                }
                // The log has been switched by the other one.
            }
        }

        void stores(long gpa) {
            try (Vcpu vcpu = vm.createVcpu()) {
                vcpu.onDirtyRingFull(() -> {
                    vcpu.collectDirty((slotId, page) -> {}, Integer.MAX_VALUE);
                    vm.resetDirtyRings();
                });
                for (int page = 0; page < HOST_PAGES; page++) {
                    vcpu.putLong(gpa + page * PAGE, page);
                    vcpu.putLong(HOST + page * PAGE, page);
                }
            }
        }

        void fetch() {
            try (Vcpu vcpu = vm.createVcpu()) {
                for (int page = 0; page < HOST_PAGES; page++) {
                    vcpu.fetch(page * 16 * PAGE);
                }
            }
        }

        void openVcpu() {
            vm.createVcpu().close();
        }

        void addMoveAndRemove() {
            int id;
            synchronized (this) {
                id = nextId++;
            }
            long gpa = SIDE + id * BLOCK;
            MemSlot slot = vm.addSlot(id, gpa, 4 * PAGE, Backing.host(host, 0), SlotFlag.LOG_DIRTY);
            stores(gpa & -BLOCK);
            vm.removeSlot(vm.moveSlot(slot, gpa + PAGE));
        }

        private MemSlot first() {
            return vm.memorySlots().get(0);
        }

        void changeFlags() {
            vm.changeSlotFlags(first(), SlotFlag.SMALL_PAGES);
            vm.changeSlotFlags(first());
        }

        void log() {
            DirtyLog log = vm.startDirtyLog(first());
            stores(0);
            log.harvest();
            log.stop();
        }

        void takeRings() {
            vm.drainHardwareLogs();
            vm.resetDirtyRings();
            vm.dirtyLog(vm.memorySlots().get(1)).harvest();
        }

        void changeHostPages() {
            host.discard(0, 4);
            host.protect(4, 4);
            host.merge(8, 9);
            host.migrate(10);
            host.unprotect(4, 4);
            host.discardWithoutBlocking(12, 4);
        }

        void watch() {
            WriteWatch watch = vm.watchWrites(0, 4 * PAGE, (gpa, bytes, value) -> {});
            try {
                stores(0);
            } finally {
                watch.close();
            }
        }
    }
}
