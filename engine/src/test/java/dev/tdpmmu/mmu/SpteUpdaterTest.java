package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.RetiredBatch;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Tests {@link SpteUpdater} and {@link SubtreeRemover}. */
class SpteUpdaterTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    /** Sixteen 4 KiB leaves behind each of three 2 MiB entries. */
    private static MmuFixture mapped(VmConfig.Builder builder) {
        MmuFixture f = new MmuFixture(builder);
        f.add(0, 0, GIB_1, PageSize.SIZE_4K);
        for (int i = 0; i < 3; i++) {
            for (int j = 0; j < 16; j++) {
                f.fault(i * MIB_2 + j * KIB_4, Access.WRITE);
            }
        }
        return f;
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void trySetInstallsOnlyOverTheExpectedValue(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            long readOnly = f.format.clearWritable(leaf);

            f.locked(LockMode.SHARED, () -> {
                SpteUpdater updater = f.mmu.updater();
                assertFalse(updater.trySet(f.worker, address, 0, PagingLevel.L4K, 0, readOnly));
                assertEquals(leaf, SpteAccess.readAcquire(address));
                assertTrue(updater.trySet(f.worker, address, 0, PagingLevel.L4K, leaf, readOnly));
                assertEquals(readOnly, SpteAccess.readAcquire(address));
                assertTrue(updater.trySet(f.worker, address, 0, PagingLevel.L4K, readOnly, 0));
            });

            assertEquals(47, f.mmu.verify().pages4k());
        }
    }

    @Test
    void setNeedsTheExclusiveLock() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long leaf = f.read(0);

            f.locked(
                    LockMode.SHARED,
                    () -> assertThrows(
                            IllegalStateException.class,
                            () -> f.mmu.updater()
                                    .set(f.worker, address, 0, PagingLevel.L4K, leaf, 0, new RetiredBatch())));

            assertEquals(leaf, f.read(0));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void setReturnsWhatHardwareAddedSinceTheCallerLooked(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long address = f.addressOf(0, PagingLevel.L4K);
            long seen = f.read(0);
            long now = seen | f.format.accessedBit() | f.format.dirtyBit();
            SpteAccess.setRelease(address, now);

            f.locked(LockMode.EXCLUSIVE, () -> {
                long replaced = f.mmu.updater().set(f.worker, address, 0, PagingLevel.L4K, seen, 0, new RetiredBatch());
                assertEquals(now, replaced);
            });

            assertEquals(Spte.NON_PRESENT, f.read(0));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void setTakesTheTreeBelowApart(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            RetiredBatch batch = new RetiredBatch();
            long address = f.addressOf(0, PagingLevel.L1G);
            long table = SpteAccess.readAcquire(address);
            long lower = f.tableOf(0, PagingLevel.L4K);

            f.locked(
                    LockMode.EXCLUSIVE,
                    () -> f.mmu.updater().set(f.worker, address, 0, PagingLevel.L1G, table, Spte.NON_PRESENT, batch));

            assertEquals(4, batch.pages());
            assertEquals(TableHeaders.RETIRED, TableHeaders.state(lower));
            for (int i = 0; i < 16; i++) {
                assertEquals(Spte.FROZEN, SpteAccess.readAcquire(lower + 8L * i), "present entry " + i);
            }
            assertEquals(0, f.mmu.verify().pages4k());
            f.rcu.retire(batch);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void tryCutOffFreezesWhatIsPresentBelowAndDoesNotFlush(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            RetiredBatch batch = new RetiredBatch();
            long address = f.addressOf(0, PagingLevel.L1G);
            long table = SpteAccess.readAcquire(address);
            long middle = f.format.address(table);
            long lower = f.tableOf(MIB_2, PagingLevel.L4K);

            f.locked(LockMode.SHARED, () -> {
                assertFalse(f.mmu.updater().tryCutOff(f.worker, address, 0, PagingLevel.L1G, table ^ 1L << 12, batch));
                assertEquals(0, batch.pages());
                assertTrue(f.mmu.updater().tryCutOff(f.worker, address, 0, PagingLevel.L1G, table, batch));
            });

            assertEquals(4, batch.pages());
            assertEquals(0, f.tlb.calls.size());
            // Only invalid roots are cut off so, and no fault fills what is empty there: it stays as it is.
            assertFrozenAreOnlyTheFirst(3, middle);
            assertFrozenAreOnlyTheFirst(16, lower);
            f.rcu.retire(batch);
        }
    }

    private static void assertFrozenAreOnlyTheFirst(int count, long table) {
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long expected = i < count ? Spte.FROZEN : Spte.NON_PRESENT;
            assertEquals(expected, SpteAccess.readAcquire(table + 8L * i), "entry " + i + " of " + count);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void tryZapKeepsTheEntryFrozenUntilTheFlushIsDone(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long address = f.addressOf(3 * KIB_4, PagingLevel.L4K);
            long leaf = SpteAccess.readAcquire(address);
            f.tlb.duringFlush = () -> assertEquals(Spte.FROZEN, SpteAccess.readAcquire(address));

            f.locked(LockMode.SHARED, () -> {
                assertFalse(f.mmu.updater().tryZap(f.worker, address, 3, PagingLevel.L4K, leaf ^ 1L << 12));
                assertEquals(leaf, SpteAccess.readAcquire(address));
                assertTrue(f.mmu.updater().tryZap(f.worker, address, 3, PagingLevel.L4K, leaf));
            });

            f.tlb.duringFlush = () -> {};
            assertEquals(List.of("0x3-0x4"), f.tlb.calls);
            assertEquals(Spte.NON_PRESENT, SpteAccess.readAcquire(address));
            assertEquals(47, f.mmu.verify().pages4k());
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void tryZapOfATableFlushesItsRangeBeforeItRetiresItsPages(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long address = f.addressOf(MIB_2, PagingLevel.L2M);
            long table = SpteAccess.readAcquire(address);
            f.tlb.duringFlush = () -> assertEquals(0, f.rcu.retiredPages(), "retired before the flush");

            f.locked(
                    LockMode.SHARED,
                    () -> assertTrue(f.mmu.updater().tryZap(f.worker, address, 0x200, PagingLevel.L2M, table)));

            f.tlb.duringFlush = () -> {};
            assertEquals(List.of("0x200-0x400"), f.tlb.calls);
            assertEquals(1, f.rcu.retiredPages());
            assertEquals(32, f.mmu.verify().pages4k());
        }
    }

    @Test
    void tryReplaceTableChangesNothingWhenTheTableIsNotThere() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            long address = f.addressOf(0, PagingLevel.L2M);
            long table = SpteAccess.readAcquire(address);
            long leaf = f.format.makeLeaf(f.format.address(f.read(0)), PagingLevel.L2M, Access.ALL, true, false);

            f.locked(
                    LockMode.SHARED,
                    () -> assertFalse(f.mmu.updater()
                            .tryReplaceTable(f.worker, address, 0, PagingLevel.L2M, table ^ 1L << 12, leaf)));

            assertEquals(table, SpteAccess.readAcquire(address));
            assertEquals(0, f.tlb.calls.size());
            assertEquals(48, f.mmu.verify().pages4k());
        }
    }

    /** Who removes a tree meets an entry that another thread has frozen: it waits for that thread's thaw. */
    @ParameterizedTest
    @EnumSource(
            value = LockPolicy.class,
            names = {"STAMPED", "PARALLEL"})
    void removerWaitsForTheThawOfAForeignFrozenEntry(LockPolicy policy) throws Exception {
        try (MmuFixture f = mapped(VmConfig.builder().lockPolicy(policy))) {
            long inner = f.addressOf(0, PagingLevel.L4K);
            long leaf = f.read(0);
            long outer = f.addressOf(0, PagingLevel.L2M);
            long table = SpteAccess.readAcquire(outer);
            CountDownLatch frozen = new CountDownLatch(1);
            f.tlb.duringFlush = () -> {
                if (frozen.getCount() == 0) {
                    return;
                }
                frozen.countDown();
                // The thaw comes when the remover has cut the table off, and so has begun with our entry.
                while (SpteAccess.readAcquire(outer) != Spte.FROZEN) {
                    Thread.onSpinWait();
                }
            };
            Thread zapper = Thread.ofPlatform().start(() -> {
                var slot = f.readers.take("zapper");
                f.mmu.lock().lock(slot, LockMode.SHARED);
                f.mmu.updater().tryZap(slot, inner, 0, PagingLevel.L4K, leaf);
                f.mmu.lock().unlock(slot, LockMode.SHARED);
                f.readers.give(slot);
            });
            frozen.await();

            f.locked(
                    LockMode.SHARED,
                    () -> assertTrue(f.mmu.updater().tryZap(f.worker, outer, 0, PagingLevel.L2M, table)));

            zapper.join();
            f.tlb.duringFlush = () -> {};
            assertEquals(32, f.mmu.verify().pages4k());
            assertEquals(Spte.NON_PRESENT, SpteAccess.readAcquire(outer));
        }
    }
}
