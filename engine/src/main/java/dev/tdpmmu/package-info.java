/**
 * The API: a virtual machine with memory slots, vCPUs that load, store and fetch through second-level page tables, a
 * device's view of the same memory, MMIO handlers, and statistics.
 *
 * <p>While vCPUs run, slots come, go and move ({@link dev.tdpmmu.Vm}), stores are logged ({@link
 * dev.tdpmmu.DirtyLog}), pages age ({@link dev.tdpmmu.Ageing}, {@link dev.tdpmmu.WorkingSet}) or are watched ({@link
 * dev.tdpmmu.WriteWatch}), frames are taken away ({@link dev.tdpmmu.Vm#discard}, {@link dev.tdpmmu.slot.HostPages}),
 * and huge pages lose the right to be executed ({@link dev.tdpmmu.NxHugePages}). Why an access is refused ({@link
 * dev.tdpmmu.Vm#explain}, {@link dev.tdpmmu.Vcpu#explain}) and what is mapped ({@link dev.tdpmmu.Vm#dump}) can be asked
 * at any time.
 *
 * <p>This is the only place where the MMU and the emulated hardware meet. Start with {@link dev.tdpmmu.Vm}; a
 * {@link dev.tdpmmu.Vcpu} belongs to one thread at a time, platform or virtual.
 */
package dev.tdpmmu;
