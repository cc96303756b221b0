/**
 * Memory slots: which guest frames exist, what stands behind them, which were stored to, and how the set changes while
 * guests run.
 *
 * <p>Readers take one immutable {@link dev.tdpmmu.slot.MemSlots} snapshot and work on it without a lock. Changes are
 * made under the slots lock, the outermost lock of the VM, and each publishes a whole new snapshot with the next
 * generation. This floor never touches page tables: whoever changes slots removes the old mappings, waits for the grace
 * period, and only then completes the {@link dev.tdpmmu.slot.SlotChange}, which lets the frames go. What stands behind
 * a slot may itself change while guests run: {@link dev.tdpmmu.slot.HostPages} announces it to whoever has mapped it.
 * Which pages of a slot were stored to is kept in a {@link dev.tdpmmu.slot.DirtyBitmap}, or in a {@link
 * dev.tdpmmu.slot.DirtyRing} for each vCPU; both are marked without a lock. First class to read: {@link
 * dev.tdpmmu.slot.MemSlot}, then {@link dev.tdpmmu.slot.SlotRegistry}.
 */
package dev.tdpmmu.slot;
