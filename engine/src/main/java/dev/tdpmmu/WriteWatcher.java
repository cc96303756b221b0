package dev.tdpmmu;

/** Who is told of stores to watched pages. */
@FunctionalInterface
public interface WriteWatcher {
    /**
     * Says that a vCPU has stored. Called on its thread, outside every section, after the store was made; may use the
     * VM and the vCPU. What it throws ends the access.
     *
     * @param gpa guest physical address of the first byte
     * @param bytes 1 to 8, within one page
     * @param value what was stored, little-endian, in the low bytes
     */
    void written(long gpa, int bytes, long value);
}
