package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A return of retired table pages. */
@Name("dev.tdpmmu.Reclaim")
@Label("Reclaim")
@Description("Retired table pages went back to the pool")
@Category("TDP MMU")
@StackTrace(false)
@Enabled(false)
final class ReclaimEvent extends Event {
    private static final ReclaimEvent PROBE = new ReclaimEvent();

    @Label("Pages")
    @Description("Table pages that went back")
    private int pages;

    @Label("Pending Pages")
    @Description("Table pages that still wait for a grace period")
    private long pendingPages;

    private ReclaimEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static void write(int pages, long pendingPages) {
        if (!isOn()) {
            return;
        }
        ReclaimEvent event = new ReclaimEvent();
        event.pages = pages;
        event.pendingPages = pendingPages;
        event.commit();
    }
}
