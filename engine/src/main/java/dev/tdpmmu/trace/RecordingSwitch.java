package dev.tdpmmu.trace;

import dev.tdpmmu.base.HotPath;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/** Whether a flight recording runs. Set by {@link RecordingWatch}, asked by every event. */
final class RecordingSwitch {
    private static final int ON = 1;
    private static final int NEXT_VERSION = 2;

    private static final VarHandle STATE = stateHandle();

    /**
     * Bit 0: whether a recording runs. Bits 1 to 31: how often it was written, so that a stale view is found out.
     * Written by compare-and-set, read opaque on hot paths.
     */
    private static int state;

    // Design note. Opaque and not plain: a plain read may leave a loop that the compiler sees through, and the loop
    // would never find the recording that started meanwhile. Opaque and not volatile: nothing is published through
    // the switch, and later reads need not wait for it.
    //
    // A class of its own, whose initialisation calls nobody. Were the state in Trace, whose initialisation calls the
    // recorder: one thread initialises Trace and wants the recorder's lock; another initialises the recorder, holds
    // that lock, calls the watch and waits for Trace. Both wait for ever.

    private RecordingSwitch() {}

    @HotPath
    static boolean isOn() {
        return ((int) STATE.getOpaque() & ON) != 0;
    }

    /** Returns what {@link #trySet} wants as {@code seen}. */
    static int read() {
        return (int) STATE.getVolatile();
    }

    /**
     * Sets the switch unless somebody has since {@code seen} was read.
     *
     * @param seen from {@link #read}, before the recordings were looked at
     * @param running whether a recording runs
     * @return whether it was set
     */
    static boolean trySet(int seen, boolean running) {
        int next = (seen & ~ON) + NEXT_VERSION | (running ? ON : 0);
        return STATE.compareAndSet(seen, next);
    }

    private static VarHandle stateHandle() {
        try {
            return MethodHandles.lookup()
                    .findStaticVarHandle(RecordingSwitch.class, "state", int.class)
                    .withInvokeExactBehavior();
        } catch (ReflectiveOperationException impossible) {
            throw new ExceptionInInitializerError(impossible);
        }
    }
}
