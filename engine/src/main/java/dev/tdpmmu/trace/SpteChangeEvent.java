package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A change of a linked entry. */
@Name("dev.tdpmmu.SpteChange")
@Label("Entry Change")
@Description("A linked page-table entry was changed")
@Category("TDP MMU")
@StackTrace(false)
@Enabled(false)
final class SpteChangeEvent extends Event {
    private static final SpteChangeEvent PROBE = new SpteChangeEvent();

    @Label("VM")
    @Description("Number of the VM in this process")
    private int vm;

    @Label("GFN")
    @MemoryAddress
    private long gfn;

    @Label("Level")
    @Description("1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB")
    private int level;

    @Label("Old Entry")
    @MemoryAddress
    private long oldSpte;

    @Label("New Entry")
    @MemoryAddress
    private long newSpte;

    private SpteChangeEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static void write(int vm, long gfn, int level, long oldSpte, long newSpte) {
        if (!isOn()) {
            return;
        }
        SpteChangeEvent event = new SpteChangeEvent();
        event.vm = vm;
        event.gfn = gfn;
        event.level = level;
        event.oldSpte = oldSpte;
        event.newSpte = newSpte;
        event.commit();
    }
}
