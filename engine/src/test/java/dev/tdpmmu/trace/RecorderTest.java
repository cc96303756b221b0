package dev.tdpmmu.trace;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.ForkedJava;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the engine does to the recorder of a process, and the recorder to it. */
final class RecorderTest {
    private static final String NATIVE_ACCESS = "--enable-native-access=ALL-UNNAMED";

    @Test
    void useOfTheEngineDoesNotInitialiseTheRecorder() throws IOException, InterruptedException {
        ForkedJava.Result result = ForkedJava.run(List.of(NATIVE_ACCESS), RecorderProbe.class);

        assertEquals("read=42, on=false, recorder=untouched", result.out(), result.err());
    }

    @Test
    void useOfTheEngineInitialisesNoEventClass() throws IOException, InterruptedException {
        ForkedJava.Result result =
                ForkedJava.run(List.of(NATIVE_ACCESS, "-Xlog:class+load=info:stdout"), RecorderProbe.class);

        assertTrue(result.out().contains("dev.tdpmmu.trace.Trace "), result.err());
        for (String line : result.out().lines().toList()) {
            assertTrue(!line.matches(".*dev\\.tdpmmu\\.trace\\.\\w+Event .*"), line);
        }
    }

    @Test
    void recordingThatIsOlderThanTheEngineRegistersAndGetsItsEvents(@TempDir Path directory)
            throws IOException, InterruptedException, ReflectiveOperationException, URISyntaxException {
        Path file = directory.resolve("recording.jfr");
        String option = "-XX:StartFlightRecording:filename=" + file + ",settings=" + SettingsFile.path();

        ForkedJava.Result result = ForkedJava.run(List.of(NATIVE_ACCESS, "-Xlog:disable", option), RecorderProbe.class);

        String expected = "read=42, on=true, recorder=initialised, registered="
                + EventClasses.names().size();
        assertTrue(result.out().endsWith(expected), result.out() + result.err());
        assertTrue(new TreeSet<>(Recorded.namesOf(Recorded.eventsOf(file))).containsAll(List.of("Stall", "Zap")));
    }

    @Test
    void engineRunsWithoutTheRecordersModule() throws IOException, InterruptedException {
        ForkedJava.Result result = ForkedJava.run(
                List.of(NATIVE_ACCESS, "--limit-modules=java.base,java.management,jdk.unsupported"),
                RecorderProbe.class);

        assertEquals("read=42, on=false, recorder=absent", result.out(), result.err());
    }
}
