package dev.tdpmmu.trace;

import java.io.File;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import jdk.jfr.Event;
import jdk.jfr.Name;

/** The event classes that the build made, found in its output. */
final class EventClasses {
    private static final String SUFFIX = "Event.class";

    private EventClasses() {}

    static List<Class<? extends Event>> all() throws ReflectiveOperationException, URISyntaxException {
        Path classes = Path.of(
                Trace.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        List<Class<? extends Event>> all = new ArrayList<>();
        for (File file : classes.resolve("dev/tdpmmu/trace").toFile().listFiles()) {
            if (file.getName().endsWith(SUFFIX)) {
                String name = file.getName().substring(0, file.getName().length() - ".class".length());
                all.add(Class.forName("dev.tdpmmu.trace." + name).asSubclass(Event.class));
            }
        }
        return all;
    }

    static Set<String> names() throws ReflectiveOperationException, URISyntaxException {
        Set<String> names = new TreeSet<>();
        for (Class<? extends Event> type : all()) {
            names.add(type.getAnnotation(Name.class).value());
        }
        return names;
    }
}
