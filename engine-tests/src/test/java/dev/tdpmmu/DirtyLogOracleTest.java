package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * Compares what the dirty log says with what vCPUs and a device store meanwhile, after the kernel's dirty_log_test in
 * its modes dirty-log, clear-log and dirty-ring, but exactly, page by page and store by store.
 *
 * <p>Each writer counts the versions of its own word of a page up, and notes every store before and after it is made.
 * The host keeps a mirror, into which it copies nothing but the pages that are handed out. Then, for each round:
 *
 * <ul>
 *   <li>nothing is lost: where a page is not handed out, the mirror has every store that had ended when the round
 *       began. Pages with several writers are exempt until all of them have stopped: one of them may store through an
 *       entry that another has made writable and will mark only then;
 *   <li>nothing is invented: where a page is handed out, somebody began a store to it after the begin of the round
 *       before. Pages that nobody stores to are never handed out.
 * </ul>
 *
 * <p>At the end the mirror and the memory are equal.
 */
class DirtyLogOracleTest {
    private static final long PAGE = PageSize.SIZE_4K.bytes();
    private static final long MIB = 1L << 20;

    /** Of 2 MiB frames, so that its leaves are split by, or before, the first store. */
    private static final long BIG = 64 * MIB;

    private static final long BIG_BYTES = 4 * MIB;

    /** Neither its base nor its length is a multiple of 64 pages. */
    private static final long ODD = 128 * MIB + 5 * PAGE;

    private static final long ODD_BYTES = 131 * PAGE;

    private static final int VCPUS = 2;
    private static final int DEVICE = VCPUS;
    private static final int WRITERS = VCPUS + 1;

    /** Pages of each slot that are stored to often. */
    private static final int HOT_PAGES = 96;

    private static final int ROUNDS = 4;
    private static final int STORES_A_ROUND = 32;

    private static final Seeds SEEDS = Seeds.announce("DirtyLogOracleTest");

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix(paging = {PagingMode.EPT4, PagingMode.NPT4})
    void getAndClear(VmConfig.Builder builder, AccessedDirty bits) throws Exception {
        for (boolean pml : pml(bits)) {
            run(builder, DirtyTracking.GET_AND_CLEAR, pml);
        }
    }

    @EngineMatrix(
            paging = PagingMode.EPT5,
            policies = {LockPolicy.EXCLUSIVE, LockPolicy.PARALLEL})
    void manualProtect(VmConfig.Builder builder, AccessedDirty bits) throws Exception {
        for (boolean pml : pml(bits)) {
            run(builder, DirtyTracking.MANUAL_PROTECT, pml);
        }
    }

    @EngineMatrix(
            paging = {PagingMode.EPT4, PagingMode.NPT5},
            policies = {LockPolicy.PARALLEL})
    void initiallySet(VmConfig.Builder builder, AccessedDirty bits) throws Exception {
        for (boolean pml : pml(bits)) {
            run(builder, DirtyTracking.INITIALLY_SET, pml);
        }
    }

    @EngineMatrix(
            paging = PagingMode.EPT4,
            policies = {LockPolicy.EXCLUSIVE, LockPolicy.PARALLEL})
    void ring(VmConfig.Builder builder, AccessedDirty bits) throws Exception {
        for (boolean pml : pml(bits)) {
            run(builder, DirtyTracking.RING, pml);
        }
    }

    private static boolean[] pml(AccessedDirty bits) {
        return bits == AccessedDirty.ON ? new boolean[] {true, false} : new boolean[] {false};
    }

    private void run(VmConfig.Builder builder, DirtyTracking tracking, boolean pml) throws Exception {
        SplittableRandom random = SEEDS.random(tracking + " " + pml);
        VmConfig config = builder.dirtyTracking(tracking)
                .pml(pml)
                .dirtyRingEntries(1024)
                .eagerSplit(random.nextBoolean())
                .clearLock(random.nextBoolean() ? OperationLock.SHARED : OperationLock.EXCLUSIVE)
                .build();
        try (Vm vm = engine.vm(config)) {
            new Oracle(vm, random).run();
        }
    }

    /** One slot, what was stored to it, and what the log has said of it. */
    private static final class Area {
        final MemSlot slot;
        final long gpa;
        final int pages;

        /** Versions whose store has begun, by writer and page. */
        final AtomicLongArray[] begun = new AtomicLongArray[WRITERS];

