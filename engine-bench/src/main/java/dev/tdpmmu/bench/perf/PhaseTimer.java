package dev.tdpmmu.bench.perf;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.LongSupplier;

/** Times the phases of one repetition. For one thread. */
final class PhaseTimer {
    /**
     * What one phase took.
     *
     * @param nanos wall time
     * @param cpuNanos CPU time of all threads, {@link #NOT_MEASURED} for a part of a phase
     * @param operations what was done in it, in the phase's own unit; 0 if there is none
     */
    record Sample(long nanos, long cpuNanos, long operations) {
        /** No CPU time. */
        static final long NOT_MEASURED = -1;

        private Sample plus(Sample more) {
            boolean measured = cpuNanos != NOT_MEASURED && more.cpuNanos != NOT_MEASURED;
            return new Sample(
                    nanos + more.nanos,
                    measured ? cpuNanos + more.cpuNanos : NOT_MEASURED,
                    operations + more.operations);
        }
    }

    private final CpuClock cpu = new CpuClock();
    private final Map<String, Sample> samples = new LinkedHashMap<>();
    private final Map<String, Long> counters = new LinkedHashMap<>();

    /**
     * Runs a piece of work and books its time. Booked under a phase that is there already, it is added to it.
     *
     * @param phase its name
     * @param work returns how many operations it has done
     * @return that number
     */
    long time(String phase, LongSupplier work) {
        cpu.begin();
        long begin = System.nanoTime();
        long operations = work.getAsLong();
        long nanos = System.nanoTime() - begin;
        book(phase, new Sample(nanos, cpu.end(), operations));
        return operations;
    }

    /**
     * Books the time of a part of a phase that is being timed, under a name of its own. Without its CPU time: asking
     * for that takes as long as some parts do.
     *
     * @param name of the part
     * @param part one operation
     */
    void timePart(String name, Runnable part) {
        long begin = System.nanoTime();
        part.run();
        book(name, new Sample(System.nanoTime() - begin, Sample.NOT_MEASURED, 1));
    }

    private void book(String phase, Sample sample) {
        samples.merge(phase, sample, Sample::plus);
    }

    /** Adds to a number that belongs beside the times. */
    void count(String name, long value) {
        counters.merge(name, value, Long::sum);
    }

    /** In the order in which they were booked first. */
    Map<String, Sample> samples() {
        return Collections.unmodifiableMap(samples);
    }

    Map<String, Long> counters() {
        return Collections.unmodifiableMap(counters);
    }
}
