package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/** A wait for a grace period; {@link Trace#beginGracePeriod} makes one. */
@Name("dev.tdpmmu.GracePeriod")
@Label("Grace Period")
@Description("A wait until every reader left its section")
@Category("TDP MMU")
@StackTrace(false)
@Threshold("1 ms")
public final class GracePeriodEvent extends Event {
    private static final GracePeriodEvent PROBE = new GracePeriodEvent();

    @Label("Purpose")
    private String purpose;

    private GracePeriodEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static GracePeriodEvent start() {
        if (!isOn()) {
            return null;
        }
        GracePeriodEvent event = new GracePeriodEvent();
        event.begin();
        return event;
    }

    void finish(String purpose) {
        end();
        if (shouldCommit()) {
            this.purpose = purpose;
            commit();
        }
    }
}
