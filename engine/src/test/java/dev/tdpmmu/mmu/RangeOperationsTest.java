package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Zaps and unmaps of ranges: what goes, what stays, what is flushed, and who waits. */
class RangeOperationsTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";
    private static final int BLOCKS = 4;

    /** Two 4 KiB leaves, the first and the last, in each of four blocks of 2 MiB. */
    private static MmuFixture small(VmConfig.Builder builder) {
        MmuFixture f = new MmuFixture(builder);
        f.add(0, 0, GIB_1, PageSize.SIZE_4K);
        for (long block = 0; block < BLOCKS; block++) {
            f.fault(block * MIB_2, Access.WRITE);
            f.fault((block + 1) * MIB_2 - KIB_4, Access.WRITE);
        }
        f.tlb.calls.clear();
        return f;
    }

    private static long unmap(MmuFixture f, long startGpa, long endGpa, OperationLock how) {
        return f.mmu.ranges().unmap(Gfn.of(startGpa), Gfn.of(endGpa), how, true);
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void zapTakesTheLeavesOfTheRangeAloneAndKeepsTheTables(VmConfig.Builder builder) {
        try (MmuFixture f = small(builder)) {
            String tables = f.census().replaceAll("4k=[0-9]+", "");

            assertEquals(2, unmap(f, KIB_4, 2 * MIB_2 - KIB_4, OperationLock.EXCLUSIVE));
            assertEquals(1, unmap(f, 2 * MIB_2 - KIB_4, 2 * MIB_2, OperationLock.SHARED));
            assertEquals(1, unmap(f, 2 * MIB_2, 3 * MIB_2 - KIB_4, OperationLock.EXCLUSIVE));

            assertEquals("4k=4" + tables, f.census());
            assertTrue(f.format.isLeaf(f.read(0), PagingLevel.L4K));
            assertEquals(Spte.NON_PRESENT, f.read(MIB_2 - KIB_4));
            assertEquals(Spte.NON_PRESENT, f.read(2 * MIB_2 - KIB_4));
            assertTrue(f.format.isLeaf(f.read(3 * MIB_2 - KIB_4), PagingLevel.L4K));
            assertEquals(0, f.mmu.invalidations().inProgress());
        }
    }

    /** B5: the flush of a leaf covers the leaf, not the part of it that was asked for. */
    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void hugeLeafThatReachesBeyondTheRangeIsFlushedWhole(OperationLock how) {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, GIB_1, 2 * GIB_1, PageSize.SIZE_1G);
            f.fault(GIB_1, Access.WRITE);
            f.fault(2 * GIB_1, Access.WRITE);

            long zapped = unmap(f, GIB_1 + MIB_2, GIB_1 + 2 * MIB_2, how);

            assertEquals(1, zapped);
            assertTrue(f.tlb.calls.contains("0x40000-0x80000"), "flushes: " + f.tlb.calls);
            assertEquals(Spte.NON_PRESENT, f.read(GIB_1));
            assertTrue(f.format.isLeaf(f.read(2 * GIB_1), PagingLevel.L1G));
        }
    }

    /** R-17, B4, R-06: leaves of a root that is invalid and not zapped yet go as well, and that root's flush is not lost. */
    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void unmapReachesInvalidRootsAndFlushesForThem(OperationLock how) {
        try (MmuFixture f = small(VmConfig.builder())) {
            long inOldRoot = f.addressOf(0, PagingLevel.L4K);
            f.locked(LockMode.EXCLUSIVE, f.mmu.roots()::invalidateAll);
            f.fault(GIB_1 / 2, Access.WRITE);
            assertEquals(2, f.mmu.roots().roots().size());
            f.tlb.calls.clear();

            long zapped = unmap(f, 0, MIB_2, how);

            assertEquals(2, zapped);
            assertEquals(Spte.NON_PRESENT, SpteAccess.readAcquire(inOldRoot));
            assertTrue(f.tlb.calls.contains("0x0-0x40000"), "flushes: " + f.tlb.calls);
        }
    }

    /** whoever comes in at a yield finds no leaf cleared whose flush is pending. */
    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void pendingFlushIsDoneBeforeTheZapYields(OperationLock how) {
        try (MmuFixture f = small(VmConfig.builder())) {
            assertFlushesBeforeItYields(f, () -> unmap(f, 0, BLOCKS * MIB_2, how));

            assertEquals(0, f.counted(Counter.PAGES_4K));
        }
    }

    /** A watch that lets others in leaves no page behind that a TLB still lets them store to. */
    @Test
    void pendingFlushIsDoneBeforeTheWatchYields() {
        try (MmuFixture f = small(VmConfig.builder())) {
            long end = Gfn.of(BLOCKS * MIB_2);

            assertFlushesBeforeItYields(f, () -> {
                f.mmu.ranges().watch(0, end);
                f.mmu.ranges().unwatch(0, end);
            });
        }
    }

    private static void assertFlushesBeforeItYields(MmuFixture f, Runnable operation) {
        AtomicLong flushed = new AtomicLong();
        AtomicBoolean working = new AtomicBoolean();
        AtomicBoolean lost = new AtomicBoolean();
        beside(
                f,
                () -> {
                    if (working.get() && taken(f) != flushed.get()) {
                        lost.set(true);
                    }
                },
                () -> {
                    // Again if nobody waited at the right moment.
                    while (f.counted(Counter.YIELDS) == 0) {
                        for (long block = 0; block < BLOCKS; block++) {
                            f.fault(block * MIB_2, Access.WRITE);
                        }
                        flushed.set(0);
                        f.tlb.duringFlush = () -> flushed.set(taken(f));
                        working.set(true);
                        operation.run();
                        working.set(false);
                    }
                });
        f.tlb.duringFlush = () -> {};
        assertEquals(false, lost.get(), "leaf was changed and its flush was pending");
    }

    /** How many first leaves of the blocks are gone or lost W. */
    private static long taken(MmuFixture f) {
        long count = 0;
        for (long block = 0; block < BLOCKS; block++) {
            count += f.format.isWritable(f.read(block * MIB_2)) ? 0 : 1;
        }
        return count;
    }

    /** What can be flushed as one is: a flush makes every vCPU answer. */
    @Test
    void sharedUnmapFlushesOnceForARange() {
        try (MmuFixture f = small(VmConfig.builder())) {
            assertEquals(2 * BLOCKS, unmap(f, 0, BLOCKS * MIB_2, OperationLock.SHARED));

            assertEquals(List.of("0x0-0x40000"), f.tlb.calls);
        }
    }

    /** Does something while another thread holds the lock alone as often as it gets it. */
    private static void beside(MmuFixture f, Runnable alone, Runnable work) {
        AtomicBoolean stop = new AtomicBoolean();
        ReaderSlot slot = f.readers.take("contender");
        Thread contender = Thread.ofPlatform().start(() -> {
            while (!stop.get()) {
                f.mmu.lock().lock(slot, LockMode.EXCLUSIVE);
                alone.run();
                f.mmu.lock().unlock(slot, LockMode.EXCLUSIVE);
            }
        });
        // The first flush of an exclusive zap comes with the first yield, so that a waiter must be there at its start.
        while (!f.mmu.lock().isContended(LockMode.SHARED)) {
            Thread.onSpinWait();
        }
        try {
            work.run();
        } finally {
            stop.set(true);
            while (contender.isAlive()) {
                Thread.onSpinWait();
            }
            f.readers.give(slot);
        }
    }

    @Test
    void unmapThatMayNotBlockDoesNotYield() {
        try (MmuFixture f = small(VmConfig.builder())) {
            long before = f.counted(Counter.YIELDS);

            beside(f, () -> {}, () -> {
                for (OperationLock how : OperationLock.values()) {
                    f.mmu.ranges().unmap(0, Gfn.of(BLOCKS * MIB_2), how, false);
                }
            });

            assertEquals(before, f.counted(Counter.YIELDS));
            assertEquals(0, f.counted(Counter.PAGES_4K));
        }
    }

    /** a failed step leaves neither an invalidation nor a FROZEN entry behind, which faults would meet for ever. */
    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void failedFlushLeavesNothingThatFaultsWouldWaitFor(OperationLock how) {
        try (MmuFixture f = small(VmConfig.builder())) {
            f.tlb.duringFlush = () -> {
                throw new IllegalStateException("flush fails");
            };

            assertThrows(IllegalStateException.class, () -> unmap(f, 0, MIB_2, how));

            f.tlb.duringFlush = () -> {};
            assertEquals(0, f.mmu.invalidations().inProgress());
            assertEquals(FaultResult.FIXED, f.fault(0, Access.WRITE));
            assertEquals(FaultResult.FIXED, f.fault(MIB_2 - KIB_4, Access.WRITE));
        }
    }

    /** a fault on a range in progress goes back without the lock, which the debug check would refuse it here. */
    @Test
    void faultOnARangeInProgressDoesNotTakeTheLock() {
        try (MmuFixture f = small(VmConfig.builder())) {
            f.locked(LockMode.EXCLUSIVE, () -> {
                f.mmu.invalidations().begin(1, 2);

                assertEquals(FaultResult.RETRY, f.faultInLoadedRoot(KIB_4, Access.WRITE));

                f.mmu.invalidations().end(1, 2);
            });
        }
    }

    /** the tables that a leaf zap keeps do not stand in the way of leaves of another size. */
    @Test
    void tablesThatAZapKeptAreReplacedByHugeLeaves() {
        try (MmuFixture f = new MmuFixture()) {
            var slot = f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.WRITE);
            var change = f.slots.remove(slot);
            unmap(f, 0, MIB_2, OperationLock.EXCLUSIVE);
            f.rcu.synchronize();
            change.complete();
            f.add(1, 0, MIB_2, PageSize.SIZE_2M);

            assertEquals(FaultResult.FIXED, f.fault(KIB_4, Access.WRITE));

            assertEquals(PagingLevel.L2M, f.levelOf(KIB_4));
            assertEquals(1, f.mmu.verify().pages2m());
            assertTrue(f.tlb.calls.contains("0x0-0x200"), "flushes: " + f.tlb.calls);
        }
    }

    /** vCPUs load roots, and leave them, beside a shared holder; the zap of invalid roots flushes nothing. */
    @Test
    void rootsComeAndGoBesideSharedHoldersAndInvalidOnesAreZappedWithoutFlush() {
        try (MmuFixture f = small(VmConfig.builder())) {
            f.mmu.unloadRoot(f.vcpu);
            // Not on one thread: the debug check knows that a second lock of the same thread could wait for itself.
            AtomicBoolean loaded = new AtomicBoolean();
            f.locked(LockMode.SHARED, () -> {
                Thread loader = Thread.ofPlatform().start(() -> loaded.set(f.mmu.loadRoot(f.vcpu)));
                while (loader.isAlive() && !f.mmu.lock().isContended(LockMode.SHARED)) {
                    Thread.onSpinWait();
                }
                assertEquals(false, f.mmu.lock().isContended(LockMode.SHARED), "a root is loaded alone");
            });
            assertTrue(loaded.get());
            f.tlb.calls.clear();

            f.mmu.zapAllFast(0, Gfn.of(GIB_1));

            assertEquals(List.of("roots"), f.tlb.calls);
            assertEquals(0, f.counted(Counter.PAGES_4K));
        }
    }
}
