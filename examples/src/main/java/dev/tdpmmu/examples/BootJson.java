package dev.tdpmmu.examples;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.tdpmmu.sim.BootConfig;
import dev.tdpmmu.sim.BootReport;
import dev.tdpmmu.sim.BootRun;
import dev.tdpmmu.sim.Trace;
import java.io.IOException;
import java.nio.file.Path;

/** The report for programs. Every name is written here, so that renaming in the code does not change the file. */
final class BootJson {
    private BootJson() {}

    static void write(BootReport report, Path file) throws IOException {
        new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT).writeValue(file.toFile(), toJson(report));
    }

    static ObjectNode toJson(BootReport report) {
        ObjectNode root = JsonNodeFactory.instance.objectNode();
        BootConfig config = report.config();
        root.put("jdk", Runtime.version().toString());
        root.put("processors", Runtime.getRuntime().availableProcessors());
        root.put("threads", config.threads().toString());
        root.put("paging", config.pagingMode().toString());
        root.put("pageSizeBytes", config.pageSize().bytes());
        root.put("touch", config.touch());
        ArrayNode traces = root.putArray("traces");
        for (Trace trace : config.traces()) {
            ObjectNode one = traces.addObject();
            one.put("name", trace.name());
            one.put("records", trace.length());
            one.put("distinctPages", trace.distinctPages());
            one.put("skippedBytes", trace.skippedBytes());
        }
        ArrayNode runs = root.putArray("runs");
        for (BootRun run : report.runs()) {
            add(run, runs.addObject());
        }
        return root;
    }

    private static void add(BootRun run, ObjectNode json) {
        json.put("policy", run.policy().toString());
        json.put("vcpus", run.vcpus());
        json.put("memoryBytes", run.memoryBytes());
        json.put("wallNanos", run.wallNanos());
        ObjectNode faults = json.putObject("faults");
        faults.put("fixed", run.faults().fixed());
        faults.put("fast", run.faults().fast());
        faults.put("spurious", run.faults().spurious());
        faults.put("retry", run.faults().retry());
        faults.put("emulate", run.faults().emulate());
        json.put("nsPerFault", run.nsPerFault());
        ObjectNode latency = json.putObject("latencyNanos");
        latency.put("p50", run.latencyNanos().p50());
        latency.put("p90", run.latencyNanos().p90());
        latency.put("p99", run.latencyNanos().p99());
        latency.put("p999", run.latencyNanos().p999());
        latency.put("max", run.latencyNanos().max());
        json.put("pages4k", run.pages4k());
        json.put("pages2m", run.pages2m());
        json.put("pages1g", run.pages1g());
        json.put("tablePages", run.tablePages());
        json.put("tlbHitRate", run.tlbHitRate());
        json.put("dataErrors", run.dataErrors());
        json.put("tableBytes", run.tableBytes());
        json.put("guestBytesTouched", run.guestBytesTouched());
        json.put("replayNanos", run.replayNanos());
        json.put("touchNanos", run.touchNanos());
        json.put("accesses", run.accesses());
        json.put("faultsPerSecond", run.faultsPerSecond());
        json.put("traceRecords", run.traceRecords());
        json.put("leftOutRecords", run.leftOutRecords());
        json.put("distinctPages", run.distinctPages());
        json.put("replayedPages", run.replayedPages());
        json.put("flushes", run.flushes());
        json.put("lockWaits", run.lockWaits());
        json.put("retiredPages", run.retiredPages());
        json.put("reclaimedPages", run.reclaimedPages());
        json.put("failure", run.failure());
    }
}
