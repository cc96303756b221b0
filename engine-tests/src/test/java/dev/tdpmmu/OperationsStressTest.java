package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * All operations at once under a fleet that writes versions: a migration copies what the log hands out, a balloon takes
 * pages away, slots come and go, leaves are split, recovered, aged, watched, zapped. At rest the copy is the memory.
 */
class OperationsStressTest {
    private static final int VCPUS = 48;
    private static final int STORES = 400;
    private static final int WORDS = 512;
    private static final long PAGE = PageSize.SIZE_4K.bytes();
    private static final long BLOCK = PageSize.SIZE_2M.bytes();
    private static final int PAGES = 1024;
    private static final long HOST = 64 * BLOCK;
    private static final int HOST_PAGES = 64;
    private static final long SIDE = 128 * BLOCK;

    private static final Seeds SEEDS = Seeds.announce("OperationsStressTest");

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix(paging = {PagingMode.EPT4, PagingMode.NPT5})
    void migrationLosesNothingWhileEverythingHappens(VmConfig.Builder builder, PagingMode paging, LockPolicy policy)
            throws Exception {
        boolean rings = paging == PagingMode.NPT5 || policy == LockPolicy.STAMPED;
        VmConfig config = builder.dirtyTracking(rings ? DirtyTracking.RING : DirtyTracking.GET_AND_CLEAR)
                .dirtyRingEntries(1024)
                .slotZap(policy == LockPolicy.PARALLEL ? SlotZap.RANGE : SlotZap.ALL_ROOTS)
                .nxHugePageMitigation(true)
                .nxRecoveryRatio(1)
                .hardware(HardwareConfig.DEFAULT.withTlb(rings ? TlbMode.UNHELPFUL : TlbMode.TYPICAL))
                .build();
        try (HostPages host = HostPages.allocate(HOST_PAGES * PAGE)) {
            Migration migration = new Migration(engine.vm(config), host, rings);

            migration.run();

            migration.compareAtRest();
        }
    }

    /** The VM, and the copy of slot 0. */
    private static final class Migration {
        private final Vm vm;
        private final HostPages host;
        private final boolean rings;
        private final DirtyLog log;
        private final long[] copy = new long[PAGES * WORDS];
        private final byte[] buffer = new byte[(int) PAGE];
        private final long[][] last = new long[VCPUS][PAGES];
        private final List<Vcpu> vcpus = new ArrayList<>();
        private final AtomicBoolean done = new AtomicBoolean();
        private long copied;

        Migration(Vm vm, HostPages host, boolean rings) {
            this.vm = vm;
            this.host = host;
            this.rings = rings;
            MemSlot work = vm.addSlot(0, 0, PAGES * PAGE, Backing.anonymous(PageSize.SIZE_2M));
            vm.addSlot(1, HOST, HOST_PAGES * PAGE, Backing.host(host, 0));
            for (int i = 0; i < VCPUS; i++) {
                vcpus.add(vm.createVcpu());
            }
            log = vm.startDirtyLog(work);
        }

        void run() throws Exception {
            try (ExecutorService fleet = Executors.newVirtualThreadPerTaskExecutor();
                    ExecutorService operators = Executors.newFixedThreadPool(3)) {
                List<Future<?>> guests = new ArrayList<>();
                for (int i = 0; i < VCPUS; i++) {
                    int number = i;
                    guests.add(fleet.submit(() -> write(number)));
                }
                List<Future<?>> others = List.of(
                        operators.submit(() -> repeat(this::copyDirty)),
                        operators.submit(() -> repeat(this::changeSlots)),
                        operators.submit(() -> repeat(this::disturb)));
                try {
                    for (Future<?> guest : guests) {
                        guest.get();
                    }
                } finally {
                    done.set(true);
                }
                for (Future<?> other : others) {
                    other.get();
                }
            }
        }

        private void repeat(Runnable round) {
            do {
                round.run();
                Thread.yield();
            } while (!done.get());
        }

