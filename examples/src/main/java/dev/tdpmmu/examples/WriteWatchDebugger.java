package dev.tdpmmu.examples;

import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.WriteWatch;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import java.io.PrintWriter;
import java.util.Locale;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.LongAdder;

/**
 * Finds out who corrupts a word of guest memory: a watch on its page tells of each store, with the vCPU that made it.
 *
 * <p>Each vCPU has a record of eight words in the same page. One of them writes one word too many in its last step,
 * into the first word of the next record, which nobody may write once the guest runs.
 *
 * <pre>{@code
 * watching 8 bytes at 0x100080, which hold 0x600d600d600d
 * vcpu-1 stored 8 bytes at 0x100080: 0x6301
 * 2,801 stores to the page were reported, 1 of them to the word, which holds 0x6301 now
 * }</pre>
 */
final class WriteWatchDebugger {
    private static final int VCPUS = 4;
    private static final int STEPS = 100;
    private static final int WORDS = 8;
    private static final long RECORD_BYTES = WORDS * Long.BYTES;
    private static final long RECORDS = 0x10_0000;

    /** Whose first word is corrupted, and what stands there before. */
    private static final int VICTIM = 2;

    private static final long MAGIC = 0x600d_600d_600dL;

    private WriteWatchDebugger() {}

    /** Returns whether exactly the one wrong store was reported. */
    static boolean run(PrintWriter out) {
        long watched = RECORDS + VICTIM * RECORD_BYTES;
        Queue<String> hits = new ConcurrentLinkedQueue<>();
        LongAdder stores = new LongAdder();
        try (Vm vm = new Vm(VmConfig.builder().name("watch").build())) {
            vm.addMemory(0, 0, 2 << 20, PageSize.SIZE_4K);
            vm.memory().putLong(watched, MAGIC);
            WriteWatch watch = vm.watchWrites(watched, Long.BYTES, (gpa, bytes, value) -> {
                stores.increment();
                // A watch covers whole pages: the word is for its user to pick out.
                if (gpa < watched + Long.BYTES && watched < gpa + bytes) {
                    String vcpu = Thread.currentThread().getName();
                    hits.add(String.format("%s stored %d bytes at 0x%x: 0x%x", vcpu, bytes, gpa, value));
                }
            });
            out.printf("watching %d bytes at 0x%x, which hold 0x%x%n", Long.BYTES, watched, MAGIC);
            try (Guest guest = Guest.start(vm, VCPUS, WriteWatchDebugger::work)) {
                for (int step = 1; step < STEPS; step++) {
                    guest.tick();
                }
                guest.pause();
            }
            watch.close();

            hits.forEach(out::println);
            String last = "%,d stores to the page were reported, %d of them to the word, which holds 0x%x now%n";
            out.printf(Locale.ROOT, last, stores.sum(), hits.size(), vm.memory().getLong(watched));
        }
        return hits.size() == 1;
    }

    /** One step of a vCPU: fills its record behind the first word; the vCPU before the victim goes too far once. */
    private static void work(Vcpu vcpu, int index, int step) {
        boolean wrong = index == VICTIM - 1 && step == STEPS - 1;
        int end = wrong ? WORDS + 1 : WORDS;
        for (int word = 1; word < end; word++) {
            vcpu.putLong(RECORDS + index * RECORD_BYTES + word * Long.BYTES, step << 8 | index);
        }
    }
}
