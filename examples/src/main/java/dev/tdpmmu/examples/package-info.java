/**
 * Programs to run and to read: one intention each. First: {@link dev.tdpmmu.examples.FirstGuest}; then the loops of a
 * hypervisor, from {@link dev.tdpmmu.examples.PreCopyDirtyLoop} on.
 */
package dev.tdpmmu.examples;
