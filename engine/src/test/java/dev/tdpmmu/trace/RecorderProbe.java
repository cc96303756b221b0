package dev.tdpmmu.trace;

import dev.tdpmmu.Vm;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import jdk.jfr.EventType;
import jdk.jfr.FlightRecorder;

/** Uses a VM and writes an event in a process whose options decide whether a recorder exists. */
final class RecorderProbe {
    private RecorderProbe() {}

    public static void main(String[] arguments) {
        // Before any event: what is registered now is what the start of the recording registered.
        String events = Trace.isOn() ? ", registered=" + RecorderView.registered() : "";
        long read;
        try (Vm vm = new Vm(VmConfig.builder().build())) {
            vm.addSlot(0, 0, PageSize.SIZE_4K.bytes(), Backing.anonymous(PageSize.SIZE_4K));
            var vcpu = vm.createVcpu();
            vcpu.putLong(8, 42);
            read = vcpu.getLong(8);
        }
        Trace.endZap(Trace.beginZap(), 1, 2, PageSize.SIZE_4K, 3);
        Trace.stalled("probe", 4, 5);
        System.out.print("read=" + read + ", on=" + Trace.isOn() + ", recorder=" + recorder() + events);
    }

    private static String recorder() {
        return ModuleLayer.boot().findModule("jdk.jfr").isEmpty() ? "absent" : RecorderView.state();
    }

    /** Apart, because there may be no such class. */
    private static final class RecorderView {
        static String state() {
            return FlightRecorder.isInitialized() ? "initialised" : "untouched";
        }

        static int registered() {
            int registered = 0;
            for (EventType type : FlightRecorder.getFlightRecorder().getEventTypes()) {
                registered += type.getName().startsWith("dev.tdpmmu.") ? 1 : 0;
            }
            return registered;
        }
    }
}
