package dev.tdpmmu.examples;

import dev.tdpmmu.MmioHandler;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.io.PrintWriter;
import java.util.Locale;
import java.util.concurrent.atomic.LongAdder;

/**
 * Plugs a memory module into a running guest, moves it and pulls it out; a device answers wherever no memory is.
 *
 * <p>The vCPUs work on other memory all the time and check that no store is lost, although each change zaps tables.
 *
 * <pre>{@code
 * module       loads at 4 GiB  loads at 8 GiB  device accesses  lost stores        ms
 * absent                   -1              -1                2            0       0.0
 * added                     0              -1                3            0       0.2
 * used                     42              -1                4            0      14.2
 * moved                    -1              42                5            0      70.4
 * removed                  -1              -1                7            0      60.3
 * every load found what is there
 * }</pre>
 */
final class SlotHotPlug {
    private static final long HERE = 4L << 30;
    private static final long THERE = 8L << 30;

    /** What a bus without a device or memory answers. */
    private static final long OPEN_BUS = -1;

    private final PrintWriter out;
    private final Vm vm;
    private final Guest guest;
    private final LongAdder lostStores = new LongAdder();
    private final LongAdder deviceAccesses = new LongAdder();
    private long unexpected;
    private long start = System.nanoTime();

    private SlotHotPlug(PrintWriter out, Vm vm, long bytes, int vcpus) {
        this.out = out;
        this.vm = vm;
        vm.addMemory(0, 0, bytes, PageSize.SIZE_4K);
        vm.addMmio(HERE, bytes, new OpenBus());
        vm.addMmio(THERE, bytes, new OpenBus());
        int share = (int) (bytes / GuestPages.SIZE / vcpus);
        guest = Guest.start(vm, vcpus, (vcpu, index, step) -> work(vcpu, index, step, share));
    }

    /** A device that swallows stores. */
    private final class OpenBus implements MmioHandler {
        @Override
        public long read(long gpa, int bytes) {
            deviceAccesses.increment();
            return OPEN_BUS;
        }

        @Override
        public void write(long gpa, int bytes, long value) {
            deviceAccesses.increment();
        }
    }

    /** Returns whether the guest found at every place what had to be there, and no store was lost. */
    static boolean run(PrintWriter out, long bytes, int vcpus) {
        try (Vm vm = new Vm(VmConfig.builder().name("hot-plug").build())) {
            return new SlotHotPlug(out, vm, bytes, vcpus).run(bytes);
        }
    }

    private boolean run(long bytes) {
        out.println("module       loads at 4 GiB  loads at 8 GiB  device accesses  lost stores        ms");
        try (guest;
                Vcpu driver = vm.createVcpu()) {
            check("absent", driver, OPEN_BUS, OPEN_BUS);

            MemSlot module = vm.addSlot(1, HERE, bytes, Backing.anonymous(PageSize.SIZE_2M));
            check("added", driver, 0, OPEN_BUS);

            driver.putLong(HERE, 42);
            check("used", driver, 42, OPEN_BUS);

            module = vm.moveSlot(module, THERE);
            check("moved", driver, OPEN_BUS, 42);

            vm.removeSlot(module);
            check("removed", driver, OPEN_BUS, OPEN_BUS);
            guest.pause();
        }
        out.println(unexpected == 0 ? "every load found what is there" : "wrong loads: " + unexpected);
        return unexpected == 0 && lostStores.sum() == 0;
    }

    /** Lets the driver load from both places while the vCPUs make a step. */
    private void check(String state, Vcpu driver, long here, long there) {
        double millis = GuestPages.millisSince(start);
        guest.tick();
        long foundHere = driver.getLong(HERE);
        long foundThere = driver.getLong(THERE);
        unexpected += (foundHere == here ? 0 : 1) + (foundThere == there ? 0 : 1);
        long atDevice = deviceAccesses.sum();
        String row = "%-8s %18d %15d %,16d %,12d %9.1f%n";
        out.printf(Locale.ROOT, row, state, foundHere, foundThere, atDevice, lostStores.sum(), millis);
        start = System.nanoTime();
    }

    /** One step of a vCPU: counts up in each page of its share. */
    private void work(Vcpu vcpu, int index, int step, int share) {
        for (int i = 0; i < share; i++) {
            boolean isKept = GuestPages.countUp(vcpu, (long) index * share + i, step);
            lostStores.add(isKept ? 0 : 1);
        }
    }
}
