package dev.tdpmmu.mmu;

import static dev.tdpmmu.mmu.MmuFixture.GIB_1;
import static dev.tdpmmu.mmu.MmuFixture.KIB_4;
import static dev.tdpmmu.mmu.MmuFixture.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TdpIteratorTest {
    private static final String FORMATS = "dev.tdpmmu.mmu.MmuFixture#formats";

    /** Leaves of all sizes with holes: 4 KiB at 0 and 5, 2 MiB at 4 MiB, 1 GiB at 1 GiB, 4 KiB at the start of 3 GiB. */
    private static MmuFixture mapped(VmConfig.Builder builder) {
        MmuFixture f = new MmuFixture(builder);
        f.add(0, 0, MIB_2, PageSize.SIZE_4K);
        f.add(1, 2 * MIB_2, MIB_2, PageSize.SIZE_2M);
        f.add(2, GIB_1, GIB_1, PageSize.SIZE_1G);
        f.add(3, 3 * GIB_1, MIB_2, PageSize.SIZE_4K);
        f.fault(0, Access.READ);
        f.fault(5 * KIB_4, Access.READ);
        f.fault(2 * MIB_2, Access.READ);
        f.fault(GIB_1, Access.READ);
        f.fault(3 * GIB_1, Access.READ);
        return f;
    }

    /** Entries in visiting order, as level:gfn. */
    private static List<String> visit(MmuFixture f, int minLevel, long startGfn, long endGfn, boolean presentOnly) {
        List<String> visited = new ArrayList<>();
        TdpIterator cursor = new TdpIterator(f.format);
        f.worker.enter(ReaderSlot.WALKING);
        for (cursor.start(f.vcpu.root(), minLevel, startGfn, endGfn); cursor.isValid(); cursor.next()) {
            if (!presentOnly || cursor.spte() != Spte.NON_PRESENT) {
                visited.add(cursor.level() + ":" + Long.toHexString(cursor.gfn()));
            }
        }
        f.worker.leave(ReaderSlot.OUTSIDE);
        return visited;
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void entriesComeInPreOrder(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            List<String> visited = visit(f, PagingLevel.L4K, 0, Gfn.of(4 * GIB_1), true);

            List<String> expected = new ArrayList<>();
            if (f.config.pagingMode().levels() == 5) {
                expected.add("5:0");
            }
            expected.addAll(
                    List.of("4:0", "3:0", "2:0", "1:0", "1:5", "2:400", "3:40000", "3:c0000", "2:c0000", "1:c0000"));
            assertEquals(expected, visited);
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void onlyEntriesThatMeetTheRangeAreVisited(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            List<String> visited = visit(f, PagingLevel.L4K, 3, 6, false);

            int above = f.config.pagingMode().levels() - 1;
            assertEquals(List.of("1:3", "1:4", "1:5"), visited.subList(above, visited.size()));
            assertEquals(above + 3, visited.size());
        }
    }

    @Test
    void rangeInsideAHugeLeafVisitsTheLeafOnce() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            List<String> visited = visit(f, PagingLevel.L4K, 0x40007, 0x40009, false);

            assertEquals(List.of("4:0", "3:40000"), visited);
        }
    }

    @Test
    void minimalLevelBoundsTheDescent() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            assertEquals(
                    List.of("4:0", "3:0", "2:0", "2:400", "3:40000", "3:c0000", "2:c0000"),
                    visit(f, PagingLevel.L2M, 0, Gfn.of(4 * GIB_1), true));
            assertEquals(
                    List.of("4:0", "3:0", "3:40000", "3:c0000"), visit(f, PagingLevel.L1G, 0, Gfn.of(4 * GIB_1), true));
            assertEquals(List.of("4:0"), visit(f, PagingLevel.L512G, 0, Gfn.of(4 * GIB_1), true));
        }
    }

    @Test
    void emptyRangeHasNoEntry() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            assertEquals(List.of(), visit(f, PagingLevel.L4K, 5, 5, false));
            assertEquals(List.of(), visit(f, PagingLevel.L4K, 6, 5, false));
        }
    }

    @ParameterizedTest
    @MethodSource(FORMATS)
    void lastFrameOfTheTablesIsTheLastEntry(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long end = PagingLevel.pages(f.config.pagingMode().levels() + 1);

            List<String> visited = visit(f, PagingLevel.L4K, end - 1, end, false);

            int level = f.config.pagingMode().levels();
            assertEquals(List.of(level + ":" + Long.toHexString(end - PagingLevel.pages(level))), visited);
        }
    }

    @Test
    void rereadSeesTheValueThatWon() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            TdpIterator cursor = new TdpIterator(f.format);
            f.locked(LockMode.SHARED, () -> {
                cursor.start(f.vcpu.root(), PagingLevel.L4K, 0, 1);
                while (cursor.level() > PagingLevel.L4K) {
                    cursor.next();
                }
                long seen = cursor.spte();
                long written = f.format.clearWritable(seen);
                f.mmu.updater().trySet(f.worker, cursor.spteAddress(), 0, PagingLevel.L4K, seen, written);

                assertEquals(seen, cursor.spte());
                assertEquals(written, cursor.reread());
                assertEquals(written, cursor.spte());
            });
        }
    }

    @Test
    void cursorDescendsIntoATableThatItsUserHasJustLinked() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            List<String> visited = new ArrayList<>();
            TdpIterator cursor = new TdpIterator(f.format);
            f.worker.enter(ReaderSlot.WALKING);
            for (cursor.start(f.vcpu.root(), PagingLevel.L4K, 0x200, 0x202); cursor.isValid(); cursor.next()) {
                visited.add(cursor.level() + ":" + Long.toHexString(cursor.gfn()));
                if (cursor.level() == PagingLevel.L2M && cursor.spte() == Spte.NON_PRESENT) {
                    f.worker.leave(ReaderSlot.OUTSIDE);
                    f.add(9, MIB_2, MIB_2, PageSize.SIZE_4K);
                    f.fault(MIB_2, Access.READ);
                    f.worker.enter(ReaderSlot.WALKING);
                }
            }
            f.worker.leave(ReaderSlot.OUTSIDE);

            assertEquals(List.of("4:0", "3:0", "2:200", "1:200", "1:201"), visited);
        }
    }

    /** Keeps an exclusive waiter at the lock, so that every shared holder is asked to yield at every step. */
    private static void underContention(MmuFixture f, Runnable work) {
        AtomicBoolean stop = new AtomicBoolean();
        ReaderSlot slot = f.readers.take("contender");
        Thread contender = Thread.ofPlatform().start(() -> {
            while (!stop.get()) {
                f.mmu.lock().lock(slot, LockMode.EXCLUSIVE);
                f.mmu.lock().unlock(slot, LockMode.EXCLUSIVE);
            }
        });
        try {
            work.run();
        } finally {
            stop.set(true);
            join(contender);
            f.readers.give(slot);
        }
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException("test was interrupted", interrupted);
        }
    }

    private static void await(BooleanSupplier condition) {
        while (!condition.getAsBoolean()) {
            Thread.onSpinWait();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tdpmmu.mmu.MmuFixture#policies")
    void yieldAtEveryStepSkipsNothingVisitsLeavesOnceAndMakesProgress(VmConfig.Builder builder) {
        try (MmuFixture f = mapped(builder)) {
            long end = 24;
            List<String> quiet = visit(f, PagingLevel.L4K, 0, end, false);
            List<String> visited = new ArrayList<>();
            int[] yields = new int[1];

            underContention(
                    f,
                    () -> f.locked(LockMode.SHARED, () -> {
                        TdpIterator cursor = new TdpIterator(f.format);
                        boolean yieldedBefore = false;
                        for (cursor.start(f.vcpu.root(), PagingLevel.L4K, 0, end); cursor.isValid(); cursor.next()) {
                            await(() -> f.mmu.lock().isContended(LockMode.SHARED));
                            long standsOn = cursor.gfn();
                            boolean yielded = cursor.yieldIfNeeded(f.mmu.lock(), f.worker, LockMode.SHARED);
                            assertFalse(yielded && yieldedBefore, "second yield without progress: gfn=" + standsOn);
                            yieldedBefore = yielded;
                            if (yielded) {
                                yields[0]++;
                            } else if (cursor.level() == PagingLevel.L4K) {
                                visited.add(cursor.level() + ":" + Long.toHexString(cursor.gfn()));
                                yieldedBefore = false;
                            }
                        }
                    }));

            assertEquals(quiet.stream().filter(entry -> entry.startsWith("1:")).toList(), visited);
            assertEquals(end - 1, yields[0], "one yield before each entry but the first");
        }
    }

    @Test
    void noYieldBeforeTheFirstEntryIsPassed() {
        try (MmuFixture f = mapped(VmConfig.builder())) {
            underContention(
                    f,
                    () -> f.locked(LockMode.SHARED, () -> {
                        TdpIterator cursor = new TdpIterator(f.format);
                        cursor.start(f.vcpu.root(), PagingLevel.L4K, 3, 6);
                        await(() -> f.mmu.lock().isContended(LockMode.SHARED));

                        for (int level = PagingLevel.L512G; level >= PagingLevel.L4K; level--) {
                            assertEquals(level, cursor.level());
                            assertFalse(
                                    cursor.yieldIfNeeded(f.mmu.lock(), f.worker, LockMode.SHARED), "level " + level);
                            cursor.next();
                        }
                        assertEquals(4, cursor.gfn());
                        assertTrue(cursor.yieldIfNeeded(f.mmu.lock(), f.worker, LockMode.SHARED));
                        cursor.next();
                        assertEquals(PagingLevel.L512G, cursor.level(), "walks again from the root");
                    }));
        }
    }
}
