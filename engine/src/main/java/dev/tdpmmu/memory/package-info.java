/**
 * Host memory: the reserved range, the one seam through which every off-heap word is read and written, table pages with
 * their headers, guest frames, and the account that caps them.
 *
 * <p>Only this package knows {@code MemorySegment}. Accessors carry the access mode in their names; every access to a
 * word that several threads share is an interleaving point at debug level {@code prove}. No lock of this floor is held
 * while code of another floor runs. First class to read: {@link dev.tdpmmu.memory.HostMemory}, then {@link
 * dev.tdpmmu.memory.SpteAccess}.
 */
package dev.tdpmmu.memory;
