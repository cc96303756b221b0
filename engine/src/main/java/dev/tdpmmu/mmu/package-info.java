/**
 * The MMU: roots, the cursor over their tables, the setters of linked entries with all bookkeeping, faults, the
 * operations on gfn ranges (zap, unmap, dirty logging, ageing, split and recovery of huge leaves, watch of stores),
 * and the checks of the whole tree.
 *
 * <p>Every change of a linked entry happens under the MMU lock (shared or exclusive) and inside an epoch; the
 * exceptions are the lock-free fast fix, ageing, and what hardware writes. This floor never sees a TLB or a walker: it
 * asks for flushes through {@link dev.tdpmmu.mmu.RemoteTlb}. First class to read: {@link dev.tdpmmu.mmu.TdpMmu}, then
 * {@link dev.tdpmmu.mmu.FaultHandler} and {@link dev.tdpmmu.mmu.RangeOperations}.
 */
package dev.tdpmmu.mmu;
