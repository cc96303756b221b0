package dev.tdpmmu;

/**
 * A device: does the loads and stores to a range of guest physical addresses without a slot.
 *
 * <p>Called on the thread of the vCPU, outside every lock and section: the handler may block, use the VM, change its
 * slots, and even use the same vCPU again. Calls come from several vCPUs at the same time.
 */
public interface MmioHandler {
    /**
     * Loads.
     *
     * @param gpa guest physical address
     * @param bytes 1, 2, 4 or 8
     * @return the value in the low bytes; higher ones are ignored
     */
    long read(long gpa, int bytes);

    /**
     * Stores.
     *
     * @param gpa guest physical address
     * @param bytes 1, 2, 4 or 8
     * @param value the value in the low bytes, the rest zero
     */
    void write(long gpa, int bytes, long value);
}
