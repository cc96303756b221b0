/** Programs to run and to read: one intention each. First: {@link dev.tdpmmu.examples.FirstGuest}. */
package dev.tdpmmu.examples;
