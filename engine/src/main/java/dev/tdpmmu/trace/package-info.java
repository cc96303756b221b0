/**
 * Flight-recorder events of the engine: faults, changes of entries, zaps, flushes, waits, reclaim.
 *
 * <p>Callers use {@link dev.tdpmmu.trace.Trace} alone and may do so under any lock and in any section: nothing here
 * waits for a thread of the engine. As long as no recording runs, an event costs one load and a branch, and no event
 * class is loaded. First class to read: {@link dev.tdpmmu.trace.Trace}.
 */
package dev.tdpmmu.trace;
