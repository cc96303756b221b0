package dev.tdpmmu.trace;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A harvest of the dirty log; {@link Trace#beginDirtyHarvest} makes one. */
@Name("dev.tdpmmu.DirtyHarvest")
@Label("Dirty Harvest")
@Description("Dirty pages of a slot were handed out")
@Category("TDP MMU")
@StackTrace(false)
public final class DirtyHarvestEvent extends Event {
    private static final DirtyHarvestEvent PROBE = new DirtyHarvestEvent();

    @Label("Slot")
    private int slot;

    @Label("Dirty Pages")
    private long dirtyPages;

    private DirtyHarvestEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static DirtyHarvestEvent start() {
        if (!isOn()) {
            return null;
        }
        DirtyHarvestEvent event = new DirtyHarvestEvent();
        event.begin();
        return event;
    }

    void finish(int slot, long dirtyPages) {
        end();
        if (shouldCommit()) {
            this.slot = slot;
            this.dirtyPages = dirtyPages;
            commit();
        }
    }
}
