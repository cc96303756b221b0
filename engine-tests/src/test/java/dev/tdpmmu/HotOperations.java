package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.mmu.TdpMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyRing;
import dev.tdpmmu.slot.DirtyRingConsumer;
import dev.tdpmmu.slot.RingReset;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.testkit.AllocationProbe;
import java.util.function.LongConsumer;

/** Measures what each hot operation allocates, and prints a line for each: its name and the bytes of a whole round. */
final class HotOperations {
    private static final int WARM_UP = 30_000;
    private static final int CALLS = 5_000;

    /** Distance of two pages that share one entry of the TLB, and more. */
    private static final long SAME_TLB_ENTRY = 64 * Gfn.PAGE_SIZE;

    /** The same for the TLB of linear addresses. */
    private static final long SAME_LINEAR_ENTRY = 128 * Gfn.PAGE_SIZE;

    private static final long GVA = 0xffff_8000_0000_0000L;
    private static final long GUEST_TABLES = 32 << 20;
    private static final long GUEST_DATA = 16 << 20;

    private static final long UNTOUCHED = 1L << 30;

    /** In the second table of slot 0. */
    private static final long RANGE = 2 << 20;

    private static final int RANGE_PAGES = 64;
    private static final int RANGE_WARM_UP = 6_000;
    private static final int RANGE_CALLS = 500;

    /** More than the calls, so that no ring is ever full. */
    private static final int RING_ENTRIES = 65_536;

    private final Vm vm;
    private final Vcpu vcpu;
    private final TdpMmu mmu;
    private final SpteFormat format;
    private final ReaderSlot worker;
    private final DirtyRing ring;
    private final DirtyRingConsumer collector;
    private final RingReset resetter;
    private final long[] entries = new long[RANGE_PAGES];
    private long sink;

    private HotOperations(VmConfig config) {
        vm = new Vm(config);
        vm.addSlot(0, 0, 64 << 20, Backing.anonymous(PageSize.SIZE_4K));
        vm.addSlot(1, UNTOUCHED, 1L << 30, Backing.synthetic(PageSize.SIZE_4K));
        vm.prewarmTables(2_000);
        vcpu = vm.createVcpu();
        mmu = vm.mmu();
        format = mmu.format();
        vcpu.putLong(0, 1);
        vcpu.putLong(SAME_TLB_ENTRY, 1);
        worker = mmu.createVcpu("worker").slot();
        ring = new DirtyRing(new FrameAllocator(vm.account()), 1024, 64);
        collector = (slotId, page) -> sink += page;
        resetter = (slotId, firstPage, mask) -> sink += mask;
    }

    public static void main(String[] arguments) {
        HotOperations hot = new HotOperations(settings(arguments).build());
        measure("load hit", i -> hot.sink += hot.vcpu.getLong(i & 0xff8));
        measure("store hit", i -> hot.vcpu.putLong(i & 0xff8, i));
        measure("walk", hot::walk);
        GuestLinear linear = hot.enablePaging();
        measure("linear hit", i -> hot.sink += linear.getLong(GVA + (i & 0xff8)));
        measure("linear walk", i -> linear.putLong(GVA + (i & 1) * SAME_LINEAR_ENTRY, i));
        measure("fast fix", hot::fastFix);
        measure("map", hot::map);
        measure("refault", hot::refault);
        hot.measureEntries();
        hot.startLog();
        measure("logged store", hot::loggedStore);
        measure("ring push", hot::pushIntoRing);
        HotOperations ringed = new HotOperations(settings(arguments)
                .dirtyTracking(DirtyTracking.RING)
                .dirtyRingEntries(RING_ENTRIES)
                .build());
        ringed.startLog();
        measure("vCPU ring push", ringed::loggedStore);
        if (hot.sink == 42) {
            System.out.println("never");
        }
    }

    private static VmConfig.Builder settings(String[] arguments) {
        return VmConfig.builder()
                .pagingMode(PagingMode.valueOf(arguments[0]))
                .lockPolicy(LockPolicy.valueOf(arguments[1]))
                .accessedDirty(AccessedDirty.valueOf(arguments[2]))
                .backgroundReclaim(false);
    }

    private GuestLinear enablePaging() {
        GuestTables tables = new GuestTables(vm.memory(), GUEST_TABLES, 4);
        long flags = GuestPageEntry.PRESENT | GuestPageEntry.WRITABLE;
        tables.map(GVA, GUEST_DATA, PageSize.SIZE_4K, flags);
        tables.map(GVA + SAME_LINEAR_ENTRY, GUEST_DATA + SAME_LINEAR_ENTRY, PageSize.SIZE_4K, flags);
        return vcpu.enablePaging(GuestPaging.of(tables.cr3(), 4));
    }

