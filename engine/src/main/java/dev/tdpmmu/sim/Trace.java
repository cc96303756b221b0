package dev.tdpmmu.sim;

import dev.tdpmmu.base.Access;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.GZIPInputStream;
import org.agrona.collections.Long2LongHashMap;

/**
 * The pages that one program touched, in order: records of an access (read, write or fetch) and a virtual page.
 *
 * <p>Pages are numbered densely by their first appearance, which is the order in which a first-touch allocation would
 * give them guest pages; four bytes a record. Immutable, so one trace serves any number of vCPUs.
 *
 * <p>The text form is one line a record, {@code R}, {@code W} or {@code X}, a space, and the virtual page number in
 * hexadecimal; gzip, UTF-8, no header. A run of NUL bytes in front of a record is skipped and counted: a recorder that
 * goes on writing after its file was cut leaves such a hole, and the record behind it is whole. Nothing else is
 * forgiven.
 */
public final class Trace {
    private static final int MAX_RECORDS = 1 << 28;
    private static final int MAX_HEX_DIGITS = 13;
    private static final int NO_PAGE = -1;

    private static final int READ = 0;
    private static final int WRITE = 1;
    private static final int KIND_BITS = 2;
    private static final int KIND_MASK = (1 << KIND_BITS) - 1;
    private static final String LETTERS = "RWX";

    private final String name;

    /** Page number, then the kind in the low {@link #KIND_BITS} bits. Never written after construction. */
    private final int[] records;

    /** Virtual page of each page number. Never written after construction. */
    private final long[] virtualPages;

    private final long skippedBytes;

    private Trace(String name, int[] records, long[] virtualPages, long skippedBytes) {
        this.name = name;
        this.records = records;
        this.virtualPages = virtualPages;
        this.skippedBytes = skippedBytes;
    }

    /**
     * Reads a trace from a file.
     *
     * @param file gzip file in the text form
     * @return the trace, named like the file
     * @throws TraceFormatException naming file, line and content if it is no trace
     * @throws IOException if the file cannot be read
     */
    public static Trace read(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            return read(in, file.toString());
        }
    }

    /**
     * Reads a trace from a stream, such as a resource's. Leaves the stream open.
     *
     * @param in gzip bytes in the text form
     * @param name for reports and errors
     * @return the trace
     * @throws TraceFormatException naming the trace, line and content if it is no trace
     * @throws IOException if the stream cannot be read
     */
    public static Trace read(InputStream in, String name) throws IOException {
        Builder builder = new Builder(name);
        try {
            BufferedReader lines =
                    new BufferedReader(new InputStreamReader(new GZIPInputStream(in), StandardCharsets.UTF_8));
            String line = lines.readLine();
            while (line != null) {
                builder.add(line);
                line = lines.readLine();
            }
        } catch (TraceFormatException known) {
            throw known;
        } catch (IOException broken) {
            throw new IOException("trace cannot be read: file=" + name + ", line=" + (builder.line + 1), broken);
        }
        return builder.build();
    }

    /**
     * Returns the name.
     *
     * @return the file's path, or what the reader was told
     */
    public String name() {
        return name;
    }

    /**
     * Returns how many records there are.
     *
     * @return count, above 0
     */
    public int length() {
        return records.length;
    }

    /**
     * Returns how many different virtual pages appear.
     *
     * @return count, above 0
     */
    public int distinctPages() {
        return virtualPages.length;
    }

    /**
     * Returns how many records have an access.
     *
     * @param access one bit of {@link Access}
     * @return count, not negative
     */
    public int count(int access) {
        int count = 0;
        for (int index = 0; index < records.length; index++) {
            if (access(index) == access) {
                count++;
            }
        }
        return count;
    }

    /**
     * Returns the access of a record.
     *
     * @param index 0 to length - 1
     * @return one bit of {@link Access}
     */
    public int access(int index) {
        int kind = records[index] & KIND_MASK;
        if (kind == READ) {
            return Access.READ;
        }
        return kind == WRITE ? Access.WRITE : Access.EXECUTE;
    }

    /**
     * Returns the page of a record.
     *
     * @param index 0 to length - 1
     * @return page number, 0 to distinctPages - 1, in the order of first appearance
     */
    public int page(int index) {
        return records[index] >>> KIND_BITS;
    }

    /**
     * Returns which virtual page a page number stands for.
     *
     * @param page 0 to distinctPages - 1
     * @return virtual address divided by 4096
     */
    public long virtualPage(int page) {
        return virtualPages[page];
    }

    /**
     * Returns how many NUL bytes in front of records were skipped. Above 0 the file is damaged, and records may be
     * missing.
     *
     * @return count, not negative
     */
    public long skippedBytes() {
        return skippedBytes;
    }

    @Override
    public String toString() {
        return "Trace[name=" + name + ", records=" + records.length + ", distinctPages=" + virtualPages.length + "]";
    }

    /** Grows the arrays and numbers the pages. */
    private static final class Builder {
        private final String name;
        private final Long2LongHashMap numbers = new Long2LongHashMap(NO_PAGE);
        private int[] records = new int[1 << 12];
        private long[] virtualPages = new long[1 << 8];
        private int line;
        private long skippedBytes;

        Builder(String name) {
            this.name = name;
        }

        void add(String read) throws TraceFormatException {
            String text = withoutHole(read);
            if (line == MAX_RECORDS) {
                throw new TraceFormatException("too many records, max=" + MAX_RECORDS, name, line + 1L, text);
            }
            int kind = text.isEmpty() ? -1 : LETTERS.indexOf(text.charAt(0));
            if (kind < 0 || text.length() < 2 || text.charAt(1) != ' ') {
                throw new TraceFormatException(
                        "record does not start with R, W or X and a space", name, line + 1L, text);
            }
            if (line == records.length) {
                records = Arrays.copyOf(records, 2 * line);
            }
            records[line] = number(virtualPage(text)) << KIND_BITS | kind;
            line++;
        }

        private String withoutHole(String read) {
            int start = 0;
            while (start < read.length() && read.charAt(start) == 0) {
                start++;
            }
            skippedBytes += start;
            return read.substring(start);
        }

        /** Parsed by hand: the JDK's parser would let a sign and foreign digits pass. */
        private long virtualPage(String text) throws TraceFormatException {
            long page = 0;
            int digits = text.length() - 2;
            for (int at = 2; at < text.length(); at++) {
                char letter = text.charAt(at);
                int digit = letter < 0x80 ? Character.digit(letter, 16) : -1;
                if (digit < 0) {
                    throw badPage(text);
                }
                page = page << 4 | digit;
            }
            if (digits == 0 || digits > MAX_HEX_DIGITS) {
                throw badPage(text);
            }
            return page;
        }

        private TraceFormatException badPage(String text) {
            return new TraceFormatException(
                    "virtual page is not 1 to " + MAX_HEX_DIGITS + " hexadecimal digits", name, line + 1L, text);
        }

        private int number(long virtualPage) {
            long known = numbers.get(virtualPage);
            if (known != NO_PAGE) {
                return (int) known;
            }
            int next = numbers.size();
            if (next == virtualPages.length) {
                virtualPages = Arrays.copyOf(virtualPages, 2 * next);
            }
            virtualPages[next] = virtualPage;
            numbers.put(virtualPage, next);
            return next;
        }

        Trace build() throws TraceFormatException {
            if (line == 0) {
                throw new TraceFormatException("trace has no records", name, 0, "");
            }
            return new Trace(
                    name, Arrays.copyOf(records, line), Arrays.copyOf(virtualPages, numbers.size()), skippedBytes);
        }
    }
}
