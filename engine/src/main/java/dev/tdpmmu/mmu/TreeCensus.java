package dev.tdpmmu.mmu;

/**
 * What a walk over all tables of a VM found.
 *
 * @param pages4k leaves of 4 KiB
 * @param pages2m leaves of 2 MiB
 * @param pages1g leaves of 1 GiB
 * @param tablePages table pages, roots included
 * @param mmioEntries entries for gfns without a slot
 * @param roots roots, valid and invalid
 */
public record TreeCensus(long pages4k, long pages2m, long pages1g, long tablePages, long mmioEntries, int roots) {}
