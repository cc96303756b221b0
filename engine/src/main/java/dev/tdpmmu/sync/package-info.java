/**
 * Locks, epochs and reclaim: the MMU lock with its three policies, reader slots that serve lock, epoch and shoot-down
 * at once, the domain that waits for grace periods, and the checker of lock ranks.
 *
 * <p>Lock order, outer to inner: host lock, slots lock, notifier gate, MMU lock, pages lock. An epoch may be entered
 * with or without locks; inside it nobody parks, yields or waits for a grace period. First class to read: {@link
 * dev.tdpmmu.sync.ReaderSlot}.
 */
package dev.tdpmmu.sync;
