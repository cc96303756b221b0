package dev.tdpmmu.examples;

import dev.tdpmmu.DirtyLog;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import java.io.PrintWriter;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * Moves a running guest to another VM by pre-copy: sends all pages, then those that were written meanwhile, again and
 * again until they are few or no longer get fewer; then pauses the vCPUs and sends the rest.
 *
 * <p>A harvest arms a page before the page is read. A store after that is in the next harvest, so a page that was
 * read half-written is sent once more.
 *
 * <pre>{@code
 * round  pages sent  dirtied meanwhile  per page sent        ms
 *      1      16,384              3,980           0.24    1361.4
 *      2       3,980              1,445           0.36     139.7
 *      3       1,445                868           0.60      14.3
 *      4         868                729           0.84       8.3
 *      5         729                715           0.98       6.1
 * paused         715                  0           0.00       3.0
 * compared 16,384 pages, different 0
 * }</pre>
 */
final class PreCopyDirtyLoop {
    /** What the link carries during one step of the guest; a dirty set of that size is small. */
    private static final int PAGES_PER_TICK = 64;

    private static final int STORES_PER_TICK = 256;

    /** One store of so many goes to any page of the vCPU's share, the others to the share's first pages. */
    private static final int STORES_PER_COLD = 64;

    private static final int SHARE_PER_HOT = 32;

    private final Vm source;
    private final Vm target;
    private final byte[] buffer = new byte[GuestPages.SIZE];

    private PreCopyDirtyLoop(Vm source, Vm target) {
        this.source = source;
        this.target = target;
    }

    /** Returns whether source and target are the same in the end. */
    static boolean run(PrintWriter out, long bytes, int vcpus) {
        try (Vm source = new Vm(VmConfig.builder().name("source").build());
                Vm target = new Vm(VmConfig.builder().name("target").build())) {
            target.addMemory(0, 0, bytes, PageSize.SIZE_2M);
            DirtyLog log = source.startDirtyLog(source.addSlot(0, 0, bytes, Backing.anonymous(PageSize.SIZE_2M)));
            int share = (int) (bytes / GuestPages.SIZE / vcpus);
            try (Guest guest = Guest.start(source, vcpus, (vcpu, index, step) -> store(vcpu, index, step, share))) {
                return new PreCopyDirtyLoop(source, target).move(out, guest, log);
            }
        }
    }

    private boolean move(PrintWriter out, Guest guest, DirtyLog log) {
        out.println("round  pages sent  dirtied meanwhile  per page sent        ms");
        long pages = log.slot().pages();
        var dirty = new DirtyPages(pages);
        for (long number = 0; number < pages; number++) {
            dirty.add(number);
        }
        long sent;
        int round = 0;
        do {
            long start = System.nanoTime();
            sent = dirty.count();
            send(dirty, guest::tick);
            dirty = log.harvest();
            print(out, Integer.toString(++round), sent, dirty.count(), start);
        } while (dirty.count() > PAGES_PER_TICK && dirty.count() < sent * 9 / 10);

        long start = System.nanoTime();
        guest.pause();
        dirty.addAll(log.harvest());
        send(dirty, () -> {});
        print(out, "paused", dirty.count(), log.harvest().count(), start);
        long different = GuestPages.different(source.memory(), target.memory(), pages);
        out.printf(Locale.ROOT, "compared %,d pages, different %,d%n", pages, different);
        return different == 0;
    }

    private void send(DirtyPages dirty, Runnable tick) {
        long number = dirty.next(0);
        for (long sent = 0; number >= 0; sent++) {
            if (sent % PAGES_PER_TICK == 0) {
                tick.run();
            }
            GuestPages.copy(number, source.memory(), target.memory(), buffer);
            number = dirty.next(number + 1);
        }
    }

    private static void store(Vcpu vcpu, int index, int step, int share) {
        var random = new SplittableRandom((long) index << 32 | step);
        for (int i = 0; i < STORES_PER_TICK; i++) {
            int number = random.nextInt(i % STORES_PER_COLD == 0 ? share : share / SHARE_PER_HOT);
            long word = random.nextInt(GuestPages.SIZE / Long.BYTES);
            long gpa = GuestPages.gpa((long) index * share + number) + word * Long.BYTES;
            vcpu.putLong(gpa, (long) step * STORES_PER_TICK + i + 1);
        }
    }

    private static void print(PrintWriter out, String round, long sent, long dirtied, long start) {
        double millis = GuestPages.millisSince(start);
        String row = "%6s %,11d %,18d %14.2f %9.1f%n";
        out.printf(Locale.ROOT, row, round, sent, dirtied, (double) dirtied / Math.max(1, sent), millis);
    }
}
