package dev.tdpmmu.sim;

import dev.tdpmmu.FaultObserver;
import org.HdrHistogram.AtomicHistogram;
import org.HdrHistogram.Histogram;

/**
 * Latencies of the exits of a whole fleet, in a fixed number of histograms.
 *
 * <p>Safe for use by many threads: recording is an atomic increment.
 */
final class FaultLatencies {
    /** A power of two, several times the processors that a vCPU's thread may run on in practice. */
    private static final int STRIPES = 32;

    private static final long MAX_NANOS = 60_000_000_000L;
    private static final int DIGITS = 3;

    private final Recorder[] stripes = new Recorder[STRIPES];

    // Design note. One histogram a vCPU would be without any sharing, but at three digits it takes 200 KiB: 2 GiB of
    // heap for 10,000 vCPUs. A virtual thread cannot ask which carrier it is on, so there is no histogram a processor
    // either. Instead vCPUs share 32 histograms of atomic counters. Two vCPUs that fault at the same instant meet in
    // one stripe one time in 32, and even then only a cache line is passed, which a fault, microseconds apart from
    // the next, does not feel.

    FaultLatencies() {
        for (int index = 0; index < STRIPES; index++) {
            stripes[index] = new Recorder();
        }
    }

    /** Returns where a vCPU shall report its faults. */
    FaultObserver observer(int vcpu) {
        return stripes[vcpu & STRIPES - 1];
    }

    /** Returns all that was recorded. Exact while nobody records. */
    Histogram sum() {
        Histogram sum = new Histogram(MAX_NANOS, DIGITS);
        for (Recorder stripe : stripes) {
            sum.add(stripe.histogram);
        }
        return sum;
    }

    private static final class Recorder implements FaultObserver {
        private final AtomicHistogram histogram = new AtomicHistogram(MAX_NANOS, DIGITS);

        @Override
        public void faultHandled(long nanos) {
            // The histogram would throw beyond its range, in the middle of a guest's access.
            histogram.recordValue(Math.min(nanos, MAX_NANOS));
        }
    }
}
