/**
 * The emulated processor's side of second-level paging: walkers for EPT and NPT entries, a TLB, a log of the pages
 * that became dirty, and the words in which the hardware reports a fault.
 *
 * <p>The floor promises to do what the processor manuals say with whatever it finds in the tables, and never to
 * look at how the MMU thinks of an entry: bits are decoded here a second time, by other code, so that the hardware
 * can judge the MMU. A walker takes no lock, reads entries with acquire, and writes nothing but accessed and dirty
 * bits, by exchanges that it repeats from the start when they are lost; its caller is inside an epoch. A
 * {@link dev.tdpmmu.hardware.Tlb} and a {@link dev.tdpmmu.hardware.WalkResult} belong to one thread. A {@link
 * dev.tdpmmu.hardware.PmlBuffer} is filled by that thread without a lock and emptied by any under the log's own lock,
 * the innermost of all. In proof runs a {@link dev.tdpmmu.hardware.CoherenceOracle}, which all threads share, judges
 * each use of a cached entry by the flushes that have completed. The tables of a guest with paging of its own are in
 * guest memory: {@link dev.tdpmmu.hardware.GuestPageWalker} walks them through the others. First class to read: {@link
 * dev.tdpmmu.hardware.HardwareWalker}.
 */
package dev.tdpmmu.hardware;
