/**
 * Entry formats and their vocabulary: what the bits of a page-table entry mean to the MMU.
 *
 * <p>The floor promises that every maker returns a legal entry and that predicates and makers agree. It has no
 * state, no locks, and never touches memory: entries come and go as {@code long} values, so everything here may be
 * called by any thread. The emulated hardware never uses this package; it decodes the same bits by its own code
 * and so judges ours. First classes to read: {@link dev.tdpmmu.spte.Spte}, then
 * {@link dev.tdpmmu.spte.SpteFormat}, with the drawings in {@link dev.tdpmmu.spte.EptLayout} and
 * {@link dev.tdpmmu.spte.NptLayout}.
 */
package dev.tdpmmu.spte;
