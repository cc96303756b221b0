package dev.tdpmmu.memory;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.HotPath;

/**
 * The points at which a test may stop a thread and let another go on.
 *
 * <p>Every access to shared off-heap memory passes through {@link Hook#access}, every wait through {@link #blocked}. At
 * debug levels below {@code prove} the switch {@link #ON} is a compile-time false and nothing of this remains. At
 * {@code prove} the calls reach the hook of the test kit, which can enumerate the interleavings of a few actors over
 * the real code.
 */
public final class Interleave {
    /** Whether interleaving points exist in this process. */
    public static final boolean ON = Debug.PROVE;

    /** What a point is about to do. */
    public enum Kind {
        /** A load. */
        READ,
        /** A store. */
        WRITE,
        /** A compare-and-exchange, exchange or other read-modify-write. */
        UPDATE,
        /** A named step of a protocol that touches no off-heap memory. */
        STEP
    }

    /** What the test kit installs. Called by every thread of the process, also by those that it does not control. */
    public interface Hook {
        /**
         * Stands before an access; may let other actors run.
         *
         * @param kind what follows
         * @param address host physical address that it touches, or 0 for {@link Kind#STEP}
         */
        void access(Kind kind, long address);

        /**
         * Says that the caller cannot go on before another actor has made a step.
         *
         * @return whether the hook controls this caller; if not, the caller waits in its ordinary way
         */
        boolean blocked();

        /**
         * Returns the identity of the running actor, for the checkers that keep records by thread.
         *
         * @return an actor, or the current thread if the hook does not control it
         */
        Object actor();
    }

    private static final Hook NONE = new Hook() {
        @Override
        public void access(Kind kind, long address) {}

        @Override
        public boolean blocked() {
            return false;
        }

        @Override
        public Object actor() {
            return Thread.currentThread();
        }
    };

    private static volatile Hook hook = NONE;

    private Interleave() {}

    /**
     * Installs a hook; for the test kit alone.
     *
     * @param newHook the hook, or null for none
     * @throws IllegalStateException if interleaving points are off in this process
     */
    public static void install(Hook newHook) {
        if (!ON) {
            throw new IllegalStateException(
                    "interleaving points are off: " + Debug.PROPERTY + "=" + Debug.LEVEL + ", needed=PROVE");
        }
        hook = newHook == null ? NONE : newHook;
    }

    /**
     * Marks a step that touches no off-heap memory: a field of the heap that several threads race for.
     */
    @HotPath
    public static void step() {
        if (ON) {
            reach(Kind.STEP, 0);
        }
    }

    /**
     * Waits one round inside a spin loop, or hands over to the test kit.
     *
     * @return whether the test kit controls the caller, which then must not park or spin by itself
     */
    public static boolean blocked() {
        return ON && hook.blocked();
    }

    /**
     * Returns who runs: the current thread, or the actor that the test kit runs on it.
     *
     * @return identity for checkers
     */
    public static Object actor() {
        return ON ? hook.actor() : Thread.currentThread();
    }

    /**
     * Tells whether the test kit runs the caller, so that a wait must go through {@link #blocked} and never park.
     *
     * @return whether the caller is an actor of the test kit
     */
    public static boolean isControlled() {
        return ON && hook.actor() != Thread.currentThread();
    }

    static void reach(Kind kind, long address) {
        hook.access(kind, address);
    }
}
