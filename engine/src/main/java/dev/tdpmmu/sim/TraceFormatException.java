package dev.tdpmmu.sim;

import java.io.IOException;
import java.io.Serial;

/** A page-access trace does not say what a trace must say. Names file, line and what stands there. */
public final class TraceFormatException extends IOException {
    @Serial
    private static final long serialVersionUID = 1L;

    private static final int MAX_CONTENT = 60;

    /** What was read. */
    private final String file;

    /** Number of the line, from 1; 0 if the file as a whole is wrong. */
    private final long line;

    /** What stands there, cut to a readable length. */
    private final String content;

    TraceFormatException(String problem, String file, long line, String content) {
        super(problem + ": file=" + file + ", line=" + line + ", content='" + cut(content) + "'");
        this.file = file;
        this.line = line;
        this.content = cut(content);
    }

    private static String cut(String content) {
        return content.length() <= MAX_CONTENT ? content : content.substring(0, MAX_CONTENT) + "...";
    }

    /**
     * Returns what was read.
     *
     * @return path or name of the trace
     */
    public String file() {
        return file;
    }

    /**
     * Returns where the mistake is.
     *
     * @return number of the line, from 1; 0 if the file as a whole is wrong
     */
    public long line() {
        return line;
    }

    /**
     * Returns what stands there.
     *
     * @return the line, cut to a readable length; empty if the file as a whole is wrong
     */
    public String content() {
        return content;
    }
}
