package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * A fleet of vCPUs on virtual threads, each in a share of its own of shared and private memory, while two threads
 * change the slots, the size of leaves and the write protection under it. Bounded by a count of operations; what was
 * stored must be there.
 *
 * <pre>
 *      0   shared      8 MiB of 2 MiB frames; SMALL_PAGES comes and goes: splits, promotions, zaps
 *  64 MiB  private     four pages for each vCPU
 * 128 MiB  counter     one page, incremented by compare-and-set
 * 256 MiB  side        1 MiB; removed, added, moved there and back
 * 512 MiB  device
 * </pre>
 */
class FleetStressTest {
    private static final int VCPUS = 1_024;
    private static final int OPERATIONS = 96;
    private static final int SLOT_CHANGES = 24;
    private static final int PRIVATE_PAGES = 4;

    private static final long PAGE = PageSize.SIZE_4K.bytes();
    private static final long MIB = 1L << 20;
    private static final long SHARED_BYTES = 8 * MIB;
    private static final int SHARED_PAGES = (int) (SHARED_BYTES / PAGE);
    private static final int WORDS = (int) (PAGE / Long.BYTES);
    private static final long PRIVATE = 64 * MIB;
    private static final long COUNTER = 128 * MIB;
    private static final long SIDE = 256 * MIB;
    private static final long SIDE_BYTES = MIB;
    private static final long DEVICE = 512 * MIB;

    private static final Seeds SEEDS = Seeds.announce("FleetStressTest");

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix(
            paging = {PagingMode.EPT4, PagingMode.NPT5},
            policies = {LockPolicy.EXCLUSIVE, LockPolicy.STAMPED, LockPolicy.PARALLEL},
            accessedDirty = {AccessedDirty.ON, AccessedDirty.OFF})
    void fleetLosesNothingWhileSlotsAndLeavesChange(VmConfig.Builder builder) throws Exception {
        TlbMode tlb = SEEDS.random(builder.build().name()).nextBoolean() ? TlbMode.UNHELPFUL : TlbMode.TYPICAL;
        Fleet fleet = new Fleet(
                engine.vm(builder.hardware(HardwareConfig.DEFAULT.withTlb(tlb)).build()));

        fleet.run();

        fleet.compareAtRest();
    }

    /** Answers with a function of the address. */
    private static final class Device implements MmioHandler {
        final AtomicLong stores = new AtomicLong();

        @Override
        public long read(long gpa, int bytes) {
            return gpa * 3;
        }

        @Override
        public void write(long gpa, int bytes, long value) {
            stores.incrementAndGet();
        }
    }

    private static final class Fleet {
        private final Vm vm;
        private final Device device = new Device();
        private final AtomicBoolean done = new AtomicBoolean();
        private final AtomicLong increments = new AtomicLong();
        private final AtomicLong deviceStores = new AtomicLong();
        private final List<Worker> workers = new ArrayList<>();

        Fleet(Vm vm) {
            this.vm = vm;
            vm.addSlot(0, 0, SHARED_BYTES, Backing.anonymous(PageSize.SIZE_2M));
            vm.addSlot(1, PRIVATE, VCPUS * PRIVATE_PAGES * PAGE, Backing.anonymous(PageSize.SIZE_4K));
            vm.addSlot(2, COUNTER, PAGE, Backing.anonymous(PageSize.SIZE_4K));
            vm.addMmio(DEVICE, PAGE, device);
            for (int i = 0; i < VCPUS; i++) {
                workers.add(new Worker(this, i));
            }
        }

        void run() throws ExecutionException, InterruptedException {
            try (ExecutorService fleet = Executors.newVirtualThreadPerTaskExecutor();
                    ExecutorService host = Executors.newFixedThreadPool(2)) {
                List<Future<?>> guests = new ArrayList<>();
                for (Worker worker : workers) {
                    guests.add(fleet.submit(worker::work));
                }
                Future<?> slots = host.submit(this::changeSlots);
                Future<?> checks = host.submit(this::protectAndVerify);
                try {
                    for (Future<?> guest : guests) {
                        guest.get();
                    }
                } finally {
                    done.set(true);
                }
                slots.get();
                checks.get();
            }
        }

        private void changeSlots() {
            SplittableRandom random = SEEDS.random("slots");
            MemSlot shared = vm.memorySlots().get(0);
            for (int i = 0; i < SLOT_CHANGES || !done.get(); i++) {
                MemSlot side = vm.addSlot(3, SIDE, SIDE_BYTES, Backing.anonymous(PageSize.SIZE_4K));
                Thread.yield();
                if (random.nextBoolean()) {
                    side = vm.moveSlot(side, SIDE + PAGE);
                    side = vm.moveSlot(side, SIDE);
                }
                vm.removeSlot(side);
                shared = (i & 1) == 0 ? vm.changeSlotFlags(shared, SlotFlag.SMALL_PAGES) : vm.changeSlotFlags(shared);
                Thread.yield();
            }
        }

        private void protectAndVerify() {
            SplittableRandom random = SEEDS.random("protect");
            for (int i = 0; i < SLOT_CHANGES || !done.get(); i++) {
                long startGfn = random.nextLong(SHARED_PAGES);
                vm.mmu().ranges().writeProtect(startGfn, startGfn + 1 + random.nextLong(SHARED_PAGES));
                if (i % 8 == 0) {
                    vm.verify();
                    vm.stats();
                }
                Thread.yield();
            }
        }