    /** What the range operations allocate for a page beyond the first; a call has a cursor and the like of its own. */
    private void measureEntries() {
        for (long page = 0; page < RANGE_PAGES; page++) {
            vcpu.putLong(RANGE + page * Gfn.PAGE_SIZE, page);
            entries[(int) page] = SpteAccess.readAcquire(leafAddress(Gfn.of(RANGE) + page));
        }
        RangeOperations ranges = mmu.ranges();
        long start = Gfn.of(RANGE);
        measureEntry("zap", end -> sink += ranges.unmap(start, end, OperationLock.EXCLUSIVE, true));
        measureEntry("unmap", end -> sink += ranges.unmap(start, end, OperationLock.SHARED, true));
        measureEntry("write-protect", end -> sink += ranges.writeProtect(start, end) ? 1 : 0);
        measureEntry("clear dirty", end -> sink += ranges.clearDirty(start, end));
        measureEntry("age", end -> sink += ranges.age(start, end));
        restoreEntries();
    }

    private void measureEntry(String name, LongConsumer operation) {
        long start = Gfn.of(RANGE);
        long one = bytesOf(operation, start + 1);
        long all = bytesOf(operation, start + RANGE_PAGES);
        // Whole bytes: that a call itself allocates a few objects more or less, as it is compiled, is no entry's.
        System.out.println(name + " of an entry: " + (all - one) / (RANGE_CALLS * (RANGE_PAGES - 1)));
    }

    private long bytesOf(LongConsumer operation, long endGfn) {
        return AllocationProbe.bytesPerRound(RANGE_WARM_UP, RANGE_CALLS, i -> {
            restoreEntries();
            operation.accept(endGfn);
        });
    }

    private void restoreEntries() {
        long address = leafAddress(Gfn.of(RANGE));
        for (int i = 0; i < RANGE_PAGES; i++) {
            SpteAccess.setRelease(address + ((long) i << 3), entries[i]);
        }
    }

    /** From here on stores to slot 0 are logged: by the hardware where it can, else by the fast fix. */
    private void startLog() {
        vm.startDirtyLog(vm.memorySlots().get(0));
        vcpu.putLong(0, 1);
        vcpu.putLong(SAME_TLB_ENTRY, 1);
    }

    private static void measure(String name, AllocationProbe.Body body) {
        System.out.println(name + ": " + AllocationProbe.bytesPerRound(WARM_UP, CALLS, body));
    }

    private void walk(long iteration) {
        sink += vcpu.getLong((iteration & 1) * SAME_TLB_ENTRY);
    }

    private void fastFix(long iteration) {
        long address = leafAddress(0);
        SpteAccess.setRelease(address, format.clearWritable(SpteAccess.readAcquire(address)));
        sink += vcpu.getLong(SAME_TLB_ENTRY);
        vcpu.putLong(0, iteration);
    }

    /** Arms a page as a harvest does; the next store is logged, and the log drained when it is full. */
    private void loggedStore(long iteration) {
        long address = leafAddress(0);
        long spte = SpteAccess.readAcquire(address);
        boolean hardwareLogs = vm.config().dirtyLog().pml();
        SpteAccess.setRelease(address, hardwareLogs ? spte & ~format.dirtyBit() : format.clearWritable(spte));
        sink += vcpu.getLong(SAME_TLB_ENTRY);
        vcpu.putLong(0, iteration);
    }

    private void pushIntoRing(long iteration) {
        ring.push(0, iteration & 1023);
        ring.collect(collector, 1);
        ring.reset(resetter, 1);
    }

    private void map(long iteration) {
        vcpu.touch(UNTOUCHED + iteration * Gfn.PAGE_SIZE, Access.WRITE);
    }

    private void refault(long iteration) {
        long address = leafAddress(0);
        mmu.lock().lock(worker, LockMode.SHARED);
        mmu.updater().trySet(worker, address, 0, PagingLevel.L4K, SpteAccess.readAcquire(address), Spte.NON_PRESENT);
        mmu.lock().unlock(worker, LockMode.SHARED);
        sink += vcpu.getLong(SAME_TLB_ENTRY);
        vcpu.putLong(0, iteration);
    }

    private long leafAddress(long gfn) {
        long table = vcpu.run().mmu().root().hpa();
        for (int level = vcpu.run().mmu().root().level(); level > PagingLevel.L4K; level--) {
            table = format.address(SpteAccess.readAcquire(SpteAccess.addressOf(table, gfn, level)));
        }
        return SpteAccess.addressOf(table, gfn, PagingLevel.L4K);
    }
}
