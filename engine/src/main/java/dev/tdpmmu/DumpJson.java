package dev.tdpmmu;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.SlotFlag;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.List;

/**
 * Writes dumps and their differences for programs. Every name is written here, so that a renamed component changes no
 * file.
 */
final class DumpJson {
    private static final JsonFactory FACTORY = new JsonFactory();

    private DumpJson() {}

    private interface Content {
        void writeTo(JsonGenerator json) throws IOException;
    }

    private static String object(Content content) {
        var text = new StringWriter();
        var lines = new DefaultIndenter("  ", "\n");
        try (JsonGenerator json = FACTORY.createGenerator(text)) {
            json.setPrettyPrinter(new DefaultPrettyPrinter().withObjectIndenter(lines));
            json.writeStartObject();
            content.writeTo(json);
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException("a string writer failed", e);
        }
        return text.append('\n').toString();
    }

    static String of(TableDump dump) {
        return object(json -> {
            json.writeStringField("vm", dump.vm());
            json.writeStringField("mode", dump.mode().name());
            json.writeBooleanField("framesMerged", dump.framesMerged());
            json.writeArrayFieldStart("slots");
            for (TableDump.Slot slot : dump.slots()) {
                write(json, slot);
            }
            json.writeEndArray();
            json.writeArrayFieldStart("roots");
            for (TableDump.Root root : dump.roots()) {
                write(json, dump, root);
            }
            json.writeEndArray();
        });
    }

    private static void write(JsonGenerator json, TableDump.Slot slot) throws IOException {
        json.writeStartObject();
        json.writeNumberField("id", slot.id());
        json.writeNumberField("start", slot.start());
        json.writeNumberField("end", slot.end());
        json.writeArrayFieldStart("flags");
        for (SlotFlag flag : slot.flags().stream().sorted().toList()) {
            json.writeString(flag.name());
        }
        json.writeEndArray();
        json.writeEndObject();
    }

    private static void write(JsonGenerator json, TableDump dump, TableDump.Root root) throws IOException {
        json.writeStartObject();
        json.writeNumberField("hpa", root.hpa());
        json.writeNumberField("level", root.level());
        json.writeBooleanField("invalid", root.invalid());
        json.writeArrayFieldStart("ranges");
        for (TableRange range : root.ranges()) {
            write(json, range);
        }
        json.writeEndArray();
        json.writeArrayFieldStart("tablePages");
        for (long pages : root.tablePages()) {
            json.writeNumber(pages);
        }
        json.writeEndArray();
        json.writeArrayFieldStart("holes");
        for (TableDump.Hole hole : root.holes(dump.slots())) {
            json.writeStartObject();
            json.writeNumberField("slot", hole.slot());
            json.writeNumberField("start", hole.start());
            json.writeNumberField("end", hole.end());
            json.writeEndObject();
        }
        json.writeEndArray();
        json.writeEndObject();
    }

    private static void write(JsonGenerator json, TableRange range) throws IOException {
        json.writeStartObject();
        json.writeNumberField("start", range.start());
        json.writeNumberField("end", range.end());
        json.writeNumberField("level", range.level());
        json.writeNumberField("entries", range.entries());
        json.writeStringField("kind", range.kind().text());
        json.writeStringField("permissions", Access.text(range.permissions()));
        json.writeBooleanField("accessed", range.accessed());
        json.writeBooleanField("dirty", range.dirty());
        if (range.hpa() >= 0) {
            json.writeNumberField("hpa", range.hpa());
        }
        json.writeEndObject();
    }

    static String of(TableDiff diff) {
        return object(json -> {
            json.writeBooleanField("framesCompared", diff.framesCompared());
            json.writeArrayFieldStart("changes");
            for (TableDiff.Change change : diff.changes()) {
                write(json, change);
            }
            json.writeEndArray();
        });
    }

    private static void write(JsonGenerator json, TableDiff.Change change) throws IOException {
        json.writeStartObject();
        json.writeNumberField("start", change.start());
        json.writeNumberField("end", change.end());
        json.writeStringField("what", change.what().text());
        json.writeArrayFieldStart("aspects");
        for (TableDiff.Aspect aspect : change.aspects()) {
            json.writeString(aspect.text());
        }
        json.writeEndArray();
        writeIfAny(json, "before", change.before());
        writeIfAny(json, "after", change.after());
        json.writeEndObject();
    }

    private static void writeIfAny(JsonGenerator json, String name, List<TableRange> range) throws IOException {
        if (!range.isEmpty()) {
            json.writeFieldName(name);
            write(json, range.getFirst());
        }
    }
}
