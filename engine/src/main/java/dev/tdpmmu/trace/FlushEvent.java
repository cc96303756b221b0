package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/** A remote flush and its wait; {@link Trace#beginFlush} makes one. */
@Name("dev.tdpmmu.Flush")
@Label("Remote TLB Flush")
@Description("Translations were removed from the TLBs of all vCPUs; the duration is the wait for them")
@Category("TDP MMU")
@StackTrace(false)
@Threshold("1 ms")
public final class FlushEvent extends Event {
    private static final FlushEvent PROBE = new FlushEvent();

    @Label("Start GFN")
    @MemoryAddress
    private long startGfn;

    @Label("End GFN")
    @Description("Behind the last frame")
    @MemoryAddress
    private long endGfn;

    @Label("Coalesced")
    @Description("Whether the wait of another flush was this one's")
    private boolean coalesced;

    private FlushEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static FlushEvent start() {
        if (!isOn()) {
            return null;
        }
        FlushEvent event = new FlushEvent();
        event.begin();
        return event;
    }

    void finish(long startGfn, long endGfn, boolean coalesced) {
        end();
        if (shouldCommit()) {
            this.startGfn = startGfn;
            this.endGfn = endGfn;
            this.coalesced = coalesced;
            commit();
        }
    }
}
