package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** A grace period that takes too long. */
@Name("dev.tdpmmu.Stall")
@Label("Stalled Grace Period")
@Description("A reader keeps retired table pages from being used again")
@Category("TDP MMU")
@StackTrace(false)
final class StallEvent extends Event {
    private static final StallEvent PROBE = new StallEvent();

    @Label("Reader")
    private String reader;

    @Label("Waited")
    @Timespan(Timespan.NANOSECONDS)
    private long waited;

    @Label("Pending Pages")
    private long pendingPages;

    private StallEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static void write(String reader, long waitedNanos, long pendingPages) {
        if (!isOn()) {
            return;
        }
        StallEvent event = new StallEvent();
        event.reader = reader;
        event.waited = waitedNanos;
        event.pendingPages = pendingPages;
        event.commit();
    }
}
