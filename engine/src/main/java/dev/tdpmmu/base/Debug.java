package dev.tdpmmu.base;

import java.util.Locale;

/**
 * Debug level of this process, read once from {@code -Dtdpmmu.debug=off|check|prove}.
 *
 * <p>The switches are {@code static final}, so that a check that is off does not exist after compilation. {@code
 * check}: lock ranks and modes, epoch rules, legal transitions. {@code prove}: also poison of freed table pages and its
 * check on reuse, whole-tree verification at rest, interleaving points, counters started near their wrap.
 */
public final class Debug {
    /** Name of the system property. */
    public static final String PROPERTY = "tdpmmu.debug";

    /** The levels, weakest first. */
    public enum Level {
        /** No check beyond those that protect the caller. */
        OFF,
        /** Locks, epochs and transitions are asserted. */
        CHECK,
        /** Everything that can be checked is checked; slow. */
        PROVE
    }

    /** The level of this process. */
    public static final Level LEVEL = parse(System.getProperty(PROPERTY, "off"));

    /** Whether locks, epochs and transitions are asserted. */
    public static final boolean CHECK = LEVEL != Level.OFF;

    /** Whether memory is poisoned, trees are verified and interleaving points exist. */
    public static final boolean PROVE = LEVEL == Level.PROVE;

    private Debug() {}

    private static Level parse(String value) {
        try {
            return Level.valueOf(value.toUpperCase(Locale.ROOT));
        } catch (IllegalArgumentException unknown) {
            throw new IllegalArgumentException(
                    "unknown debug level: " + PROPERTY + "=" + value + ", expected=off|check|prove", unknown);
        }
    }
}
