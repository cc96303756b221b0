package dev.tdpmmu.slot;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.memory.FrameRun;

/** What stands behind a slot, and how large its pages are. A value: frames are taken when a slot is added, not before. */
public sealed interface Backing permits AnonymousBacking, HeldBacking, HostBacking, SyntheticBacking {
    /**
     * Returns a backing by fresh, zero frames that the slot alone owns.
     *
     * @param pageSize size of the frames, and so of the largest leaf
     * @return the backing
     */
    static Backing anonymous(PageSize pageSize) {
        return new AnonymousBacking(pageSize);
    }

    /**
     * Returns a backing by frames that the caller holds, so that several slots or VMs can share them.
     *
     * @param run the frames; each slot holds them as long as it lives, whatever the caller does
     * @param offsetInBytes where in the run the slot starts, not negative, multiple of 4096
     * @return the backing
     * @throws SlotException if the offset is no such number
     */
    static Backing held(FrameRun run, long offsetInBytes) {
        return new HeldBacking(run, offsetInBytes);
    }

    /**
     * Returns a backing by pages as an operating system has them, which may go away, move or lose the right to be
     * written while the guest runs.
     *
     * @param pages the pages; each slot holds them as long as it lives, whatever the caller does
     * @param offsetInBytes where in the pages the slot starts, not negative, multiple of 4096
     * @return the backing
     * @throws SlotException if the offset is no such number
     */
    static Backing host(HostPages pages, long offsetInBytes) {
        return new HostBacking(pages, offsetInBytes);
    }

    /**
     * Returns a backing by frame numbers without bytes, for tables of more memory than the host has.
     *
     * @param pageSize size of the largest leaf
     * @return the backing
     */
    static Backing synthetic(PageSize pageSize) {
        return new SyntheticBacking(pageSize);
    }

    /**
     * Returns the size of the frames, which bounds that of leaves.
     *
     * @return the size
     */
    PageSize pageSize();

    /**
     * Tells whether a guest may read and write what is mapped.
     *
     * @return whether there are bytes behind the frame numbers
     */
    boolean hasBytes();
}
