package dev.tdpmmu.trace;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;

/** Reads back what a recording wrote. */
final class Recorded {
    private static final String PREFIX = "dev.tdpmmu.";

    private Recorded() {}

    /** Stops a recording and returns the engine's events of it, oldest first. */
    static List<RecordedEvent> eventsOf(Recording recording) throws IOException {
        recording.stop();
        Path file = Files.createTempFile("trace", ".jfr");
        try {
            recording.dump(file);
            return eventsOf(file);
        } finally {
            Files.delete(file);
        }
    }

    static List<RecordedEvent> eventsOf(Path file) throws IOException {
        List<RecordedEvent> events = new ArrayList<>();
        for (RecordedEvent event : RecordingFile.readAllEvents(file)) {
            if (event.getEventType().getName().startsWith(PREFIX)) {
                events.add(event);
            }
        }
        return events;
    }

    /** Returns the names of events without the prefix that they share. */
    static List<String> namesOf(List<RecordedEvent> events) {
        List<String> names = new ArrayList<>();
        for (RecordedEvent event : events) {
            names.add(event.getEventType().getName().substring(PREFIX.length()));
        }
        return names;
    }
}
