package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A split of a huge leaf. */
@Name("dev.tdpmmu.Split")
@Label("Huge Page Split")
@Description("A huge leaf was replaced by a table of smaller ones")
@Category("TDP MMU")
@StackTrace(false)
@Enabled(false)
final class SplitEvent extends Event {
    private static final SplitEvent PROBE = new SplitEvent();

    @Label("GFN")
    @MemoryAddress
    private long gfn;

    @Label("Level")
    @Description("Level of the huge leaf, 2 = 2 MiB, 3 = 1 GiB")
    private int level;

    @Label("Eager")
    @Description("Whether an operation split it ahead of the faults")
    private boolean eager;

    private SplitEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static void write(long gfn, int level, boolean eager) {
        if (!isOn()) {
            return;
        }
        SplitEvent event = new SplitEvent();
        event.gfn = gfn;
        event.level = level;
        event.eager = eager;
        event.commit();
    }
}
