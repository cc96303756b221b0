package dev.tdpmmu.trace;

import dev.tdpmmu.base.Access;
import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.MemoryAddress;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A violation that the MMU handled; {@link Trace#beginFault} makes one. */
@Name("dev.tdpmmu.Fault")
@Label("Guest Page Fault")
@Description("A violation, from the exit to the answer of the MMU")
@Category("TDP MMU")
@StackTrace(false)
@Enabled(false)
public final class FaultEvent extends Event {
    private static final FaultEvent PROBE = new FaultEvent();

    @Label("VM")
    @Description("Number of the VM in this process")
    private int vm;

    @Label("GFN")
    @MemoryAddress
    private long gfn;

    @Label("Level")
    @Description("Level of the mapping, 1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB; 0 if none was made")
    private int level;

    @Label("Access")
    @Description("What the guest wanted, as rwx")
    private String access;

    @Label("Fast Fix")
    @Description("Whether it was fixed without the MMU lock")
    private boolean fast;

    @Label("Result")
    private String result;

    private FaultEvent() {}

    static boolean isOn() {
        return PROBE.isEnabled();
    }

    static FaultEvent start() {
        if (!isOn()) {
            return null;
        }
        FaultEvent event = new FaultEvent();
        event.begin();
        return event;
    }

    void finish(int vm, long gfn, int level, int access, boolean fast, Enum<?> result) {
        end();
        if (shouldCommit()) {
            this.vm = vm;
            this.gfn = gfn;
            this.level = level;
            this.access = Access.text(access);
            this.fast = fast;
            this.result = result.name();
            commit();
        }
    }
}
