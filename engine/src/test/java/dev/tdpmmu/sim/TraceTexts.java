package dev.tdpmmu.sim;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.zip.GZIPOutputStream;

/** Traces from text. */
final class TraceTexts {
    private TraceTexts() {}

    static Trace trace(String text) throws IOException {
        return Trace.read(new ByteArrayInputStream(gzip(text)), "sample");
    }

    /** Every page is fetched, read, written and read again, in turns that come back to it. */
    static Trace program(int pages) throws IOException {
        StringBuilder text = new StringBuilder();
        for (int round = 0; round < 3; round++) {
            for (int page = 0; page < pages; page++) {
                String hex = Integer.toHexString(0x4000 + 7 * page);
                text.append("X ")
                        .append(hex)
                        .append("\nR ")
                        .append(hex)
                        .append("\nW ")
                        .append(hex)
                        .append('\n');
            }
        }
        return trace(text.toString());
    }

    static byte[] gzip(String text) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (OutputStream out = new GZIPOutputStream(bytes)) {
            out.write(text.getBytes(StandardCharsets.UTF_8));
        }
        return bytes.toByteArray();
    }
}
