package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static dev.tdpmmu.TestVms.slotAt;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.MemSlot;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Dumps and explanations while the tables change under them. */
class TableDumpStressTest {
    @RegisterExtension
    final TestVms vms = new TestVms();

    @Test
    void dumpsBesideFaultsAndZapsShowOnlyWhatWasMapped() throws InterruptedException {
        Vm vm = vms.vm(VmConfig.builder());
        vm.addSlot(0, 0, 4 * MIB_2, SMALL);
        MemSlot huge = vm.addSlot(1, 1L << 30, 4 * MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            // Beyond what the disturber zaps, so that every dump has something to show.
            assertTrue(vcpu.touch((1L << 30) + 3 * MIB_2, Access.READ));
        }
        AtomicBoolean stop = new AtomicBoolean();
        List<Throwable> failures = new CopyOnWriteArrayList<>();
        Thread.Builder others =
                Thread.ofPlatform().uncaughtExceptionHandler((thread, failure) -> failures.add(failure));
        List<Thread> threads = List.of(
                others.start(() -> fault(vm, 0, stop)),
                others.start(() -> fault(vm, 1, stop)),
                others.start(() -> disturb(vm, huge.id(), stop)));
        long shown = 0;

        try {
            for (int round = 0; round < 150; round++) {
                TableDump dump = vm.dump(DumpOption.INVALID_ROOTS);
                for (TableDump.Root root : dump.roots()) {
                    shown += check(vm, root);
                }
                assertFalse(dump.toText().isEmpty());
                vm.explain(round * KIB_4, Access.WRITE);
            }
        } finally {
            stop.set(true);
            for (Thread thread : threads) {
                thread.join();
            }
        }

        assertEquals(List.of(), failures);
        assertTrue(shown > 0, "nothing was ever shown");
    }

    private static void fault(Vm vm, int number, AtomicBoolean stop) {
        Random random = new Random(number);
        try (Vcpu vcpu = vm.createVcpu()) {
            while (!stop.get()) {
                vcpu.touch((random.nextInt(2) << 30) + random.nextInt(4 * 512) * KIB_4, 1 << random.nextInt(2));
            }
        }
    }

    private static void disturb(Vm vm, int hugeSlot, AtomicBoolean stop) {
        Random random = new Random(7);
        while (!stop.get()) {
            vm.zap(random.nextInt(4) * MIB_2, MIB_2);
            MemSlot slot = slotAt(vm, 1L << 30);
            assertEquals(hugeSlot, slot.id());
            vm.startDirtyLog(slot);
            vm.changeSlotFlags(slotAt(vm, 1L << 30));
        }
    }

    /** Frames never change here, so each leaf must show that of its page, whenever it was read. */
    private static long check(Vm vm, TableDump.Root root) {
        long at = 0;
        for (TableRange range : root.ranges()) {
            assertTrue(range.start() >= at, "out of order");
            assertTrue(range.end() > range.start());
            at = range.end();
            if (range.kind() == EntryKind.LEAF) {
                MemSlot slot = slotAt(vm, range.start());
                assertEquals(slot.hpa(range.start() / KIB_4), range.hpa(), range::toString);
                assertTrue(range.entries() * PageSize.values()[range.level() - 1].bytes() >= range.bytes());
                assertEquals(Access.READ, range.permissions() & Access.READ, range::toString);
            } else {
                assertEquals(EntryKind.FROZEN, range.kind(), range::toString);
            }
        }
        return root.ranges().size();
    }
}
