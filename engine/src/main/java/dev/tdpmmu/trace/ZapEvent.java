package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A zap of a range; {@link Trace#beginZap} makes one. */
@Name("dev.tdpmmu.Zap")
@Label("Zap")
@Description("Entries of a range of guest frames were removed")
@Category("TDP MMU")
@StackTrace(false)
public final class ZapEvent extends Event {
    private static final ZapEvent PROBE = new ZapEvent();

    @Label("Start GFN")
    @MemoryAddress
    private long startGfn;

    @Label("End GFN")
    @Description("Behind the last frame")
    @MemoryAddress
    private long endGfn;

    @Label("Lock Mode")
    private String mode;

    @Label("Entries")
    @Description("Entries that were removed")
    private long entries;

    private ZapEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static ZapEvent start() {
        if (!isOn()) {
            return null;
        }
        ZapEvent event = new ZapEvent();
        event.begin();
        return event;
    }

    void finish(long startGfn, long endGfn, Enum<?> mode, long entries) {
        end();
        if (shouldCommit()) {
            this.startGfn = startGfn;
            this.endGfn = endGfn;
            this.mode = mode.name();
            this.entries = entries;
            commit();
        }
    }
}
