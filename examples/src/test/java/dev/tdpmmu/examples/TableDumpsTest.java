package dev.tdpmmu.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** The example that looks inside a guest, as it is called from a shell. */
final class TableDumpsTest {
    private final StringWriter out = new StringWriter();

    private int run(String... args) {
        return Main.commandLine().setOut(new PrintWriter(out)).execute(args);
    }

    @Test
    void documentShowsWhatIsPrinted() throws IOException {
        String document = Files.readString(Path.of("../docs/13-looking-inside.md"));
        Matcher shown = Pattern.compile("examples\\.jar table-dump\n```\n\n```text\n(.*?)```", Pattern.DOTALL)
                .matcher(document);
        assertTrue(shown.find(), document);

        assertEquals(0, run("table-dump"), out::toString);

        assertEquals(withoutHostAddresses(shown.group(1)), withoutHostAddresses(out.toString()));
    }

    /** Where tables and frames are differs from process to process; the low bits of an entry do not. */
    private static String withoutHostAddresses(String text) {
        return text.replaceAll("0x[0-9a-f]+(?=\\[)", "TABLE")
                .replaceAll("(?<=(at|->|hpa|root) )0x[0-9a-f]+", "PAGE")
                .replaceAll("0x([0-9a-f]{3})[0-9a-f]{10}([0-9a-f]{3})", "$1 PAGE $2");
    }

    @Test
    void jsonCanBeRead() throws IOException {
        int exitCode = run("table-dump", "--json");

        assertEquals(0, exitCode);
        String printed = out.toString();
        ObjectMapper mapper = new ObjectMapper();
        JsonNode dump = mapper.readTree(printed.substring(printed.indexOf("\n{")));
        assertEquals(2, dump.get("slots").size());
        assertEquals(5, dump.at("/roots/0/ranges/0/entries").asInt());
        JsonNode diff = mapper.readTree(printed.substring(printed.lastIndexOf("\n{")));
        assertEquals("split", diff.at("/changes/0/aspects/0").asText());
    }
}
