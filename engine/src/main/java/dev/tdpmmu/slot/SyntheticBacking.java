package dev.tdpmmu.slot;

import dev.tdpmmu.config.PageSize;
import java.util.Objects;

/**
 * Frame numbers without bytes: tables can map terabytes that no host here has. Costs no memory and charges none.
 *
 * <p>The frames lie in the upper half of the host physical address space, where {@link dev.tdpmmu.memory.HostMemory}
 * never is; guest addresses that differ by half the space or more may share frame numbers. An access to such memory is
 * a mistake of the caller, which {@link MemSlot#hasBytes} tells.
 *
 * @param pageSize size of the largest leaf
 */
public record SyntheticBacking(PageSize pageSize) implements Backing {
    /** Checks the value. */
    public SyntheticBacking {
        Objects.requireNonNull(pageSize, "pageSize");
    }

    @Override
    public boolean hasBytes() {
        return false;
    }
}
