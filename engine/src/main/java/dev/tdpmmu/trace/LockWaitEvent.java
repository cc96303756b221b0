package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/** A wait for the MMU lock; {@link Trace#beginLockWait} makes one. */
@Name("dev.tdpmmu.LockWait")
@Label("MMU Lock Wait")
@Description("The MMU lock was not free")
@Category("TDP MMU")
@StackTrace(false)
@Threshold("1 ms")
public final class LockWaitEvent extends Event {
    private static final LockWaitEvent PROBE = new LockWaitEvent();

    @Label("Lock Mode")
    private String mode;

    private LockWaitEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static LockWaitEvent start() {
        if (!isOn()) {
            return null;
        }
        LockWaitEvent event = new LockWaitEvent();
        event.begin();
        return event;
    }

    void finish(Enum<?> mode) {
        end();
        if (shouldCommit()) {
            this.mode = mode.name();
            commit();
        }
    }
}
