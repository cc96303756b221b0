package dev.tdpmmu.slot;

import dev.tdpmmu.config.PageSize;
import java.util.Objects;

/**
 * Fresh, zero frames that one slot owns.
 *
 * <p>A slot that does not start or end at a multiple of {@code pageSize} gets whole frames all the same, so that the
 * blocks inside can be huge; the VM's memory cap is charged with whole frames.
 *
 * @param pageSize size of the frames
 */
public record AnonymousBacking(PageSize pageSize) implements Backing {
    /** Checks the value. */
    public AnonymousBacking {
        Objects.requireNonNull(pageSize, "pageSize");
    }

    @Override
    public boolean hasBytes() {
        return true;
    }
}
