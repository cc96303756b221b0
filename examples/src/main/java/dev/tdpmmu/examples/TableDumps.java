package dev.tdpmmu.examples;

import dev.tdpmmu.TableDiff;
import dev.tdpmmu.TableDump;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.Vm;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.io.PrintWriter;

/**
 * Looks inside a guest: why a store faults and what becomes of it, what is mapped, and what a dirty log changes.
 *
 * <p>Everything that is printed is a value, which a debugger or a test can look at as well; see {@code
 * docs/13-looking-inside.md}.
 */
final class TableDumps {
    private static final long SMALL_AT = 0;
    private static final long HUGE_AT = 0x40_0000;
    private static final int PAGE = (int) PageSize.SIZE_4K.bytes();

    private TableDumps() {}

    /** Returns whether the log changed all leaves of the slot that it was switched on for, and no other. */
    static boolean run(PrintWriter out, boolean json) {
        // Without the hardware's log a dirty log takes W away, which can be seen in the entries.
        VmConfig config = VmConfig.builder().name("inside").pml(false).build();
        try (Vm vm = new Vm(config);
                Vcpu vcpu = vm.createVcpu()) {
            vm.addMemory(0, SMALL_AT, 2 << 20, PageSize.SIZE_4K);
            MemSlot huge = vm.addSlot(1, HUGE_AT, 4 << 20, Backing.anonymous(PageSize.SIZE_2M));
            for (int page = 0; page < 5; page++) {
                vcpu.putInt(SMALL_AT + page * PAGE, page);
            }

            out.println("# before the first store to the second slot");
            out.println(vcpu.explain(HUGE_AT + 8, Access.WRITE));
            vcpu.putLong(HUGE_AT + 8, 42);
            out.println("# after it");
            out.println(vcpu.explain(HUGE_AT + 8, Access.WRITE));

            TableDump before = vm.dump();
            out.println("# what is mapped");
            out.println(json ? before.toJson() : before.toText());

            vm.startDirtyLog(huge);
            vcpu.putLong(HUGE_AT + 3 * PAGE, 43);
            TableDiff diff = TableDump.diff(before, vm.dump());
            out.println("# what a dirty log and a store have changed");
            out.print(json ? diff.toJson() : diff.toText());
            out.flush();
            return isOnly(diff, huge);
        }
    }

    private static boolean isOnly(TableDiff diff, MemSlot slot) {
        long bytes = 0;
        for (TableDiff.Change change : diff.changes()) {
            if (change.start() < slot.gpa() || change.end() > slot.gpa() + slot.bytes()) {
                return false;
            }
            bytes += change.end() - change.start();
        }
        return bytes == PageSize.SIZE_2M.bytes();
    }
}
