package dev.tdpmmu.trace;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.LockPolicy;
import java.io.IOException;
import java.net.URISyntaxException;
import java.text.ParseException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import jdk.jfr.Configuration;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Name;
import jdk.jfr.Recording;
import jdk.jfr.RecordingState;
import jdk.jfr.Threshold;
import jdk.jfr.ValueDescriptor;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Each call writes one event while a recording wants it, and nothing otherwise. */
final class TraceTest {
    /** Stands for the enums of the floors above: only the name counts. */
    private static final Enum<?> WORD = LockPolicy.PARALLEL;

    private static final int ROUNDS = 5;

    private static final List<String> ALL = List.of(
            "Fault",
            "SpteChange",
            "Zap",
            "Split",
            "Recover",
            "Flush",
            "LockWait",
            "Yield",
            "GracePeriod",
            "DirtyHarvest",
            "Reclaim",
            "Stall");

    @Test
    void eachCallWritesItsEventOnceWithItsFields() throws IOException, ParseException {
        Map<String, String> expected = new TreeMap<>();
        expected.put("Fault", "vm=3, gfn=4660, level=2, access=rw-, fast=true, result=PARALLEL");
        expected.put("SpteChange", "vm=4, gfn=17, level=1, oldSpte=51966, newSpte=-2");
        expected.put("Zap", "startGfn=512, endGfn=1024, mode=PARALLEL, entries=77");
        expected.put("Split", "gfn=18, level=3, eager=true");
        expected.put("Recover", "gfn=19, level=2");
        expected.put("Flush", "startGfn=0, endGfn=9223372036854775807, coalesced=true");
        expected.put("LockWait", "mode=PARALLEL");
        expected.put("Yield", "gfn=20, mode=PARALLEL");
        expected.put("GracePeriod", "purpose=barrier");
        expected.put("DirtyHarvest", "slot=5, dirtyPages=6");
        expected.put("Reclaim", "pages=7, pendingPages=8");
        expected.put("Stall", "reader=vcpu-1, waited=9, pendingPages=10");
        List<RecordedEvent> events;

        try (Recording recording = recordingOfAll()) {
            callAll();
            events = Recorded.eventsOf(recording);
        }

        assertEquals(ALL, Recorded.namesOf(events));
        for (RecordedEvent event : events) {
            String name = event.getEventType().getName().replace("dev.tdpmmu.", "");
            assertEquals(expected.get(name), textOf(event), name);
        }
    }

    @Test
    void durationRunsFromBeginToEnd() throws IOException, ParseException {
        List<RecordedEvent> events;
        long nanos;

        try (Recording recording = recordingOfAll()) {
            FlushEvent event = Trace.beginFlush();
            long start = System.nanoTime();
            do {
                Thread.onSpinWait();
                nanos = System.nanoTime() - start;
            } while (nanos < 100_000);
            Trace.endFlush(event, 0, 1, false);
            events = Recorded.eventsOf(recording);
        }

        // The recorder's clock and the other one drift apart by less than this.
        assertTrue(events.getFirst().getDuration().toNanos() > nanos / 2, events.toString());
    }

    @Test
    void eventThatIsNeverEndedIsNotWritten() throws IOException, ParseException {
        List<RecordedEvent> events;

        try (Recording recording = recordingOfAll()) {
            Trace.beginZap();
            events = Recorded.eventsOf(recording);
        }

        assertEquals(List.of(), Recorded.namesOf(events));
    }

    @Test
    void withoutRecordingNothingBegins() {
        callAll();

        assertFalse(Trace.isOn());
        assertNull(Trace.beginFault());
        assertNull(Trace.beginZap());
        assertNull(Trace.beginFlush());
        assertNull(Trace.beginLockWait());
        assertNull(Trace.beginYield());
        assertNull(Trace.beginGracePeriod());
        assertNull(Trace.beginDirtyHarvest());
    }

    @Test
    void recordingThatDoesNotWantAnEventGetsNone() throws IOException {
        List<RecordedEvent> events;

        try (Recording recording = new Recording()) {
            for (String name : ALL) {
                recording.disable("dev.tdpmmu." + name);
            }
            recording.start();
            assertTrue(Trace.isOn());
            assertNull(Trace.beginFault());
            callAll();
            events = Recorded.eventsOf(recording);
        }

        assertEquals(List.of(), Recorded.namesOf(events));
    }

    @Test
    void frequentEventsAreOffAndShortWaitsAreLeftOutUnlessAskedFor()
            throws ReflectiveOperationException, URISyntaxException {
        Map<String, String> defaults = new TreeMap<>();

        for (Class<? extends Event> type : EventClasses.all()) {
            defaults.put(type.getAnnotation(Name.class).value().replace("dev.tdpmmu.", ""), defaultsOf(type));
        }

        Map<String, String> expected = new TreeMap<>();
        for (String frequent : List.of("Fault", "SpteChange", "Split", "Recover", "Reclaim")) {
            expected.put(frequent, "enabled=false, threshold=0 ns");
        }
        for (String wait : List.of("Flush", "LockWait", "Yield", "GracePeriod")) {
            expected.put(wait, "enabled=true, threshold=1 ms");
        }
        for (String rare : List.of("Zap", "DirtyHarvest", "Stall")) {
            expected.put(rare, "enabled=true, threshold=0 ns");
        }
        assertEquals(expected, defaults);
    }

    @Test
    void recordingWithoutSettingsGetsWhatIsOnByDefault() throws IOException {
        List<String> names;

        try (Recording recording = new Recording()) {
            recording.start();
            callAll();
            names = Recorded.namesOf(Recorded.eventsOf(recording));
        }

        // Whether a short wait passes its threshold depends on the machine.
        names.removeAll(List.of("Flush", "LockWait", "Yield", "GracePeriod"));
        assertEquals(List.of("Zap", "DirtyHarvest", "Stall"), names);
    }

