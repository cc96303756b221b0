/**
 * Ground floor: guest frame arithmetic, paging levels, access bits, debug switches and the annotations of the house.
 *
 * <p>Nothing here has state, except {@link dev.tdpmmu.base.Debug}, which reads its level once. First class to read:
 * {@link dev.tdpmmu.base.PagingLevel}.
 */
package dev.tdpmmu.base;