        /** Versions whose store has ended. */
        final AtomicLongArray[] ended = new AtomicLongArray[WRITERS];

        /** What the pages held when they were copied last. */
        final long[][] mirror;

        /** What had ended when this round began. */
        long[][] endedNow;

        /** What had ended when the round began in which a page was taken out of the log last. */
        long[][] endedAtTake;

        DirtyLog log;

        /** Handed out in this round. */
        DirtyPages dirty;

        /** Handed out in an earlier round and not cleared. */
        DirtyPages kept;

        Area(Vm vm, int id, long gpa, long bytes, PageSize pageSize) {
            this.slot = vm.addSlot(id, gpa, bytes, Backing.anonymous(pageSize));
            this.gpa = gpa;
            this.pages = (int) (bytes / PAGE);
            for (int writer = 0; writer < WRITERS; writer++) {
                begun[writer] = new AtomicLongArray(pages);
                ended[writer] = new AtomicLongArray(pages);
            }
            mirror = new long[WRITERS][pages];
        }

        static boolean isUntouched(int page) {
            return page % 7 == 3;
        }

        /** Whether one writer alone stores to a page. */
        static boolean isOwned(int page) {
            return page % 4 < WRITERS;
        }

        static boolean mayStore(int writer, int page) {
            return !isUntouched(page) && (!isOwned(page) || page % 4 == writer);
        }

        long[][] snapshot(AtomicLongArray[] from) {
            long[][] copy = new long[WRITERS][pages];
            for (int writer = 0; writer < WRITERS; writer++) {
                for (int page = 0; page < pages; page++) {
                    copy[writer][page] = from[writer].get(page);
                }
            }
            return copy;
        }

        void copy(Vm vm, int page) {
            for (int writer = 0; writer < WRITERS; writer++) {
                mirror[writer][page] = vm.memory().getLong(gpa + page * PAGE + (long) writer * Long.BYTES);
            }
        }
    }

    private static final class Oracle {
        private final Vm vm;
        private final SplittableRandom random;
        private final DirtyTracking tracking;
        private final int softLimit;
        private final List<Area> areas;
        private final List<Vcpu> vcpus = new ArrayList<>();
        private final AtomicBoolean done = new AtomicBoolean();
        private final AtomicBoolean passed = new AtomicBoolean();
        private final AtomicLong stores = new AtomicLong();
        private final AtomicLong resets = new AtomicLong();
        private final AtomicLong ringsFull = new AtomicLong();
        private boolean ringsComplete = true;
        private final List<Future<?>> writers = new ArrayList<>();

        Oracle(Vm vm, SplittableRandom random) {
            this.vm = vm;
            this.random = random;
            this.tracking = vm.config().dirtyLog().tracking();
            this.softLimit = vm.config().dirtyLog().ringEntries()
                    - vm.config().dirtyLog().reservedRingEntries();
            areas = List.of(
                    new Area(vm, 1, BIG, BIG_BYTES, PageSize.SIZE_2M),
                    new Area(vm, 2, ODD, ODD_BYTES, PageSize.SIZE_4K));
            for (int i = 0; i < VCPUS; i++) {
                Vcpu vcpu = vm.createVcpu();
                vcpu.onDirtyRingFull(this::awaitRoom);
                vcpus.add(vcpu);
            }
        }

        private boolean isManual() {
            return tracking == DirtyTracking.MANUAL_PROTECT || tracking == DirtyTracking.INITIALLY_SET;
        }

        void run() throws Exception {
            try (ExecutorService pool = Executors.newFixedThreadPool(WRITERS)) {
                for (int writer = 0; writer < WRITERS; writer++) {
                    int self = writer;
                    SplittableRandom own = random.split();
                    writers.add(pool.submit(() -> write(self, own)));
                }
                try {
                    awaitStores();
                    start();
                    rounds(ROUNDS);
                    for (Area area : areas) {
                        area.log.stop();
                    }
                    awaitStores();
                    start();
                    rounds(ROUNDS / 2);
                    passed.set(true);
                } finally {
                    done.set(true);
                }
                for (Future<?> writer : writers) {
                    while (!writer.isDone()) {
                        // One whose ring is full waits for us.
                        round(false);
                    }
                    writer.get();
                }
            }
            finish();
        }

