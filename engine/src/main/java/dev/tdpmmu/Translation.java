package dev.tdpmmu;

import dev.tdpmmu.config.PageSize;

/**
 * Where a guest physical address is mapped now.
 *
 * @param gpa guest physical address
 * @param hpa host physical address of the same byte
 * @param pageSize size of the leaf
 * @param readable whether hardware loads through it
 * @param writable whether hardware stores through it
 * @param executable whether hardware fetches through it
 * @param accessed whether it was used; without A/D bits: whether its accesses are not being tracked
 * @param dirty whether it was stored through; without A/D bits: whether it is writable
 */
public record Translation(
        long gpa,
        long hpa,
        PageSize pageSize,
        boolean readable,
        boolean writable,
        boolean executable,
        boolean accessed,
        boolean dirty) {}
