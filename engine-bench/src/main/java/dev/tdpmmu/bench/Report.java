package dev.tdpmmu.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/** Prints what a program has found as one JSON object: environment, parameters, results. */
final class Report {
    private final Map<String, Object> all = new LinkedHashMap<>();

    Report(String program, Map<String, Object> parameters) {
        all.put("program", program);
        all.put("environment", BenchGuard.environment());
        all.put("parameters", parameters);
    }

    void put(String name, Object value) {
        all.put(name, value);
    }

    void print() {
        try {
            System.out.println(
                    new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(all));
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException("report cannot be written", impossible);
        }
    }

    static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }

    /** Value below which a share of the sorted values lies, 0 to 1. */
    static double quantile(double[] sorted, double share) {
        int index = (int) Math.ceil(share * sorted.length) - 1;
        return sorted[Math.clamp(index, 0, sorted.length - 1)];
    }
}