        /** Begins the log while everybody stores, then copies everything, as a migration does. */
        private void start() {
            if (tracking == DirtyTracking.RING) {
                // What the log before has left.
                vcpus.forEach(vcpu -> vcpu.collectDirty((id, page) -> {}, Integer.MAX_VALUE));
                vm.resetDirtyRings();
                resets.getAndIncrement();
            }
            // Before any log is on: the hardware logs stores to all slots as soon as one wants it, and what it logged
            // of another slot counts there once that one is logged too.
            for (Area area : areas) {
                area.endedAtTake = area.snapshot(area.ended);
            }
            for (Area area : areas) {
                area.log = vm.startDirtyLog(vm.memorySlots().stream()
                        .filter(slot -> slot.id() == area.slot.id())
                        .findFirst()
                        .orElseThrow());
                area.dirty = new DirtyPages(area.pages);
                area.kept = new DirtyPages(area.pages);
                if (tracking == DirtyTracking.INITIALLY_SET) {
                    assertEquals(area.pages, area.log.harvest().count(), "every page counts as dirty");
                    assertEquals(area.pages, area.log.clear(0, area.pages));
                }
                for (int page = 0; page < area.pages; page++) {
                    area.copy(vm, page);
                }
            }
        }

        private void rounds(int count) {
            for (int i = 0; i < count; i++) {
                awaitStores();
                round(false);
            }
        }

        private void round(boolean atRest) {
            for (Area area : areas) {
                area.endedNow = area.snapshot(area.ended);
                area.dirty.clear();
            }
            boolean[] incomplete = collect();
            for (Area area : areas) {
                checkNothingLost(area, incomplete, atRest);
            }
        }

        /** Fills what is dirty in each area, and copies it. Says of which vCPUs there may be more. */
        private boolean[] collect() {
            boolean[] incomplete = new boolean[WRITERS];
            if (tracking == DirtyTracking.RING) {
                int collected = 0;
                vm.drainHardwareLogs();
                for (int i = 0; i < VCPUS; i++) {
                    int ofVcpu = vcpus.get(i)
                            .collectDirty((id, page) -> area(id).dirty.add(page), Integer.MAX_VALUE);
                    incomplete[i] = ofVcpu >= softLimit;
                    collected += ofVcpu;
                }
                ringsComplete = !incomplete[0] && !incomplete[1];
                assertEquals(collected, vm.resetDirtyRings(), "entries reset");
                resets.getAndIncrement();
            }
            for (Area area : areas) {
                DirtyPages got = area.log.harvest();
                if (isManual()) {
                    clearSome(area, got);
                } else {
                    area.dirty.addAll(got);
                    checkNothingInvented(area);
                    for (long page = next(area.dirty, 0); page >= 0; page = next(area.dirty, page + 1)) {
                        take(area, (int) page);
                    }
                }
            }
            return incomplete;
        }

        private static long next(DirtyPages pages, long from) {
            return from < pages.pages() ? pages.next(from) : -1;
        }

        /** Clears an arbitrary range, and of the rest half of what is dirty. */
        private void clearSome(Area area, DirtyPages got) {
            for (long page = next(area.kept, 0); page >= 0; page = next(area.kept, page + 1)) {
                assertTrue(got.isDirty(page), "forgotten without a clear: " + text(area, 0, (int) page));
            }
            area.dirty.addAll(got);
            checkNothingInvented(area);
            int first = random.nextInt(area.pages);
            int end = first + random.nextInt(area.pages - first + 1);
            area.log.clear(first, end - first);
            DirtyPages some = new DirtyPages(area.pages);
            area.kept.clear();
            for (long page = next(got, 0); page >= 0; page = next(got, page + 1)) {
                boolean inRange = page >= first && page < end;
                if (!inRange && random.nextBoolean()) {
                    some.add(page);
                } else if (!inRange) {
                    area.kept.add(page);
                }
            }
            assertEquals(some.count(), area.log.clear(some), "all of them were dirty");
            for (int page = 0; page < area.pages; page++) {
                if (page >= first && page < end || some.isDirty(page)) {
                    take(area, page);
                }
            }
        }

        /** Copies a page that is armed again. */
        private void take(Area area, int page) {
            area.copy(vm, page);
            if (!ringsComplete) {
                // A second entry of the page may be in a hardware log for which a ring had no room.
                return;
            }
            for (int writer = 0; writer < WRITERS; writer++) {
                area.endedAtTake[writer][page] = area.endedNow[writer][page];
            }
        }

