/**
 * The API: a virtual machine with memory slots, vCPUs that load, store and fetch through second-level page tables, a
 * device's view of the same memory, MMIO handlers, and statistics.
 *
 * <p>This is the only place where the MMU and the emulated hardware meet. Start with {@link dev.tdpmmu.Vm}; a
 * {@link dev.tdpmmu.Vcpu} belongs to one thread at a time, platform or virtual.
 */
package dev.tdpmmu;
