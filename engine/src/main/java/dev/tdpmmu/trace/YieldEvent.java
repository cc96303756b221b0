package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/** A yield of the MMU lock; {@link Trace#beginYield} makes one. */
@Name("dev.tdpmmu.Yield")
@Label("MMU Lock Yield")
@Description("An operation over a range let others take the MMU lock")
@Category("TDP MMU")
@StackTrace(false)
@Threshold("1 ms")
public final class YieldEvent extends Event {
    private static final YieldEvent PROBE = new YieldEvent();

    @Label("GFN")
    @Description("Where the operation goes on")
    @MemoryAddress
    private long gfn;

    @Label("Lock Mode")
    private String mode;

    private YieldEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static YieldEvent start() {
        if (!isOn()) {
            return null;
        }
        YieldEvent event = new YieldEvent();
        event.begin();
        return event;
    }

    void finish(long gfn, Enum<?> mode) {
        end();
        if (shouldCommit()) {
            this.gfn = gfn;
            this.mode = mode.name();
            commit();
        }
    }
}
