package dev.tdpmmu.trace;

import java.util.List;
import jdk.jfr.FlightRecorder;
import jdk.jfr.FlightRecorderListener;
import jdk.jfr.Recording;
import jdk.jfr.RecordingState;

/** Keeps the {@link RecordingSwitch} on while a recording runs, whoever started it. */
final class RecordingWatch implements FlightRecorderListener {
    private RecordingWatch() {}

    /** Begins to watch; a recording that runs already turns the switch on before this returns. */
    static void start() {
        // Does not initialise the recorder. A recorder that exists already calls back from here.
        FlightRecorder.addListener(new RecordingWatch());
    }

    @Override
    public void recorderInitialized(FlightRecorder recorder) {
        update(recorder);
    }

    @Override
    public void recordingStateChanged(Recording recording) {
        update(FlightRecorder.getFlightRecorder());
    }

    /**
     * Sets the switch after what the recordings do now. Two recordings that change at once call this from two
     * threads; were the older view written last, the switch would stay off beside a running recording. So whoever
     * finds that another one has written since it began to look, looks again.
     */
    private static void update(FlightRecorder recorder) {
        boolean written = false;
        while (!written) {
            int seen = RecordingSwitch.read();
            boolean running = isAnyRunning(recorder.getRecordings());
            if (running) {
                registerEvents();
            }
            written = RecordingSwitch.trySet(seen, running);
        }
    }

    private static boolean isAnyRunning(List<Recording> recordings) {
        for (Recording recording : recordings) {
            if (recording.getState() == RecordingState.RUNNING) {
                return true;
            }
        }
        return false;
    }

    /** Initialises the event classes here: the first event of each would do it under the MMU lock and in an epoch. */
    private static void registerEvents() {
        FaultEvent.isOn();
        SpteChangeEvent.isOn();
        ZapEvent.isOn();
        SplitEvent.isOn();
        RecoverEvent.isOn();
        FlushEvent.isOn();
        LockWaitEvent.isOn();
        YieldEvent.isOn();
        GracePeriodEvent.isOn();
        DirtyHarvestEvent.isOn();
        ReclaimEvent.isOn();
        StallEvent.isOn();
    }
}
