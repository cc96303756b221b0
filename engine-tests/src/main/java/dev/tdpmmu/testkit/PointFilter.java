package dev.tdpmmu.testkit;

import dev.tdpmmu.memory.Interleave;

/**
 * Chooses the interleaving points at which the explorer may switch; what is left out runs as one step with what
 * precedes it.
 *
 * <p>Leaving points out shrinks the search and its meaning: a race between two points that are left out cannot be
 * found. Leave out only words that no two actors share, or that never change while the actors run. Waits are never
 * left out.
 */
@FunctionalInterface
public interface PointFilter {
    /** Every point. */
    PointFilter ALL = (kind, address) -> true;

    /**
     * Tells whether the explorer may switch here.
     *
     * @param kind what follows the point
     * @param address host physical address, or 0 for a step
     * @return whether the point counts
     */
    boolean includes(Interleave.Kind kind, long address);

    /**
     * Keeps points of one address range, and all steps.
     *
     * @param startAddress first byte
     * @param endAddress byte behind the last
     * @return the filter
     */
    static PointFilter range(long startAddress, long endAddress) {
        return (kind, address) -> kind == Interleave.Kind.STEP || (address >= startAddress && address < endAddress);
    }

    /**
     * Keeps points that either filter keeps.
     *
     * @param other the other filter
     * @return the filter
     */
    default PointFilter or(PointFilter other) {
        return (kind, address) -> includes(kind, address) || other.includes(kind, address);
    }

    /**
     * Drops loads from one address range, for words that do not change while the actors run.
     *
     * @param startAddress first byte
     * @param endAddress byte behind the last
     * @return the filter
     */
    default PointFilter withoutReads(long startAddress, long endAddress) {
        return (kind, address) -> includes(kind, address)
                && !(kind == Interleave.Kind.READ && address >= startAddress && address < endAddress);
    }
}