        void compareAtRest() {
            EngineAtRest.requireBalance(vm);
            assertEquals(increments.get(), vm.memory().getLong(COUNTER), "increments");
            assertEquals(deviceStores.get(), device.stores.get(), "stores to the device");
            long exits = 0;
            int compared = 0;
            for (Worker worker : workers) {
                worker.compareEverything();
            }
            for (Worker worker : workers) {
                compared += TlbAtRest.requireAgreement(vm, worker.vcpu, COUNTER);
                exits += worker.vcpu.exits();
            }
            assertTrue(compared > VCPUS, "entries compared: " + compared);
            VmStats stats = vm.stats();
            assertEquals(
                    exits,
                    stats.pfFixed() + stats.pfFast() + stats.pfSpurious() + stats.pfEmulate() + stats.pfRetry(),
                    "exits = outcomes");
            assertTrue(
                    stats.retiredPages() > 0 && stats.remoteTlbFlush() > SLOT_CHANGES, "something happened: " + stats);
        }
    }

    /** One vCPU, what it has stored, and what it does. Belongs to one thread at a time. */
    private static final class Worker {
        private final Fleet fleet;
        private final Vm vm;
        private final int number;
        private final Vcpu vcpu;
        private final SplittableRandom random;
        private final long[] shared = new long[SHARED_PAGES];
        private final long[] own = new long[PRIVATE_PAGES];

        Worker(Fleet fleet, int number) {
            this.fleet = fleet;
            this.vm = fleet.vm;
            this.number = number;
            this.vcpu = vm.createVcpu();
            this.random = SEEDS.random(number);
        }

        /** This vCPU's word in a shared page; two vCPUs with the same word use every other page. */
        private long sharedGpa(int page) {
            return page * PAGE + (long) (number % WORDS) * Long.BYTES;
        }

        private int anySharedPage() {
            int pages = VCPUS / WORDS;
            return random.nextInt(SHARED_PAGES / pages) * pages + number / WORDS;
        }

        private long ownGpa(int page) {
            return PRIVATE + ((long) number * PRIVATE_PAGES + page) * PAGE;
        }

        void work() {
            for (int i = 1; i <= OPERATIONS; i++) {
                step((long) number << 32 | i);
                if (i % 8 == 0) {
                    Thread.yield();
                }
            }
        }

        private void step(long value) {
            switch (random.nextInt(16)) {
                case 0, 1, 2, 3 -> {
                    int page = anySharedPage();
                    vcpu.putLong(sharedGpa(page), value);
                    shared[page] = value;
                }
                case 4, 5, 6 -> {
                    int page = anySharedPage();
                    assertEquals(shared[page], vcpu.getLong(sharedGpa(page)), "shared page " + page);
                }
                case 7 -> {
                    int page = anySharedPage();
                    assertEquals(shared[page], vm.memory().getLong(sharedGpa(page)), "shared page by device " + page);
                }
                case 8, 9 -> {
                    int page = random.nextInt(PRIVATE_PAGES);
                    vcpu.putLong(ownGpa(page), value);
                    own[page] = value;
                }
                case 10 -> {
                    int page = random.nextInt(PRIVATE_PAGES);
                    assertEquals(own[page], vcpu.getLong(ownGpa(page)), "private page " + page);
                }
                case 11 -> useDevice(value);
                case 12 -> increment();
                case 13 ->
                    vm.translate(sharedGpa(anySharedPage()))
                            .ifPresent(found -> assertTrue(found.pageSize() != PageSize.SIZE_1G));
                default -> useSide(value);
            }
        }

        private void useDevice(long value) {
            long gpa = DEVICE + number % WORDS * (long) Long.BYTES;
            assertEquals(gpa * 3, vcpu.getLong(gpa));
            vcpu.putLong(gpa, value);
            fleet.deviceStores.incrementAndGet();
        }

        private void increment() {
            boolean added = false;
            while (!added) {
                long now = vcpu.getLongVolatile(COUNTER);
                added = vcpu.compareAndSetLong(COUNTER, now, now + 1);
            }
            fleet.increments.incrementAndGet();
        }

        /** The slot may be gone, or new and zero, or moved by a page and back. */
        private void useSide(long value) {
            long gpa = SIDE + 2 * PAGE + (long) number * Long.BYTES;
            try {
                long found = vcpu.getLong(gpa);
                // While the slot is a page further up, the word of the vCPU one page below is here.
                boolean neighbours = found >>> 32 == number - WORDS || found >>> 32 == number + WORDS;
                assertTrue(
                        found == 0 || found >>> 32 == number || neighbours,
                        "word of vCPU " + number + " is 0x" + Long.toHexString(found));
                vcpu.putLong(gpa, value);
            } catch (GuestAccessException gone) {
                assertEquals(GuestAccessException.Reason.NO_SLOT, gone.reason());
            }
        }

        void compareEverything() {
            for (int page = 0; page < PRIVATE_PAGES; page++) {
                assertEquals(own[page], vcpu.getLong(ownGpa(page)), "private page at rest " + page);
            }
            for (int page = number / WORDS; page < SHARED_PAGES; page += 64) {
                assertEquals(shared[page], vcpu.getLong(sharedGpa(page)), "shared page at rest " + page);
            }
        }
    }
}