        private void checkNothingLost(Area area, boolean[] incomplete, boolean atRest) {
            for (int page = 0; page < area.pages; page++) {
                if (area.dirty.isDirty(page) || !atRest && !Area.isOwned(page)) {
                    continue;
                }
                for (int writer = 0; writer < WRITERS; writer++) {
                    if (!incomplete[writer] && area.mirror[writer][page] < area.endedNow[writer][page]) {
                        throw new AssertionError("store was lost: " + text(area, writer, page));
                    }
                }
            }
        }

        private void checkNothingInvented(Area area) {
            boolean mayRepeat =
                    tracking == DirtyTracking.RING && vm.config().dirtyLog().pml();
            for (long page = next(area.dirty, 0); page >= 0; page = next(area.dirty, page + 1)) {
                boolean stored = false;
                for (int writer = 0; writer < WRITERS; writer++) {
                    stored |= area.begun[writer].get((int) page) > area.endedAtTake[writer][(int) page];
                }
                assertTrue(stored, "nobody stored: " + text(area, 0, (int) page));
            }
        }

        private Area area(int slotId) {
            return areas.get(slotId - 1);
        }

        /** Waits until the writers have done something that the next round can find. */
        private void awaitStores() {
            long goal = stores.get() + STORES_A_ROUND;
            while (stores.get() < goal && !failed()) {
                Thread.onSpinWait();
                Thread.yield();
            }
        }

        private boolean failed() {
            return writers.stream().anyMatch(Future::isDone);
        }

        private void write(int writer, SplittableRandom own) {
            while (!done.get()) {
                Area area = areas.get(own.nextInt(areas.size()));
                int hotStart = (area.pages - HOT_PAGES) / 2;
                int page = own.nextInt(8) == 0 ? own.nextInt(area.pages) : hotStart + own.nextInt(HOT_PAGES);
                if (Area.mayStore(writer, page)) {
                    store(area, writer, page);
                    stores.getAndIncrement();
                }
            }
        }

        private void store(Area area, int writer, int page) {
            long version = area.begun[writer].incrementAndGet(page);
            long gpa = area.gpa + page * PAGE + (long) writer * Long.BYTES;
            if (writer == DEVICE) {
                vm.memory().putLong(gpa, version);
            } else {
                vcpus.get(writer).putLong(gpa, version);
            }
            area.ended[writer].set(page, version);
        }

        /** A vCPU whose ring is full waits for the host's next round. */
        private void awaitRoom() {
            ringsFull.getAndIncrement();
            long seen = resets.get();
            while (resets.get() == seen && !done.get()) {
                Thread.onSpinWait();
                Thread.yield();
            }
            if (done.get() && !passed.get()) {
                throw new IllegalStateException("nobody empties the ring any more");
            }
        }

        /** Nobody stores any more: now everything is exact, and the second look finds nothing. */
        private void finish() {
            for (int i = 0; i < 2; i++) {
                do {
                    round(true);
                } while (isManual() && areas.stream().anyMatch(area -> area.kept.count() > 0));
            }
            for (Area area : areas) {
                assertEquals(0, area.dirty.count(), "found twice: " + area.dirty);
                for (int page = 0; page < area.pages; page++) {
                    long[] copied = column(area.mirror, page);
                    area.copy(vm, page);
                    assertEquals(Arrays.toString(column(area.mirror, page)), Arrays.toString(copied), "page=" + page);
                    for (int writer = 0; writer < WRITERS; writer++) {
                        assertEquals(area.ended[writer].get(page), area.mirror[writer][page], "page=" + page);
                    }
                }
            }
        }

        private static long[] column(long[][] words, int page) {
            return Arrays.stream(words).mapToLong(ofWriter -> ofWriter[page]).toArray();
        }

        private String text(Area area, int writer, int page) {
            return vm.config().pagingMode() + " " + vm.config().lockPolicy() + " "
                    + vm.config().dirtyLog() + ": slot="
                    + area.slot.id() + ", page=" + page + ", writer=" + writer + ", mirror="
                    + area.mirror[writer][page] + ", begun=" + area.begun[writer].get(page) + ", endedNow="
                    + area.endedNow[writer][page] + ", endedAtTake=" + area.endedAtTake[writer][page] + ", seed="
                    + SEEDS.seed();
        }
    }
}
