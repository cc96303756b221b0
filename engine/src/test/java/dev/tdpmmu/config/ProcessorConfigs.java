package dev.tdpmmu.config;

import java.util.ArrayList;
import java.util.List;

/** The processors that tests of entry formats and walkers go through. */
public final class ProcessorConfigs {
    private ProcessorConfigs() {}

    /** Every mode, with every choice that changes what an entry means. */
    public static List<VmConfig> all() {
        return builders().stream().map(VmConfig.Builder::build).toList();
    }

    /** The same, to be completed. */
    public static List<VmConfig.Builder> builders() {
        var configs = new ArrayList<VmConfig.Builder>();
        for (PagingMode mode : PagingMode.values()) {
            for (int bits = 0; bits < 8; bits++) {
                boolean first = (bits & 1) != 0;
                boolean second = (bits & 2) != 0;
                boolean third = (bits & 4) != 0;
                if (mode.isEpt()) {
                    configs.add(ept(mode, first ? AccessedDirty.ON : AccessedDirty.OFF, second, third));
                } else if (!third) {
                    configs.add(npt(mode, first, second));
                }
            }
        }
        return List.copyOf(configs);
    }

    private static VmConfig.Builder ept(
            PagingMode mode, AccessedDirty accessedDirty, boolean executeOnly, boolean modeBasedExecute) {
        return VmConfig.builder()
                .pagingMode(mode)
                .accessedDirty(accessedDirty)
                .executeOnly(executeOnly)
                .hardware(HardwareConfig.DEFAULT.withModeBasedExecute(modeBasedExecute))
                .name(mode
                        + (accessedDirty == AccessedDirty.ON ? " a/d" : "")
                        + (executeOnly ? " x-only" : "")
                        + (modeBasedExecute ? " mbec" : ""));
    }

    private static VmConfig.Builder npt(PagingMode mode, boolean noExecute, boolean guestModeExecuteTrap) {
        return VmConfig.builder()
                .pagingMode(mode)
                .hardware(
                        HardwareConfig.DEFAULT.withNoExecute(noExecute).withGuestModeExecuteTrap(guestModeExecuteTrap))
                .name(mode + (noExecute ? " nx" : "") + (guestModeExecuteTrap ? " gmet" : ""));
    }
}
