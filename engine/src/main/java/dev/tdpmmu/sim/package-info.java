/**
 * Fleets of vCPUs and what they do: traces of real programs, their replay with checked data, and the boot scenario.
 *
 * <p>Sees the API and nothing below it, as any embedder does. First: {@link dev.tdpmmu.sim.Boot}.
 */
package dev.tdpmmu.sim;
