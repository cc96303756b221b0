package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A recovery of a huge leaf. */
@Name("dev.tdpmmu.Recover")
@Label("Huge Page Recovery")
@Description("A table was replaced by a huge leaf")
@Category("TDP MMU")
@StackTrace(false)
@Enabled(false)
final class RecoverEvent extends Event {
    private static final RecoverEvent PROBE = new RecoverEvent();

    @Label("GFN")
    @MemoryAddress
    private long gfn;

    @Label("Level")
    @Description("Level of the new huge leaf, 2 = 2 MiB, 3 = 1 GiB")
    private int level;

    private RecoverEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static void write(long gfn, int level) {
        if (!isOn()) {
            return;
        }
        RecoverEvent event = new RecoverEvent();
        event.gfn = gfn;
        event.level = level;
        event.commit();
    }
}
