package dev.tdpmmu.examples;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import java.io.PrintWriter;
import java.util.Locale;
import java.util.concurrent.atomic.LongAdder;

/**
 * Takes memory from a running guest and gives it back: the guest names pages that nobody uses, the hypervisor takes
 * their frames away, and the guest gets zero pages when it uses them again.
 *
 * <p>Meanwhile the vCPUs work on the pages between, and check that no store is lost. The operating system gets the
 * frames' memory; the VM's charge stays, since the slot stays as long as it is.
 *
 * <pre>{@code
 * balloon   pages in it  pages mapped  not zero  lost stores        ms
 * empty               0        16,384     8,192            0     372.6
 * inflated        8,192         8,192         0            0     658.4
 * deflated            0        16,384         0            0     155.9
 * free pages came back zero, and nothing was lost
 * }</pre>
 */
final class Balloon {
    /** Pages of a piece of memory. Every second piece is free, so used and free pages share table pages. */
    private static final int PIECE = 64;

    private final PrintWriter out;
    private final Vm vm;
    private final int share;
    private final LongAdder lostStores = new LongAdder();
    private int taken;
    private long start = System.nanoTime();

    private Balloon(PrintWriter out, Vm vm, int share) {
        this.out = out;
        this.vm = vm;
        this.share = share;
    }

    /** Returns whether the balloon's pages were unmapped and came back zero, and nothing else changed. */
    static boolean run(PrintWriter out, long bytes, int vcpus) {
        try (Vm vm = new Vm(VmConfig.builder().name("balloon").build())) {
            vm.addMemory(0, 0, bytes, PageSize.SIZE_4K);
            var example = new Balloon(out, vm, (int) (bytes / GuestPages.SIZE / vcpus));
            try (Guest guest = Guest.start(vm, vcpus, example::work)) {
                return example.run(guest, vcpus);
            }
        }
    }

    private boolean run(Guest guest, int vcpus) {
        out.println("balloon   pages in it  pages mapped  not zero  lost stores        ms");
        int pages = share * vcpus;
        guest.tick();
        print("empty", notZero(pages, vm.memory()::read));
        boolean isSound = vm.stats().pages4k() == pages;

        inflate(guest, pages);
        long notZero = notZero(pages, vm.memory()::read);
        print("inflated", notZero);
        isSound &= vm.stats().pages4k() == pages - taken;

        taken = 0;
        try (Vcpu vcpu = vm.createVcpu()) {
            notZero += notZero(pages, vcpu::read);
        }
        guest.pause();
        print("deflated", notZero);
        isSound &= vm.stats().pages4k() == pages && notZero == 0 && lostStores.sum() == 0;
        out.println(isSound ? "free pages came back zero, and nothing was lost" : "something was lost or left");
        return isSound;
    }

    /** Takes the pages that the guest names away, neighbours together, and lets the guest work on between. */
    private void inflate(Guest guest, int pages) {
        for (int first = PIECE; first < pages; first += 2 * PIECE) {
            int end = Math.min(first + PIECE, pages);
            taken += end - first;
            vm.discard(GuestPages.gpa(first), GuestPages.gpa(end - first));
            guest.tick();
        }
    }

    /** One step of a vCPU: fills its share once; from then on counts up in each page that it uses. */
    private void work(Vcpu vcpu, int index, int step) {
        for (int page = index * share; page < (index + 1) * share; page++) {
            boolean isLost = (step == 0 || isUsed(page)) && !GuestPages.countUp(vcpu, page, step);
            lostStores.add(isLost ? 1 : 0);
        }
    }

    private static boolean isUsed(int page) {
        return page / PIECE % 2 == 0;
    }

    /** How many of the free pages have content. */
    private static long notZero(int pages, GuestPages.Reader reader) {
        byte[] content = new byte[GuestPages.SIZE];
        long notZero = 0;
        for (int page = 0; page < pages; page++) {
            notZero += isUsed(page) || GuestPages.isZero(page, reader, content) ? 0 : 1;
        }
        return notZero;
    }

    private void print(String state, long notZero) {
        String row = "%-8s %,12d %,13d %,9d %,12d %9.1f%n";
        double millis = GuestPages.millisSince(start);
        out.printf(Locale.ROOT, row, state, taken, vm.stats().pages4k(), notZero, lostStores.sum(), millis);
        start = System.nanoTime();
    }
}
