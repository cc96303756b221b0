package dev.tdpmmu.trace;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.lang.reflect.Modifier;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.text.ParseException;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import jdk.jfr.Configuration;
import jdk.jfr.Event;
import jdk.jfr.Name;
import org.junit.jupiter.api.Test;

/** The settings file and the page on observation name exactly the events that exist. */
final class SettingsFileTest {
    @Test
    void fileNamesExactlyOurEvents()
            throws IOException, ParseException, ReflectiveOperationException, URISyntaxException {
        Set<String> named = new TreeSet<>();

        for (String key : settings().keySet()) {
            named.add(key.substring(0, key.indexOf('#')));
        }

        assertEquals(EventClasses.names(), named);
    }

    @Test
    void fileRecordsAllOfEachEventWithoutStackTraces()
            throws IOException, ParseException, ReflectiveOperationException, URISyntaxException {
        Map<String, String> expected = new TreeMap<>();
        for (Class<? extends Event> type : EventClasses.all()) {
            String name = type.getAnnotation(Name.class).value();
            expected.put(name + "#enabled", "true");
            expected.put(name + "#stackTrace", "false");
            if (hasDuration(type)) {
                expected.put(name + "#threshold", "0 ns");
            }
        }

        Map<String, String> settings = settings();

        assertEquals(expected, settings);
    }

    @Test
    void pageDescribesExactlyOurEvents() throws IOException, ReflectiveOperationException, URISyntaxException {
        String page = Files.readString(SettingsFile.path().resolveSibling("10-observation.md"));
        Set<String> described = new TreeSet<>();

        for (String line : page.lines().toList()) {
            if (line.startsWith("| `dev.tdpmmu.")) {
                described.add(line.substring(3, line.indexOf('`', 3)));
            }
        }

        assertEquals(EventClasses.names(), described);
    }

    /** Events with a duration are those that a caller holds between two calls, so they are public. */
    private static boolean hasDuration(Class<? extends Event> type) {
        return Modifier.isPublic(type.getModifiers());
    }

    private static Map<String, String> settings() throws IOException, ParseException {
        return new TreeMap<>(Configuration.create(SettingsFile.path()).getSettings());
    }
}
