package dev.tdpmmu.spte;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.HotPath;

/**
 * What all entry formats share: the special values, and the bits that lie in the same place everywhere.
 *
 * <p>An entry is in exactly one of these states:
 *
 * <pre>
 *  state       | value                        | hardware sees          | MMU present
 *  non-present | 0                            | not present            | no
 *  frozen      | FROZEN                       | not present            | no
 *  MMIO        | see SpteFormat.makeMmio      | misconfiguration       | no
 *  table       | address of a table page      | next level             | yes
 *  leaf        | address of a guest's page    | translation            | yes
 *  tracked     | leaf without R, W, X         | not present            | yes
 * </pre>
 *
 * @kvm arch/x86/kvm/mmu/spte.h
 */
public final class Spte {
    /**
     * Maps nothing.
     *
     * <p>KVM's value has bit 63, which suppresses virtualisation exceptions (#VE). We do not model #VE, and a
     * fresh page of the operating system is then an empty table as it stands.
     *
     * @kvm SHADOW_NONPRESENT_VALUE
     */
    public static final long NON_PRESENT = 0L;

    /**
     * Belongs to the thread that put it there, until that thread replaces it; everybody else goes away and retries.
     *
     * <p>Not present to hardware in any format, and no value that a maker returns. KVM's marker also has bit 10, by
     * which hardware with mode-based execute control would take it for an entry that allows user-mode fetches.
     *
     * @kvm FROZEN_SPTE
     */
    public static final long FROZEN = (1L << 63) | 0x1a0L;

    /**
     * Set in every leaf and table entry, also in a leaf that hardware sees as absent because its accesses are
     * tracked.
     *
     * @kvm SPTE_MMU_PRESENT_MASK
     */
    public static final long MMU_PRESENT = 1L << 11;

    /**
     * Makes an entry of level 2 or 3 a leaf.
     *
     * @kvm PT_PAGE_SIZE_MASK
     */
    public static final long PAGE_SIZE = 1L << 7;

    /** Address bits 51:12 of a table or leaf entry. */
    static final long ADDRESS = ((1L << 52) - 1) & -Gfn.PAGE_SIZE;

    private Spte() {}

    /**
     * Tells whether some thread owns the entry and is about to replace it.
     *
     * @param spte entry
     * @return whether it is {@link #FROZEN}
     * @kvm is_frozen_spte
     */
    @HotPath
    public static boolean isFrozen(long spte) {
        return spte == FROZEN;
    }

    /**
     * Tells whether the entry is a leaf or points to a table.
     *
     * @param spte entry
     * @return whether it has {@link #MMU_PRESENT}
     * @kvm is_shadow_present_pte
     */
    @HotPath
    public static boolean isMmuPresent(long spte) {
        return (spte & MMU_PRESENT) != 0;
    }

    /**
     * Tells whether an entry above level 1 points to a table. The same for all formats.
     *
     * @param spte entry of level 2 to 5
     * @return whether it is MMU present and no leaf
     */
    @HotPath
    public static boolean isTable(long spte) {
        return (spte & (MMU_PRESENT | PAGE_SIZE)) == MMU_PRESENT;
    }

    /**
     * Returns where a leaf or table entry points to. The same for all formats.
     *
     * @param spte MMU-present entry
     * @return host physical address of the page (for a huge leaf: of its first byte) or of the table page
     */
    @HotPath
    public static long address(long spte) {
        return spte & ADDRESS;
    }

    /**
     * Makes the huge leaf that has the permissions of a smaller one. The same for all formats.
     *
     * @param smallSpte leaf of a level below
     * @param hpa host physical address of the huge page, aligned to its size
     * @return the huge leaf
     * @kvm make_huge_spte
     */
    public static long makeHuge(long smallSpte, long hpa) {
        return smallSpte & ~ADDRESS | hpa | PAGE_SIZE;
    }
}