        private void write(int number) {
            SplittableRandom random = SEEDS.random(number);
            Vcpu vcpu = vcpus.get(number);
            for (long version = 1; version <= STORES; version++) {
                int page = random.nextInt(8) == 0 ? random.nextInt(4) : random.nextInt(PAGES);
                long gpa = page * PAGE + number * Long.BYTES;
                long value = version;
                attempt(() -> {
                    assertEquals(last[number][page], vcpu.getLong(gpa), "own word");
                    vcpu.putLong(gpa, value);
                });
                last[number][page] = version;
                long hostGpa = HOST + random.nextInt(HOST_PAGES) * PAGE + number * Long.BYTES;
                attempt(() -> {
                    long found = vcpu.getLong(hostGpa);
                    assertTrue(found == 0 || found >>> 32 == number, "somebody else's word");
                    vcpu.putLong(hostGpa, (long) number << 32 | value);
                });
                if (version % 8 == 0) {
                    attempt(() -> vcpu.fetch(random.nextInt(PAGES) * PAGE));
                    Thread.yield();
                }
            }
        }

        /** Repeats an access until the migration has emptied a full ring; gives up where the host forbids it. */
        private static void attempt(Runnable access) {
            boolean again = true;
            while (again) {
                try {
                    access.run();
                    again = false;
                } catch (GuestAccessException refused) {
                    again = refused.reason() == Reason.DIRTY_RING_FULL;
                    assertTrue(again || refused.reason() == Reason.HOST_READ_ONLY, "refused: " + refused);
                    Thread.yield();
                }
            }
        }

        private void copyDirty() {
            DirtyPages dirty = new DirtyPages(PAGES);
            if (rings) {
                vm.drainHardwareLogs();
                for (Vcpu vcpu : vcpus) {
                    vcpu.collectDirty(
                            (slotId, page) -> {
                                if (slotId == 0) {
                                    dirty.add(page);
                                }
                            },
                            Integer.MAX_VALUE);
                }
                vm.resetDirtyRings();
            }
            dirty.addAll(log.harvest());
            for (long page = dirty.next(0); page >= 0; page = page + 1 < PAGES ? dirty.next(page + 1) : -1) {
                vm.memory().read(page * PAGE, buffer, 0, (int) PAGE);
                for (int word = 0; word < WORDS; word++) {
                    copy[(int) page * WORDS + word] = wordAt(word);
                }
                copied++;
            }
        }

        private long wordAt(int word) {
            long value = 0;
            for (int i = Long.BYTES - 1; i >= 0; i--) {
                value = value << 8 | buffer[word * Long.BYTES + i] & 0xff;
            }
            return value;
        }

        private void changeSlots() {
            MemSlot side = vm.addSlot(2, SIDE, BLOCK, Backing.anonymous(PageSize.SIZE_2M), SlotFlag.LOG_DIRTY);
            vm.memory().putLong(SIDE, 1);
            side = vm.moveSlot(side, SIDE + BLOCK);
            vm.dirtyLog(side).stop();
            vm.removeSlot(vm.memorySlots().get(2));
            host.discard(0, 8);
            host.protect(8, 4);
            host.migrate(16);
            host.merge(20, 21);
            host.unprotect(8, 4);
        }

        private void disturb() {
            WriteWatch watch = vm.watchWrites(0, 2 * PAGE, (gpa, bytes, value) -> {});
            try {
                vm.ageing().clearYoungAndFlush(0, PAGES * PAGE);
                vm.zap(BLOCK / 2, BLOCK);
            } finally {
                watch.close();
            }
            vm.nxHugePages().recover();
            vm.mmu().ranges().writeProtect(0, PAGES);
            vm.nxHugePages().setOn(!vm.nxHugePages().isOn());
            vm.verify();
        }

        void compareAtRest() {
            copyDirty();
            copyDirty();
            for (int page = 0; page < PAGES; page++) {
                for (int number = 0; number < VCPUS; number++) {
                    long gpa = page * PAGE + number * Long.BYTES;
                    assertEquals(last[number][page], vm.memory().getLong(gpa), "memory of page " + page);
                    assertEquals(last[number][page], copy[page * WORDS + number], "copy of page " + page);
                }
            }
            assertTrue(copied > 0, "nothing was copied");
            EngineAtRest.requireBalance(vm);
            for (Vcpu vcpu : vcpus) {
                attempt(() -> TlbAtRest.requireAgreement(vm, vcpu, 0));
            }
        }
    }
}
