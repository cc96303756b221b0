package dev.tdpmmu.sync;

import java.time.Duration;

/**
 * A grace period that takes too long, and who holds it.
 *
 * @param readerName name of the vCPU or worker
 * @param mode what it is doing, see {@link ReaderSlot}
 * @param waited how long the oldest batch has waited
 * @param retiredPages table pages that wait
 */
public record StallReport(String readerName, int mode, Duration waited, long retiredPages) {
    /**
     * Writes the report in one line.
     *
     * @return text with the reader's name
     */
    @Override
    public String toString() {
        return "grace period stalled: reader=" + readerName + ", mode=" + mode + ", waitedMillis=" + waited.toMillis()
                + ", retiredPages=" + retiredPages;
    }
}
