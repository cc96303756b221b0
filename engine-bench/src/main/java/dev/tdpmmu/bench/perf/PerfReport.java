package dev.tdpmmu.bench.perf;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.tdpmmu.bench.BenchGuard;
import dev.tdpmmu.config.LockPolicy;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Writes results for programs: everything as JSON, and every time of every repetition as CSV. Every name is written
 * here, so that renaming in the code does not change the files.
 */
final class PerfReport {
    private static final String CSV_HEAD = "program,policy,repetition,phase,operations,nanos,cpuNanos";

    private final String program;
    private final Map<String, String> parameters;
    private final PerfResults results;

    PerfReport(String program, Map<String, String> parameters, PerfResults results) {
        this.program = program;
        this.parameters = parameters;
        this.results = results;
    }

    /** Writes {@code <program>.json} and {@code <program>.csv} over what is there; returns the two files. */
    List<Path> write(Path directory) throws IOException {
        Files.createDirectories(directory);
        Path json = directory.resolve(program + ".json");
        new ObjectMapper().writerWithDefaultPrettyPrinter().writeValue(json.toFile(), toJson());
        Path csv = directory.resolve(program + ".csv");
        Files.write(csv, toCsv());
        return List.of(json, csv);
    }

    private ObjectNode toJson() {
        ObjectNode root = JsonNodeFactory.instance.objectNode();
        root.put("program", program);
        BenchGuard.environment().forEach(root.putObject("environment")::put);
        parameters.forEach(root.putObject("parameters")::put);
        ArrayNode phases = root.putArray("results");
        ArrayNode counters = root.putArray("counters");
        for (LockPolicy policy : results.policies()) {
            for (String phase : results.phases()) {
                addPhase(phases.addObject(), policy, phase);
            }
            for (String name : results.counterNames()) {
                ObjectNode counter = counters.addObject();
                counter.put("policy", policy.toString());
                counter.put("name", name);
                put(counter, "median", results.medianCount(policy, name));
                results.counts(policy, name).forEach(counter.putArray("repetitions")::add);
            }
        }
        return root;
    }

    private void addPhase(ObjectNode json, LockPolicy policy, String phase) {
        json.put("policy", policy.toString());
        json.put("phase", phase);
        put(json, "medianNanos", results.medianNanos(policy, phase));
        put(json, "medianCpuNanos", results.medianCpuNanos(policy, phase));
        put(json, "medianNanosPerOperation", results.medianNanosPerOperation(policy, phase));
        put(json, "timesBaseline", results.timesBaseline(policy, phase));
        ArrayNode repetitions = json.putArray("repetitions");
        for (PhaseTimer.Sample sample : results.samples(policy, phase)) {
            ObjectNode one = repetitions.addObject();
            one.put("nanos", sample.nanos());
            if (sample.cpuNanos() != PhaseTimer.Sample.NOT_MEASURED) {
                one.put("cpuNanos", sample.cpuNanos());
            }
            one.put("operations", sample.operations());
        }
    }

    /** JSON has no word for what is not a number. */
    private static void put(ObjectNode json, String name, double value) {
        if (Double.isFinite(value)) {
            json.put(name, value);
        } else {
            json.putNull(name);
        }
    }

    private List<String> toCsv() {
        List<String> lines = new ArrayList<>(List.of(CSV_HEAD));
        for (LockPolicy policy : results.policies()) {
            for (String phase : results.phases()) {
                List<PhaseTimer.Sample> samples = results.samples(policy, phase);
                for (int i = 0; i < samples.size(); i++) {
                    PhaseTimer.Sample one = samples.get(i);
                    lines.add(String.join(
                            ",",
                            program,
                            policy.toString(),
                            Integer.toString(i + 1),
                            phase,
                            Long.toString(one.operations()),
                            Long.toString(one.nanos()),
                            one.cpuNanos() == PhaseTimer.Sample.NOT_MEASURED ? "" : Long.toString(one.cpuNanos())));
                }
            }
        }
        return lines;
    }
}
