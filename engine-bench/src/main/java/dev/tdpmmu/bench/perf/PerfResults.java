package dev.tdpmmu.bench.perf;

import dev.tdpmmu.config.LockPolicy;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.ToDoubleFunction;

/** What all repetitions under all lock policies have shown. */
final class PerfResults {
    private final Map<LockPolicy, Map<String, List<PhaseTimer.Sample>>> samples = new EnumMap<>(LockPolicy.class);
    private final Map<LockPolicy, Map<String, List<Long>>> counters = new EnumMap<>(LockPolicy.class);
    private final List<LockPolicy> policies;
    private final Set<String> phases = new LinkedHashSet<>();
    private final Set<String> counterNames = new LinkedHashSet<>();

    PerfResults(List<LockPolicy> policies) {
        this.policies = List.copyOf(policies);
        for (LockPolicy policy : policies) {
            samples.put(policy, new LinkedHashMap<>());
            counters.put(policy, new LinkedHashMap<>());
        }
    }

    void add(LockPolicy policy, PhaseTimer timer) {
        timer.samples().forEach((phase, sample) -> {
            phases.add(phase);
            samples.get(policy)
                    .computeIfAbsent(phase, absent -> new ArrayList<>())
                    .add(sample);
        });
        timer.counters().forEach((name, value) -> {
            counterNames.add(name);
            counters.get(policy)
                    .computeIfAbsent(name, absent -> new ArrayList<>())
                    .add(value);
        });
    }

    /** In the order in which they were asked for: the first is the baseline. */
    List<LockPolicy> policies() {
        return policies;
    }

    Set<String> phases() {
        return Collections.unmodifiableSet(phases);
    }

    Set<String> counterNames() {
        return Collections.unmodifiableSet(counterNames);
    }

    /** One for each repetition; empty if the phase did not happen under this policy. */
    List<PhaseTimer.Sample> samples(LockPolicy policy, String phase) {
        return samples.get(policy).getOrDefault(phase, List.of());
    }

    /** One for each repetition; empty if nothing was counted under this policy. */
    List<Long> counts(LockPolicy policy, String name) {
        return counters.get(policy).getOrDefault(name, List.of());
    }

    double medianNanos(LockPolicy policy, String phase) {
        return median(samples(policy, phase), PhaseTimer.Sample::nanos);
    }

    /** Not a number for a part of a phase. */
    double medianCpuNanos(LockPolicy policy, String phase) {
        return median(
                samples(policy, phase),
                sample -> sample.cpuNanos() == PhaseTimer.Sample.NOT_MEASURED ? Double.NaN : sample.cpuNanos());
    }

    /** Not a number if the phase has no operations. */
    double medianNanosPerOperation(LockPolicy policy, String phase) {
        return median(
                samples(policy, phase),
                sample -> sample.operations() == 0 ? Double.NaN : (double) sample.nanos() / sample.operations());
    }

    double medianCount(LockPolicy policy, String name) {
        return median(counts(policy, name), Long::doubleValue);
    }

    /**
     * How many times the cost of the baseline a phase has: by the time of an operation, since a phase of fixed length
     * shows its cost in that alone, else by the time of the phase.
     */
    double timesBaseline(LockPolicy policy, String phase) {
        LockPolicy baseline = policies.getFirst();
        double byOperation = medianNanosPerOperation(policy, phase) / medianNanosPerOperation(baseline, phase);
        return Double.isFinite(byOperation) ? byOperation : medianNanos(policy, phase) / medianNanos(baseline, phase);
    }

    private static <T> double median(List<T> values, ToDoubleFunction<T> number) {
        if (values.isEmpty()) {
            return Double.NaN;
        }
        double[] sorted = values.stream().mapToDouble(number).toArray();
        Arrays.sort(sorted);
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