    @Test
    void settingsMayChangeWhileRecording() throws IOException {
        List<RecordedEvent> events;

        try (Recording recording = new Recording()) {
            recording.disable("dev.tdpmmu.Zap");
            recording.start();
            Trace.split(1, 2, false);
            recording.enable("dev.tdpmmu.Split");
            Trace.split(2, 2, false);
            recording.disable("dev.tdpmmu.Split");
            Trace.split(3, 2, false);
            events = Recorded.eventsOf(recording);
        }

        assertEquals(List.of("Split"), Recorded.namesOf(events));
        assertEquals(2, events.getFirst().getLong("gfn"));
    }

    @Test
    void switchIsOnAsLongAsAnyRecordingRuns() {
        List<Boolean> seen = new ArrayList<>();

        try (Recording first = new Recording()) {
            seen.add(Trace.isOn());
            try (Recording second = new Recording()) {
                first.start();
                second.start();
                seen.add(Trace.isOn());
                first.stop();
                seen.add(Trace.isOn());
            }
            seen.add(Trace.isOn());
            try (RecordingStream stream = new RecordingStream()) {
                stream.startAsync();
                seen.add(Trace.isOn());
            }
            seen.add(Trace.isOn());
        }

        assertEquals(List.of(false, true, true, false, true, false), seen);
    }

    @Test
    @Timeout(60)
    void recordingThatStartsByItselfTurnsTheSwitchOn() {
        try (Recording recording = new Recording()) {
            recording.scheduleStart(Duration.ofMillis(1));

            awaitSwitch(true);
        }

        assertFalse(Trace.isOn());
    }

    @Test
    @Timeout(60)
    void recordingThatEndsByItselfTurnsTheSwitchOff() {
        try (Recording recording = new Recording()) {
            recording.setDuration(Duration.ofMillis(1));
            recording.start();

            awaitSwitch(false);

            assertEquals(RecordingState.STOPPED, recording.getState());
        }
    }

    @Test
    void staleViewOfTheRecordingsIsNotWritten() {
        int seen = RecordingSwitch.read();
        boolean newer = RecordingSwitch.trySet(seen, true);

        boolean stale = RecordingSwitch.trySet(seen, false);

        assertTrue(newer);
        assertFalse(stale);
        assertTrue(Trace.isOn());
        assertTrue(RecordingSwitch.trySet(RecordingSwitch.read(), false));
    }

    @Test
    void viewThatChangesNothingMakesOlderOnesStaleAsWell() {
        int seen = RecordingSwitch.read();
        RecordingSwitch.trySet(seen, false);

        boolean stale = RecordingSwitch.trySet(seen, true);

        assertFalse(stale);
        assertFalse(Trace.isOn());
    }

    @Test
    void recordingsOfSeveralThreadsFindTheSwitchOnAndLeaveItOff() throws InterruptedException {
        List<Thread> threads = new ArrayList<>();
        AtomicInteger found = new AtomicInteger();
        CountDownLatch go = new CountDownLatch(1);
        for (int i = 0; i < 2; i++) {
            threads.add(Thread.ofPlatform().start(() -> startAndStop(go, found)));
        }

        go.countDown();
        for (Thread thread : threads) {
            thread.join();
        }

        assertEquals(2 * ROUNDS, found.get());
        assertFalse(Trace.isOn());
    }

    private static void startAndStop(CountDownLatch go, AtomicInteger found) {
        try {
            go.await();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        for (int i = 0; i < ROUNDS; i++) {
            try (Recording recording = new Recording()) {
                recording.start();
                found.addAndGet(Trace.isOn() ? 1 : 0);
            }
        }
    }

    private static String defaultsOf(Class<? extends Event> type) {
        Enabled enabled = type.getAnnotation(Enabled.class);
        Threshold threshold = type.getAnnotation(Threshold.class);
        return "enabled=" + (enabled == null || enabled.value()) + ", threshold="
                + (threshold == null ? "0 ns" : threshold.value());
    }

    private static void awaitSwitch(boolean on) {
        while (Trace.isOn() != on) {
            Thread.onSpinWait();
        }
    }

    private static void callAll() {
        Trace.endFault(Trace.beginFault(), 3, 0x1234, 2, Access.READ | Access.WRITE, true, WORD);
        Trace.spteChanged(4, 17, 1, 0xcafe, -2);
        Trace.endZap(Trace.beginZap(), 512, 1024, WORD, 77);
        Trace.split(18, 3, true);
        Trace.recovered(19, 2);
        Trace.endFlush(Trace.beginFlush(), 0, Long.MAX_VALUE, true);
        Trace.endLockWait(Trace.beginLockWait(), WORD);
        Trace.endYield(Trace.beginYield(), 20, WORD);
        Trace.endGracePeriod(Trace.beginGracePeriod(), "barrier");
        Trace.endDirtyHarvest(Trace.beginDirtyHarvest(), 5, 6);
        Trace.reclaimed(7, 8);
        Trace.stalled("vcpu-1", 9, 10);
    }

    private static Recording recordingOfAll() throws IOException, ParseException {
        Recording recording = new Recording(Configuration.create(SettingsFile.path()));
        recording.start();
        return recording;
    }

    /** Writes the fields that are ours, in their order. */
    private static String textOf(RecordedEvent event) {
        List<String> fields = new ArrayList<>();
        for (ValueDescriptor field : event.getFields()) {
            String name = field.getName();
            if (!List.of("startTime", "duration", "eventThread", "stackTrace").contains(name)) {
                fields.add(name + "=" + event.getValue(name));
            }
        }
        return String.join(", ", fields);
    }
}
