package dev.tdpmmu.mmu;

/**
 * What the MMU would do with a fault if nothing changed meanwhile.
 *
 * @param answer what it does
 * @param level level of the leaf that it makes or changes, 1 to 3; 0 if it makes and changes none
 * @param watched whether stores to the frame are reported to somebody
 */
public record FaultForecast(FaultAnswer answer, int level, boolean watched) {}
