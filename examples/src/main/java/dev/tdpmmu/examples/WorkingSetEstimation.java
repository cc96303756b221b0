package dev.tdpmmu.examples;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.WorkingSet;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.io.PrintWriter;
import java.util.Locale;

/**
 * Estimates how much memory a guest really uses: scans its pages round by round and counts those touched since,
 * beside the number that the guest itself knows.
 *
 * <p>The guest loads all of its memory, then works on an eighth of it; later it moves to a quarter elsewhere. A scan
 * flushes nothing: a page whose translation never leaves a TLB looks idle. This guest works on more pages than its
 * TLBs keep, so the estimate of one scan is the truth.
 *
 * <pre>{@code
 * round  guest works on  estimate, 1 scan  estimate, 3 scans        ms
 *     1          16,384            16,384             16,384      31.2
 *     2           2,048             2,048             16,384       3.0
 *     3           2,048             2,048             16,384       4.0
 *     4           2,048             2,048              2,048       3.7
 *     5           6,144             6,144              6,144       0.9
 *     6           4,096             4,096              6,144       2.6
 *     7           4,096             4,096              6,144       0.9
 *     8           4,096             4,096              4,096       1.9
 * every estimate of one scan is exact
 * }</pre>
 */
final class WorkingSetEstimation {
    private static final int ROUNDS = 8;

    /** The round in which the guest copies what it works on to the new place. */
    private static final int MOVE = 5;

    private static final int WINDOW = 3;

    /** Steps of the guest in a round: the scan runs beside the first, and only the second decides what is touched. */
    private static final int STEPS_PER_ROUND = 2;

    private WorkingSetEstimation() {}

    /** Returns whether every estimate was the truth. */
    static boolean run(PrintWriter out, long bytes, int vcpus) {
        int share = (int) (bytes / GuestPages.SIZE / vcpus);
        try (Vm vm = new Vm(VmConfig.builder().name("working-set").build())) {
            MemSlot slot = vm.addSlot(0, 0, bytes, Backing.anonymous(PageSize.SIZE_4K));
            try (Guest guest = Guest.start(vm, vcpus, (vcpu, index, step) -> touch(vcpu, index, step, share))) {
                return scan(out, guest, vm.workingSet(slot), share, vcpus);
            }
        }
    }

    private static boolean scan(PrintWriter out, Guest guest, WorkingSet workingSet, int share, int vcpus) {
        out.printf("round  guest works on  estimate, 1 scan  estimate, %d scans        ms%n", WINDOW);
        boolean exact = true;
        for (int round = 1; round <= ROUNDS; round++) {
            for (int i = 0; i < STEPS_PER_ROUND; i++) {
                guest.tick();
            }
            long start = System.nanoTime();
            workingSet.scan();
            double millis = GuestPages.millisSince(start);

            long truth = (long) vcpus * touched(round, share);
            long estimate = workingSet.pagesYoungerThan(1);
            exact &= estimate == truth;
            long window = workingSet.pagesYoungerThan(WINDOW);
            out.printf(Locale.ROOT, "%5d %,15d %,17d %,18d %9.1f%n", round, truth, estimate, window, millis);
        }
        out.println(exact ? "every estimate of one scan is exact" : "an estimate of one scan is wrong");
        return exact;
    }

    /** One step of a vCPU: stores to every second page that it works on, loads from the others. */
    private static void touch(Vcpu vcpu, int index, int step, int share) {
        if (step == 0) {
            touch(vcpu, index, 0, share, share);
            return;
        }
        int round = (step + 1) / STEPS_PER_ROUND;
        boolean decides = step % STEPS_PER_ROUND == 1;
        if (round < MOVE || round == MOVE && decides) {
            touch(vcpu, index, 0, share / 8, share);
        }
        if (round >= MOVE) {
            touch(vcpu, index, share / 2, share / 4, share);
        }
    }

    private static void touch(Vcpu vcpu, int index, int first, int pages, int share) {
        for (int i = first; i < first + pages; i++) {
            long gpa = GuestPages.gpa((long) index * share + i);
            if (i % 2 == 0) {
                vcpu.putLong(gpa, i);
            } else {
                vcpu.getLong(gpa);
            }
        }
    }

    /** How many pages of a vCPU are touched between the scan of the round before and the one of this round. */
    private static int touched(int round, int share) {
        if (round == 1) {
            return share;
        }
        return (round <= MOVE ? share / 8 : 0) + (round >= MOVE ? share / 4 : 0);
    }
}
