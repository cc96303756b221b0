package dev.tdpmmu.hardware;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Rows of a data file: columns apart by blanks, {@code #} begins a comment. */
record ConformanceFile(String name, List<Row> rows) {
    /** One case, or several: what its words mean is the test's business. */
    record Row(String where, List<String> columns) {
        String column(int index) {
            return columns.get(index);
        }

        IllegalArgumentException bad(String what, String word) {
            return new IllegalArgumentException(where + ": " + what + ": " + word);
        }

        long number(String word) {
            try {
                return Long.decode(word.replace("_", ""));
            } catch (NumberFormatException e) {
                throw bad("no number", word);
            }
        }
    }

    static ConformanceFile read(String name, int columns) {
        try (InputStream in = ConformanceFile.class.getResourceAsStream(name)) {
            if (in == null) {
                throw new IllegalArgumentException("no such data file: " + name);
            }
            return parse(name, new String(in.readAllBytes(), StandardCharsets.UTF_8), columns);
        } catch (IOException e) {
            throw new IllegalArgumentException("data file is unreadable: " + name, e);
        }
    }

    static ConformanceFile parse(String name, String text, int columns) {
        var rows = new ArrayList<Row>();
        String[] lines = text.split("\n", -1);
        for (int i = 0; i < lines.length; i++) {
            int comment = lines[i].indexOf('#');
            String line = (comment < 0 ? lines[i] : lines[i].substring(0, comment)).strip();
            if (line.isEmpty()) {
                continue;
            }
            var row = new Row(name + ":" + (i + 1), List.of(line.split("\\s+")));
            if (row.columns.size() != columns) {
                throw row.bad("row has " + row.columns.size() + " columns instead of " + columns, line);
            }
            rows.add(row);
        }
        if (rows.isEmpty()) {
            throw new IllegalArgumentException(name + ": file has no row");
        }
        return new ConformanceFile(name, List.copyOf(rows));
    }
}
