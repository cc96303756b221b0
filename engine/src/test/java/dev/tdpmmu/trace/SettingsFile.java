package dev.tdpmmu.trace;

import java.nio.file.Files;
import java.nio.file.Path;

/** The settings file of the documents. */
final class SettingsFile {
    private SettingsFile() {}

    /** Finds it above the working directory, which is the module's or the project's. */
    static Path path() {
        for (Path above = Path.of("").toAbsolutePath(); above != null; above = above.getParent()) {
            Path file = above.resolve("docs").resolve("tdpmmu.jfc");
            if (Files.exists(file)) {
                return file;
            }
        }
        throw new IllegalStateException("no settings file: from=" + Path.of("").toAbsolutePath());
    }
}
