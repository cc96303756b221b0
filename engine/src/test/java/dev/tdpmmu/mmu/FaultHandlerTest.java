package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.Counter;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class FaultHandlerTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    @ParameterizedTest
    @MethodSource(FORMATS)
    void faultMapsAtTheSizeOfTheBacking(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot small = f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            MemSlot middle = f.add(1, GIB_1, GIB_1, PageSize.SIZE_2M);
            MemSlot large = f.add(2, 2 * GIB_1, GIB_1, PageSize.SIZE_1G);

            assertEquals(FaultResult.FIXED, f.fault(5 * KIB_4, Access.WRITE));
            assertEquals(FaultResult.FIXED, f.fault(GIB_1 + 3 * MIB_2 + 7, Access.READ));
            assertEquals(FaultResult.FIXED, f.fault(3 * GIB_1 - 1, Access.EXECUTE));

            assertMapped(f, small, 5 * KIB_4, PagingLevel.L4K);
            assertMapped(f, middle, GIB_1 + 3 * MIB_2, PagingLevel.L2M);
            assertMapped(f, large, 2 * GIB_1, PagingLevel.L1G);
            int levels = f.config.pagingMode().levels();
            assertEquals("4k=1 2m=1 1g=1 tables=" + (levels + 1) + " mmio=0", f.census());
            assertEquals(0, f.tlb.calls.size(), "nothing was cached before: " + f.tlb.calls);
        }
    }

    private static void assertMapped(MmuFixture f, MemSlot slot, long gpa, int level) {
        long spte = f.read(gpa);
        assertEquals(level, f.levelOf(gpa));
        assertEquals(slot.hpa(Gfn.alignDown(Gfn.of(gpa), level)), f.format.address(spte));
        assertTrue(f.format.allows(spte, Access.ALL));
    }

    @Test
    void headAndTailOfASlotAreMappedSmaller() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, MIB_2 - KIB_4, MIB_2 + 2 * KIB_4, PageSize.SIZE_1G);

            f.fault(MIB_2 - KIB_4, Access.READ);
            f.fault(MIB_2, Access.READ);
            f.fault(2 * MIB_2, Access.READ);

            assertEquals(PagingLevel.L4K, f.levelOf(MIB_2 - KIB_4));
            assertEquals(PagingLevel.L2M, f.levelOf(MIB_2));
            assertEquals(PagingLevel.L4K, f.levelOf(2 * MIB_2));
        }
    }

    @Test
    void configurationBoundsTheSizeOfLeaves() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().hugePages(PageSize.SIZE_2M))) {
            f.add(0, 0, GIB_1, PageSize.SIZE_1G);

            f.fault(0, Access.READ);

            assertEquals(PagingLevel.L2M, f.levelOf(0));
        }
    }

    @Test
    void secondFaultOnAMappedPageIsSpurious() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);

            FaultResult result = f.fault(0, Access.WRITE);

            assertEquals(FaultResult.SPURIOUS, result);
            assertEquals(1, f.counted(Counter.PF_SPURIOUS));
            assertEquals(1, f.counted(Counter.PF_FIXED));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void faultWithoutSlotInstallsAnMmioEntryAndIsEmulated(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            FaultResult result = f.fault(0xfee0_0010L, Access.WRITE);

            assertEquals(FaultResult.EMULATE, result);
            assertTrue(f.format.isMmio(f.read(0xfee0_0000L)));
            assertEquals(0xfee00, f.format.mmioGfn(f.read(0xfee0_0000L)));
            assertEquals(1, f.counted(Counter.MMIO_SPTE_CREATED));
            assertEquals(1, f.counted(Counter.PF_EMULATE));
            assertEquals(FaultResult.EMULATE, f.mmu.faults().handleMisconfiguration(f.vcpu, 0xfee0_0010L, Access.READ));
            f.vcpu.slot.leave(ReaderSlot.OUTSIDE);
        }
    }

    @Test
    void staleMmioEntryGivesWayToASlotAddedLater() {
        try (MmuFixture f = new MmuFixture()) {
            f.fault(MIB_2, Access.READ);
            f.add(0, MIB_2, MIB_2, PageSize.SIZE_4K);

            FaultResult result = f.mmu.faults().handleMisconfiguration(f.vcpu, MIB_2, Access.READ);

            f.vcpu.slot.leave(ReaderSlot.OUTSIDE);
            assertEquals(FaultResult.FIXED, result);
            assertTrue(f.format.isLeaf(f.read(MIB_2), PagingLevel.L4K));
        }
    }

    @Test
    void withoutMmioCachingNothingIsInstalled() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().mmioCaching(false))) {
            FaultResult result = f.fault(MIB_2, Access.READ);

            assertEquals(FaultResult.EMULATE, result);
            assertEquals("4k=0 2m=0 1g=0 tables=1 mmio=0", f.census());
        }
    }

    @Test
    void storeToAReadOnlySlotIsEmulatedAndLoadIsMappedWithoutWrite() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K, SlotFlag.READ_ONLY);

            assertEquals(FaultResult.EMULATE, f.fault(0, Access.WRITE));
            assertEquals(FaultResult.FIXED, f.fault(0, Access.READ));
            assertEquals(FaultResult.EMULATE, f.fault(0, Access.WRITE));

            assertFalse(f.format.isWritable(f.read(0)));
            assertFalse(f.format.isMmuWritable(f.read(0)));
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tdpmmu.mmu.MmuFixture#policies")
    void faultRetriesWhenAnEntryOnItsWayIsFrozen(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            f.add(0, 0, 2 * MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            for (int level = PagingLevel.L4K; level <= PagingLevel.L512G; level++) {
                long address = f.addressOf(0, level);
                long spte = SpteAccess.readAcquire(address);
                SpteAccess.setRelease(address, Spte.FROZEN);
                long retries = f.counted(Counter.PF_RETRY);

                FaultResult result = f.faultInLoadedRoot(0, Access.READ);

                assertEquals(FaultResult.RETRY, result, "frozen level " + level);
                assertEquals(Spte.FROZEN, SpteAccess.readAcquire(address), "frozen level " + level);
                assertEquals(retries + 1, f.counted(Counter.PF_RETRY));
                SpteAccess.setRelease(address, spte);
            }
        }
    }

    @Test
    void mmioFaultRetriesWhenAnEntryOnItsWayIsFrozen() {
        try (MmuFixture f = new MmuFixture()) {
            f.fault(0, Access.READ);
            for (int level = PagingLevel.L4K; level <= PagingLevel.L512G; level++) {
                long address = f.addressOf(0, level);
                long spte = SpteAccess.readAcquire(address);
                SpteAccess.setRelease(address, Spte.FROZEN);

                FaultResult result = f.faultInLoadedRoot(0, Access.READ);

                assertEquals(FaultResult.RETRY, result, "frozen level " + level);
                assertEquals(Spte.FROZEN, SpteAccess.readAcquire(address), "frozen level " + level);
                SpteAccess.setRelease(address, spte);
            }
        }
    }

    @Test
    void faultRetriesWhileItsRangeIsInvalidated() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.invalidations().begin(1, 3));

            assertEquals(FaultResult.RETRY, f.fault(1 * KIB_4, Access.READ));
            assertEquals(FaultResult.RETRY, f.fault(2 * KIB_4, Access.READ));
            assertEquals(FaultResult.FIXED, f.fault(3 * KIB_4, Access.READ));

            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.invalidations().end(1, 3));
            assertEquals(FaultResult.FIXED, f.fault(1 * KIB_4, Access.READ));
        }
    }

    /**
     * The fault has looked up its frame and waits for the lock; whoever holds it invalidates meanwhile.
     */
    private static FaultResult faultThatMeets(MmuFixture f, long gpa, Runnable underTheLock) {
        f.mmu.loadRoot(f.vcpu);
        CompletableFuture<FaultResult> result;
        f.mmu.lock().lock(f.worker, LockMode.EXCLUSIVE);
        try {
            long waits = f.counted(Counter.LOCK_WAITS);
            result = CompletableFuture.supplyAsync(() -> f.faultInLoadedRoot(gpa, Access.READ));
            while (f.counted(Counter.LOCK_WAITS) == waits) {
                Thread.onSpinWait();
            }
            underTheLock.run();
        } finally {
            f.mmu.lock().unlock(f.worker, LockMode.EXCLUSIVE);
        }
        return result.join();
    }

    @ParameterizedTest
    @EnumSource(
            value = LockPolicy.class,
            names = {"STAMPED", "PARALLEL"})
    void faultRetriesWhenAnInvalidationEndedAfterItsLookUp(LockPolicy policy) {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().lockPolicy(policy))) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);

            FaultResult result = faultThatMeets(f, 0, () -> {
                f.mmu.invalidations().begin(0, 1);
                f.mmu.invalidations().end(0, 1);
            });

            assertEquals(FaultResult.RETRY, result);
            assertEquals(Spte.NON_PRESENT, f.read(0));
        }
    }

    @ParameterizedTest
    @EnumSource(
            value = LockPolicy.class,
            names = {"STAMPED", "PARALLEL"})
    void mmioFaultRetriesWhenAnInvalidationEndedAfterItsLookUp(LockPolicy policy) {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().lockPolicy(policy))) {
            FaultResult result = faultThatMeets(f, 0, () -> {
                f.mmu.invalidations().begin(0, 1);
                f.mmu.invalidations().end(0, 1);
            });

            assertEquals(FaultResult.RETRY, result);
            assertEquals(Spte.NON_PRESENT, f.read(0));
        }
    }

    @ParameterizedTest
    @EnumSource(
            value = LockPolicy.class,
            names = {"STAMPED", "PARALLEL"})
    void faultRetriesWhenItsRootBecameInvalidAfterItsLookUp(LockPolicy policy) {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().lockPolicy(policy))) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);

            FaultResult result = faultThatMeets(f, 0, () -> f.mmu.roots().invalidateAll());

            assertEquals(FaultResult.RETRY, result);
            assertEquals(Spte.NON_PRESENT, f.read(0));
        }
    }

    @Test
    void faultWithoutMemoryForTablesChangesNothing() {
        long cap = TablePool.bytesOf(3);
        try (MmuFixture f = new MmuFixture(VmConfig.builder().memoryCapInBytes(cap))) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);

            FaultResult result = f.fault(0, Access.READ);

            assertEquals(FaultResult.OUT_OF_MEMORY, result);
            assertEquals("4k=0 2m=0 1g=0 tables=1 mmio=0", f.census());
        }
    }

    @Test
    void mmioFaultWithoutMemoryForTablesIsEmulatedAllTheSame() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().memoryCapInBytes(TablePool.bytesOf(3)))) {
            FaultResult result = f.fault(0, Access.READ);

            assertEquals(FaultResult.EMULATE, result);
            assertEquals("4k=0 2m=0 1g=0 tables=1 mmio=0", f.census());
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void smallerGoalSplitsHugeLeafAndKeepsFramesPermissionsAndUse(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder)) {
            MemSlot large = f.add(0, GIB_1, GIB_1, PageSize.SIZE_1G);
            f.fault(GIB_1, Access.WRITE);
            long address = f.addressOf(GIB_1, PagingLevel.L1G);
            long used = f.format.accessedBit() | f.format.dirtyBit();
            SpteAccess.setRelease(address, SpteAccess.readAcquire(address) | used);
            long gpa = GIB_1 + 9 * MIB_2 + 5 * KIB_4;
            MemSlot small =
                    f.slots.changeFlags(large, Set.of(SlotFlag.SMALL_PAGES)).newSlot();

            FaultResult result = f.fault(gpa, Access.READ);

            assertEquals(FaultResult.SPURIOUS, result, "the pieces allow what the whole did");
            assertEquals("4k=512 2m=511 1g=0 tables=" + (f.config.pagingMode().levels()) + " mmio=0", f.census());
            assertEquals(2, f.counted(Counter.SPLITS));
            assertEquals(0, f.tlb.calls.size(), "pieces translate as the whole did: " + f.tlb.calls);
            for (int i = 0; i < PagingLevel.ENTRIES; i++) {
                long piece = GIB_1 + i * MIB_2;
                int level = f.levelOf(piece);
                assertEquals(i == 9 ? PagingLevel.L4K : PagingLevel.L2M, level);
                assertPiece(f, small, piece, used);
                assertPiece(f, small, GIB_1 + 9 * MIB_2 + i * KIB_4, used);
            }
        }
    }

    private static void assertPiece(MmuFixture f, MemSlot slot, long gpa, long used) {
        long spte = f.read(gpa);
        assertEquals(slot.hpa(Gfn.of(gpa)), f.format.address(spte));
        assertEquals(used, spte & (f.format.accessedBit() | f.format.dirtyBit()));
        assertTrue(f.format.allows(spte, Access.ALL));
    }

    @Test
    void hugeLeafReplacesATableAndRetiresExactlyItsPage() {
        try (MmuFixture f = new MmuFixture()) {
            MemSlot small = f.add(0, 0, 2 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            for (int i = 0; i < 5; i++) {
                f.fault(MIB_2 + i * KIB_4, Access.WRITE);
            }
            long table = f.tableOf(MIB_2, PagingLevel.L4K);
            MemSlot large = f.slots.changeFlags(small, Set.of()).newSlot();
            f.tlb.duringFlush = () -> assertEquals(0, f.rcu.retiredPages(), "retired before the flush");

            FaultResult result = f.fault(MIB_2 + 6 * KIB_4, Access.READ);

            f.tlb.duringFlush = () -> {};
            assertEquals(FaultResult.FIXED, result);
            assertMapped(f, large, MIB_2, PagingLevel.L2M);
            assertEquals(List.of("0x200-0x400"), f.tlb.calls);
            assertEquals(1, f.rcu.retiredPages());
            assertEquals(1, f.counted(Counter.PROMOTIONS));
            assertEquals("4k=0 2m=1 1g=0 tables=3 mmio=0", f.census());
            for (int i = 0; i < PagingLevel.ENTRIES; i++) {
                assertEquals(Spte.FROZEN, SpteAccess.readAcquire(table + 8L * i), "entry of the detached table " + i);
            }
        }
    }

    @Test
    void hugeLeafReplacesATreeOfTablesAndRetiresEveryPageOnce() {
        try (MmuFixture f = new MmuFixture()) {
            MemSlot small = f.add(0, 0, GIB_1, PageSize.SIZE_1G, SlotFlag.SMALL_PAGES);
            for (int i = 0; i < 7; i++) {
                f.fault(i * MIB_2, Access.WRITE);
                f.fault(i * MIB_2 + KIB_4, Access.WRITE);
            }
            MemSlot large = f.slots.changeFlags(small, Set.of()).newSlot();

            FaultResult result = f.fault(9 * MIB_2, Access.READ);

            assertEquals(FaultResult.FIXED, result);
            assertMapped(f, large, 0, PagingLevel.L1G);
            assertEquals(8, f.rcu.retiredPages(), "seven tables of 4 KiB leaves and the one above them");
            assertEquals("4k=0 2m=0 1g=1 tables=2 mmio=0", f.census());
            assertEquals(List.of("0x0-0x40000"), f.tlb.calls);
        }
    }

    @Test
    void goalIsLoweredWhileSoMuchIsRetiredThatNoMoreMayBe() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().maxRetiredPages(1))) {
            MemSlot small = f.add(0, 0, 2 * MIB_2, PageSize.SIZE_2M, SlotFlag.SMALL_PAGES);
            f.fault(0, Access.READ);
            f.fault(MIB_2, Access.READ);
            MemSlot large = f.slots.changeFlags(small, Set.of()).newSlot();
            f.worker.enter(ReaderSlot.WALKING);
            assertEquals(FaultResult.FIXED, f.fault(KIB_4, Access.READ));
            assertTrue(f.rcu.isOverBound());

            FaultResult result = f.fault(MIB_2 + KIB_4, Access.READ);

            f.worker.leave(ReaderSlot.OUTSIDE);
            assertEquals(FaultResult.FIXED, result);
            assertEquals(1, f.rcu.retiredPages());
            assertMapped(f, large, MIB_2 + KIB_4, PagingLevel.L4K);
            f.rcu.barrier();
            assertEquals(FaultResult.FIXED, f.fault(MIB_2 + 2 * KIB_4, Access.READ));
            assertMapped(f, large, MIB_2, PagingLevel.L2M);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void morePermissionsKeepAccessedAndDirty(VmConfig.Builder builder) {
        try (MmuFixture f = new MmuFixture(builder.fastFix(false))) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.WRITE);
            long used = f.format.accessedBit() | f.format.dirtyBit();
            long address = f.addressOf(0, PagingLevel.L4K);
            SpteAccess.setRelease(address, f.format.clearWritable(SpteAccess.readAcquire(address)) | used);

            FaultResult result = f.fault(0, Access.WRITE);

            assertEquals(FaultResult.FIXED, result);
            assertTrue(f.format.isWritable(f.read(0)));
            assertEquals(used, f.read(0) & used);
            assertEquals(0, f.counted(Counter.PF_FAST));
        }
    }

    /**
     * A slot moves by less than its length: a fault that finds the new slot before the old root is invalid meets a leaf
     * of the old place.
     *
     * <pre>
     *  slot change                        | fault
     *  publishes the moved slot           |
     *                                     | finds the new frame of the gfn, meets the leaf with the old frame
     *  invalidates the root, zaps         |   -- must go away; overwriting the leaf would be a corrupt transition
     * </pre>
     */
    @Test
    void faultRetriesWhenALeafStillHasTheFrameOfTheOldPlace() {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().fastFix(false))) {
            Backing frames = Backing.anonymous(PageSize.SIZE_4K);
            MemSlot slot = f.slots.add(0, 0, 2 * MIB_2, frames, Set.of()).newSlot();
            f.fault(MIB_2, Access.WRITE);
            f.mmu.ranges().writeProtect(0, Gfn.of(2 * MIB_2));
            long before = f.read(MIB_2);
            f.slots.move(slot, MIB_2);

            FaultResult result = f.fault(MIB_2, Access.WRITE);

            assertEquals(FaultResult.RETRY, result);
            assertEquals(before, f.read(MIB_2));
            f.mmu.zapAllFast(0, Gfn.of(2 * MIB_2));
            assertEquals(FaultResult.FIXED, f.fault(MIB_2, Access.WRITE));
        }
    }

    @Test
    void everyFaultHasExactlyOneOutcome() {
        try (MmuFixture f = new MmuFixture()) {
            f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            f.fault(0, Access.READ);
            f.fault(GIB_1, Access.READ);
            f.mmu.ranges().writeProtect(0, 1);
            f.fault(0, Access.WRITE);
            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.invalidations().begin(0, 1));
            f.fault(0, Access.EXECUTE);
            f.locked(LockMode.EXCLUSIVE, () -> f.mmu.invalidations().end(0, 1));

            assertEquals(1, f.counted(Counter.PF_FIXED));
            assertEquals(1, f.counted(Counter.PF_SPURIOUS));
            assertEquals(1, f.counted(Counter.PF_EMULATE));
            assertEquals(1, f.counted(Counter.PF_FAST));
            assertEquals(1, f.counted(Counter.PF_RETRY));
            assertEquals(4, f.counted(Counter.PF_TAKEN), "all but the fast one");
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void faultThatThrowsUnderTheLockReleasesIt(LockPolicy policy) {
        try (MmuFixture f = new MmuFixture(VmConfig.builder().lockPolicy(policy))) {
            MemSlot slot = f.add(0, 0, MIB_2, PageSize.SIZE_4K);
            f.fault(0, Access.READ);
            long impossible = f.config.guestAddressLimit();

            // The slot refuses a frame that is not its own; an MMIO entry cannot name a gfn that does not exist.
            assertThrows(RuntimeException.class, () -> f.mmu.faults().map(f.vcpu, slot, slot.endGfn(), Access.READ));
            int modeAfterMap = ReaderSlot.modeOf(f.vcpu.slot.state());
            assertThrows(RuntimeException.class, () -> f.mmu.faults().handle(f.vcpu, impossible, Access.READ, false));
            int modeAfterMmio = ReaderSlot.modeOf(f.vcpu.slot.state());

            assertEquals(ReaderSlot.HANDLING, modeAfterMap);
            assertEquals(ReaderSlot.HANDLING, modeAfterMmio);
            f.vcpu.slot.leave(ReaderSlot.OUTSIDE);
            f.locked(
                    LockMode.EXCLUSIVE,
                    () -> assertEquals(0, f.mmu.invalidations().inProgress()));
        }
    }
}
