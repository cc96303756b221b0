package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.sync.ReclaimStalledException;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Tests {@link RootRegistry}, {@link TdpRoot} and {@link RootZapper}. */
class RootsTest {
    private static final String POLICIES = "dev.tdpmmu.mmu.MmuFixture#policies";

    @ParameterizedTest
    @MethodSource(POLICIES)
    void vcpusShareTheValidRootAndItStaysWhenTheLastLeaves(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            VcpuMmu other = f.mmu.createVcpu("other");
            assertTrue(f.mmu.loadRoot(f.vcpu));
            assertTrue(f.mmu.loadRoot(other));
            TdpRoot root = f.vcpu.root();

            assertSame(root, other.root());
            assertEquals(3, root.references());
            f.mmu.unloadRoot(f.vcpu);
            f.mmu.closeVcpu(other);

            assertEquals(1, root.references());
            assertTrue(f.mmu.loadRoot(f.vcpu));
            assertSame(root, f.vcpu.root());
            assertEquals(1, f.counted(Counter.TABLES));
        }
    }

    @Test
    void vcpuThatReloadsNeverGetsTheInvalidRootThatAnotherStillHolds() {
        try (MmuFixture f = new MmuFixture()) {
            VcpuMmu other = f.mmu.createVcpu("other");
            f.mmu.loadRoot(f.vcpu);
            f.mmu.loadRoot(other);
            TdpRoot old = other.root();
            f.mmu.zapAllFast(0, 1);

            f.mmu.unloadRoot(f.vcpu);
            f.mmu.loadRoot(f.vcpu);

            assertNotSame(old, f.vcpu.root());
            assertFalse(f.vcpu.root().isInvalid());
            assertEquals(List.of(old, f.vcpu.root()), f.mmu.roots().roots());
            f.mmu.closeVcpu(other);
            assertEquals(List.of(f.vcpu.root()), f.mmu.roots().roots());
        }
    }

    @Test
    void lastReferenceOfAValidRootIsNeverPut() {
        try (MmuFixture f = new MmuFixture()) {
            f.mmu.loadRoot(f.vcpu);
            TdpRoot root = new TdpRoot(f.vcpu.root().hpa(), 4);
            root.dropReference();

            MmuCorruptionException thrown = assertThrows(MmuCorruptionException.class, root::dropReference);

            assertTrue(thrown.getMessage().startsWith("last reference of a valid root put: hpa=0x"));
        }
    }

    @Test
    void referenceIsNotTakenOnceTheLastIsGone() {
        TdpRoot root = new TdpRoot(0x1000, 4);
        root.invalidate();
        assertFalse(root.dropReference());
        assertTrue(root.dropReference());

        assertFalse(root.tryGet());
        assertThrows(MmuCorruptionException.class, root::dropReference);
    }

    @Test
    void invalidRootIsNotLoadedAndIsFreedExactlyOnceWhenItsLastUserLeaves() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            TdpRoot old = f.vcpu.root();

            f.mmu.zapAllFast(0, 1);

            assertTrue(old.isInvalid());
            assertEquals(List.of("roots"), f.tlb.calls);
            assertEquals(1, old.references());
            assertEquals(TableHeaders.LINKED, TableHeaders.state(old.hpa()), "its vCPU still holds it");
            assertEquals("4k=0 2m=0 1g=0 tables=1 mmio=0", f.census());
            assertEquals(FaultResult.FIXED, f.fault(0, Access.READ));
            assertNotSame(old, f.vcpu.root());
            assertEquals(List.of(f.vcpu.root()), f.mmu.roots().roots());
            assertEquals("4k=1 2m=0 1g=0 tables=4 mmio=0", f.census());
            f.rcu.barrier();
            assertEquals(TableHeaders.FREE, TableHeaders.state(old.hpa()));
        }
    }

    @ParameterizedTest
    @MethodSource(POLICIES)
    void zapTakesEveryLeafSizeAndEveryTablePageApart(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.add(1, GIB_1, GIB_1, PageSize.SIZE_2M);
            f.add(2, 2 * GIB_1, GIB_1, PageSize.SIZE_1G);
            f.fault(0, Access.READ);
            f.fault(GIB_1, Access.READ);
            f.fault(2 * GIB_1, Access.READ);
            f.fault(3 * GIB_1, Access.READ);
            f.mmu.unloadRoot(f.vcpu);

            f.mmu.zapAllForTeardown();

            assertEquals(List.of(), f.mmu.roots().roots());
            assertEquals(0, f.counted(Counter.TABLES));
            assertEquals(7, f.rcu.retiredPages(), "root, one of level 3, three of level 2, two of level 1");
            f.rcu.barrier();
            assertEquals(f.vcpu.tables.size(), f.pool.pagesInUse(), "only the vCPU's stock is out");
        }
    }

    @Test
    void whoTakesAScheduledZapHasItAlone() {
        try (MmuFixture f = new MmuFixture()) {
            f.mmu.loadRoot(f.vcpu);
            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.roots().invalidateAll());
            TdpRoot root = f.mmu.roots().takeScheduled();

            assertSame(f.vcpu.root(), root);
            assertEquals(null, f.mmu.roots().takeScheduled());

            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.roots().invalidateAll());
            assertEquals(null, f.mmu.roots().takeScheduled(), "an invalid root is not scheduled again");
            f.mmu.roots().scheduleAgain(root);
            f.mmu.unloadRoot(f.vcpu);
        }
    }

    @Test
    void stalledReaderEndsTheZapWithItsNameAndTheNextZapGoesOn() {
        VmConfig.Builder builder = VmConfig.builder().maxRetiredPages(1).stallTimeout(Duration.ofMillis(20));
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            ReaderSlot stalled = f.readers.take("sleepy device");
            stalled.enter(ReaderSlot.WALKING);

            ReclaimStalledException thrown = assertThrows(ReclaimStalledException.class, () -> f.mmu.zapAllFast(0, 1));

            assertTrue(thrown.getMessage().contains("max=1"), thrown.getMessage());
            assertTrue(thrown.getMessage().contains("reader=sleepy device"), thrown.getMessage());
            assertTrue(f.vcpu.root().isInvalid());
            stalled.leave(ReaderSlot.OUTSIDE);
            f.readers.give(stalled);
            f.mmu.unloadRoot(f.vcpu);
            f.mmu.zapAllFast(0, 1);
            assertEquals(List.of(), f.mmu.roots().roots());
            assertEquals(0, f.counted(Counter.TABLES));
        }
    }

    @Test
    void invalidationIsOverWhenTheZapReturns() {
        try (MmuFixture f = new MmuFixture()) {
            f.mmu.loadRoot(f.vcpu);
            InvalidationTracker tracker = f.mmu.invalidations();
            f.tlb.duringFlush = () -> assertTrue(tracker.isInProgress(tracker.snapshot(), 7));
            long before = tracker.snapshot();

            f.mmu.zapAllFast(5, 9);

            f.tlb.duringFlush = () -> {};
            assertEquals(0, tracker.inProgress());
            assertTrue(tracker.isStale(before, 5));
        }
    }

    @Test
    void rootThatDoesNotFitUnderTheCapIsNotLoaded() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().memoryCapInBytes(TablePool.bytesOf(1) - 1))) {
            assertFalse(f.mmu.loadRoot(f.vcpu));

            assertFalse(f.vcpu.hasRoot());
            assertEquals(0, f.account.usedInBytes() / KIB_4);
        }
    }
}
