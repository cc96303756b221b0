package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.mmu.TdpIterator;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.time.Duration;
import java.util.function.Consumer;
import java.util.function.ToIntFunction;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * No operation touches more table entries between two looks for waiters, nor lets a waiter wait for more, than {@link
 * TdpIterator#YIELD_BOUND} and its way from the root.
 */
final class YieldBoundTest {
    private static final long GIB = 1L << 30;
    private static final long BLOCK = PageSize.SIZE_2M.bytes();
    private static final long BASE = 3 * GIB;
    private static final long TIB = 1L << 40;

    /**
     * Entries beyond the bound: one of each level of five on the way from the root after a yield, once more on the
     * way up, and the one where the operation stops.
     */
    private static final int WALK = 2 * PagingLevel.L256T + 1;

    private static final int BOUND = TdpIterator.YIELD_BOUND + WALK;

    /** An epoch lasts for so many steps at most, each of which may be a table of leaves. */
    private static final int EPOCH_BOUND = BOUND * 512;

    /** So that a waiter comes at each phase of an operation; a prime. */
    private static final int GAP = 1021;

    private Vm vm;

    /** An operation on 1 GiB of guest memory. */
    private enum Operation {
        WRITE_PROTECT(world -> assertTrue(world.ranges().writeProtect(world.start(), world.end()))),
        CLEAR_DIRTY(world -> assertEquals(world.pages(), world.ranges().clearDirty(world.start(), world.end()))),
        UNMAP_SHARED(world -> assertEquals(
                world.pages(), world.ranges().unmap(world.start(), world.end(), OperationLock.SHARED, true))),
        UNMAP_EXCLUSIVE(world -> assertEquals(
                world.pages(), world.ranges().unmap(world.start(), world.end(), OperationLock.EXCLUSIVE, true))),
        RECOVER(world -> assertEquals(513, world.ranges().recover(world.slot))),
        WATCH(world ->
                world.vm.watchWrites(BASE, GIB, (gpa, bytes, value) -> {}).close()),
        ARM_SHARED(world -> world.arm(OperationLock.SHARED)),
        ARM_EXCLUSIVE(world -> world.arm(OperationLock.EXCLUSIVE)),
        ZAP_ROOTS(world -> world.vm.mmu().zapAllFast(world.start(), world.end()));

        private final Consumer<World> action;

        Operation(Consumer<World> action) {
            this.action = action;
        }
    }

    /** 1 GiB, dirty, young and writable everywhere, mapped by one leaf at first. */
    private record World(Vm vm, MemSlot slot, Vcpu vcpu) {
        RangeOperations ranges() {
            return vm.mmu().ranges();
        }

        long start() {
            return slot.baseGfn();
        }

        long end() {
            return slot.endGfn();
        }

        long pages() {
            return slot.pages();
        }

        void touch() {
            vcpu.touch(BASE, Access.WRITE);
            assertEquals(1, vm.stats().pages1g());
        }

        void split() {
            touch();
            assertEquals(513, ranges().split(start(), end(), PagingLevel.L4K));
            assertEquals(pages(), vm.stats().pages4k());
        }

        private void arm(OperationLock how) {
            DirtyPages all = new DirtyPages(pages());
            for (long page = 0; page < pages(); page++) {
                all.add(page);
            }
            ranges().arm(slot, all, how);
        }
    }

    private World world(VmConfig.Builder config) {
        vm = new Vm(config.backgroundReclaim(false).build());
        MemSlot slot = vm.addSlot(0, BASE, GIB, Backing.synthetic(PageSize.SIZE_1G));
        return new World(vm, slot, vm.createVcpu());
    }

    private World splitWorld(LockPolicy policy) {
        World world = world(VmConfig.builder().lockPolicy(policy));
        world.split();
        return world;
    }

    @AfterEach
    void closes() {
        vm.verify();
        vm.close();
        assertEquals(0, vm.stats().memoryUsedInBytes());
    }

    private void assertBounded(Runnable prepare, Runnable action) {
        prepare.run();
        try (Onlooker onlooker = Onlooker.alone(vm)) {
            action.run();
            assertWithin(BOUND, onlooker, Onlooker::worst, "entries between two looks for waiters");
        }
        prepare.run();
        try (Onlooker onlooker = Onlooker.waiting(vm, GAP)) {
            action.run();
            assertWithin(BOUND, onlooker, Onlooker::worstWait, "entries that a waiter waits for");
            assertTrue(onlooker.turns() > 0, "nobody was let in");
        }
    }

    private static void assertWithin(int bound, Onlooker onlooker, ToIntFunction<Onlooker> measure, String what) {
        int entries = measure.applyAsInt(onlooker);
        assertTrue(entries <= bound, what + ": entries=" + entries + ", bound=" + bound);
    }

    /** the longest step does not grow with what is mapped below an entry of 1 GiB. */
    @ParameterizedTest
    @EnumSource(Operation.class)
    void operationLooksForWaitersBetweenTables(Operation operation) {
        for (LockPolicy policy : LockPolicy.values()) {
            World world = splitWorld(policy);
            try (Onlooker onlooker = Onlooker.alone(vm)) {
                operation.action.accept(world);
                assertWithin(BOUND, onlooker, Onlooker::worst, "entries between two looks for waiters");
            }
            closes();
        }
        World world = splitWorld(LockPolicy.PARALLEL);
        try (Onlooker onlooker = Onlooker.waiting(vm, GAP)) {
            operation.action.accept(world);
            assertWithin(BOUND, onlooker, Onlooker::worstWait, "entries that a waiter waits for");
            assertTrue(onlooker.turns() > 0, "nobody was let in");
        }
    }

    @Test
    void splitLooksForWaitersBetweenLeaves() {
        World world = world(VmConfig.builder());
        assertBounded(
                () -> {
                    vm.mmu().zapAllFast(world.start(), world.end());
                    world.touch();
                },
                () -> assertEquals(513, world.ranges().split(world.start(), world.end(), PagingLevel.L4K)));
    }

    /** tables that nothing is left in are no reason to look at all their entries in one step. */
    @Test
    void recoveryOfAGibibyteDoesNotSearchEmptyTables() {
        World world = world(VmConfig.builder());
        assertBounded(
                () -> {
                    vm.mmu().zapAllFast(world.start(), world.end());
                    world.split();
                    world.ranges().unmap(world.start(), world.end() - 1, OperationLock.EXCLUSIVE, true);
                },
                () -> assertTrue(world.ranges().recover(world.slot) > 0));
    }

    /** a table that was split off 1 GiB is given up with what hangs below it, but not in one step. */
    @Test
    void nxRecoveryOfAGibibyteTakesItsTablesOneByOne() {
        World world = world(
                VmConfig.builder().nxHugePageMitigation(true).nxRecoveryRatio(1).nxRecoveryPeriod(Duration.ofHours(1)));
        assertBounded(
                () -> {
                    vm.mmu().zapAllFast(world.start(), world.end());
                    world.touch();
                    for (long gpa = BASE; gpa < BASE + GIB; gpa += BLOCK) {
                        world.vcpu.touch(gpa, Access.EXECUTE);
                    }
                    assertEquals(513, vm.nxHugePages().splits());
                },
                () -> {
                    while (vm.nxHugePages().splits() > 0) {
                        vm.nxHugePages().recover();
                    }
                });
        world.touch();
    }

    @ParameterizedTest
    @EnumSource(
            value = DirtyTracking.class,
            names = {"GET_AND_CLEAR", "INITIALLY_SET"})
    void dirtyLogLooksForWaitersBetweenWords(DirtyTracking tracking) {
        World world = world(VmConfig.builder().dirtyTracking(tracking));
        world.split();
        DirtyLog log;
        try (Onlooker onlooker = Onlooker.waiting(vm, GAP)) {
            log = vm.startDirtyLog(world.slot);
            assertTrue(onlooker.worstWait() <= BOUND, "start: entries=" + onlooker.worstWait());
        }
        for (long page = 0; page < 1024; page++) {
            world.vcpu.touch(BASE + 5 * BLOCK + Gfn.toGpa(page), Access.WRITE);
        }
        for (int round = 0; round < 2; round++) {
            try (Onlooker onlooker = round == 0 ? Onlooker.alone(vm) : Onlooker.waiting(vm, GAP)) {
                long armed =
                        tracking == DirtyTracking.GET_AND_CLEAR ? log.harvest().count() : log.clear(0, 64 * 1024);
                assertTrue(round == 1 || armed >= 1024, "armed: " + armed);
                assertTrue(onlooker.worst() <= BOUND, "entries between two looks: " + onlooker.worst());
                assertTrue(onlooker.worstWait() <= BOUND, "entries that a waiter waits for: " + onlooker.worstWait());
            }
        }
        try (Onlooker onlooker = Onlooker.waiting(vm, GAP)) {
            log.stop();
            assertWithin(BOUND, onlooker, Onlooker::worstWait, "stop");
        }
    }

    /** 1 TiB with a table of level 1 in each GiB, and no leaf left. */
    private World hollowWorld() {
        vm = new Vm(VmConfig.builder().backgroundReclaim(false).build());
        MemSlot slot = vm.addSlot(0, 0, TIB, Backing.synthetic(PageSize.SIZE_4K));
        World world = new World(vm, slot, vm.createVcpu());
        for (long gpa = 0; gpa < TIB; gpa += GIB) {
            world.vcpu.touch(gpa, Access.READ);
        }
        assertEquals(1024, world.ranges().unmap(0, Gfn.of(TIB), OperationLock.EXCLUSIVE, true));
        return world;
    }

    /** a walk that changes nothing lets others in all the same. */
    @Test
    void walkOverATebibyteWithoutLeavesYields() {
        World world = hollowWorld();
        RangeOperations ranges = world.ranges();
        long end = world.end();
        assertYields(() -> ranges.writeProtect(0, end));
        assertYields(() -> ranges.clearDirty(0, end));
        assertYields(() -> ranges.unmap(0, end, OperationLock.SHARED, true));
        assertYields(() -> ranges.unmap(0, end, OperationLock.EXCLUSIVE, true));
        assertYields(() -> ranges.split(0, end, PagingLevel.L4K));
        assertYields(() -> vm.mmu().zapAllFast(0, end));
    }

    private void assertYields(Runnable walk) {
        try (Onlooker onlooker = Onlooker.waiting(vm, GAP)) {
            walk.run();
            assertTrue(onlooker.turns() > 200, "turns of others: " + onlooker.turns());
            assertWithin(BOUND, onlooker, Onlooker::worstWait, "entries that a waiter waits for");
        }
    }

    /** two entries are enough for a turn of others, if both are empty and 512 GiB each. */
    @Test
    void walkOverATebibyteThatWasNeverMappedYields() {
        vm = new Vm(VmConfig.builder().backgroundReclaim(false).build());
        vm.addSlot(0, 0, TIB, Backing.synthetic(PageSize.SIZE_4K));
        vm.createVcpu().touch(2 * TIB, Access.READ);
        try (Onlooker onlooker = Onlooker.waiting(vm, 0)) {
            vm.mmu().ranges().writeProtect(0, Gfn.of(TIB));
            assertTrue(onlooker.turns() > 0, "nobody was let in");
        }
    }

    private long reclaimedDuring(Runnable walk) {
        // Something that is retired already, in the epoch in which the walk begins.
        Vcpu other = vm.createVcpu();
        MemSlot slot = vm.addSlot(9, 2 * TIB, GIB, Backing.synthetic(PageSize.SIZE_1G), SlotFlag.LOG_DIRTY);
        other.touch(2 * TIB, Access.WRITE);
        vm.changeSlotFlags(slot);
        other.close();
        assertTrue(vm.mmu().rcu().pendingPages() > 0);
        long before = vm.mmu().rcu().reclaimedPages();
        int[] entries = new int[1];
        try (Onlooker onlooker = Onlooker.ofEpochs(vm, () -> {
            if (entries[0]++ % 256 == 0) {
                vm.mmu().rcu().reclaim();
            }
        })) {
            walk.run();
            assertWithin(EPOCH_BOUND, onlooker, Onlooker::worst, "entries of one epoch");
        }
        long reclaimed = vm.mmu().rcu().reclaimedPages() - before;
        vm.barrier();
        vm.removeSlot(vm.memorySlots().getLast());
        return reclaimed;
    }

    /** Also where nobody waits for the lock, and where no lock is held, a long walk lets grace periods end. */
    @Test
    void longWalkRenewsItsEpoch() {
        World world = hollowWorld();
        RangeOperations ranges = world.ranges();
        long end = world.end();
        assertTrue(reclaimedDuring(() -> ranges.writeProtect(0, end)) > 0, "write protection keeps its epoch");
        for (OperationLock how : OperationLock.values()) {
            assertTrue(reclaimedDuring(() -> ranges.unmap(0, end, how, true)) > 0, "unmap keeps its epoch: " + how);
        }
        assertTrue(reclaimedDuring(() -> ranges.age(0, end)) > 0, "ageing keeps its epoch");
        assertTrue(reclaimedDuring(() -> ranges.testAge(0, end)) > 0, "test of ages keeps its epoch");
    }
}
