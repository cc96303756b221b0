package dev.tdpmmu.testkit;

import dev.tdpmmu.memory.Interleave;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The steps of one run: who did what, where, and what was there before. Reused from run to run by one thread. */
final class Trace {
    /** Codes of steps that begin at no access; the codes below are ordinals of {@link Interleave.Kind}. */
    static final int START = 8;

    static final int WAIT = 9;

    private static final Interleave.Kind[] KINDS = Interleave.Kind.values();
    private static final int READ = Interleave.Kind.READ.ordinal();
    private static final int MAX_LINES = 400;
    private static final int LAST_POINTS = 4;

    private byte[] actors = new byte[256];
    private byte[] codes = new byte[256];
    private long[] addresses = new long[256];
    private long[] values = new long[256];
    private int length;

    void clear() {
        length = 0;
    }

    int length() {
        return length;
    }

    void add(int actor, int code, long address, long value) {
        if (length == actors.length) {
            actors = Arrays.copyOf(actors, 2 * length);
            codes = Arrays.copyOf(codes, 2 * length);
            addresses = Arrays.copyOf(addresses, 2 * length);
            values = Arrays.copyOf(values, 2 * length);
        }
        actors[length] = (byte) actor;
        codes[length] = (byte) code;
        addresses[length] = address;
        values[length] = value;
        length++;
    }

    Schedule schedule() {
        int[] steps = new int[length];
        for (int i = 0; i < length; i++) {
            steps[i] = actors[i];
        }
        return new Schedule(steps);
    }

    long hash(long seed) {
        long hash = seed;
        for (int i = 0; i < length; i++) {
            hash = hash * 0x9E3779B97F4A7C15L + (actors[i] << 8) + codes[i] + 1;
            hash ^= hash >>> 29;
        }
        return hash;
    }

    String text(List<Actor> parties, Map<Long, String> names) {
        var text = new StringBuilder();
        int first = Math.max(0, length - MAX_LINES);
        if (first > 0) {
            text.append("  ... ").append(first).append(" steps before\n");
        }
        for (int i = first; i < length; i++) {
            appendLine(text, i, parties, names);
        }
        return text.toString();
    }

    String lastPoints(int actor, List<Actor> parties, Map<Long, String> names) {
        int first = length;
        int found = 0;
        while (first > 0 && found < LAST_POINTS) {
            first--;
            found += actors[first] == actor ? 1 : 0;
        }
        var text = new StringBuilder();
        for (int i = first; i < length; i++) {
            if (actors[i] == actor) {
                appendLine(text, i, parties, names);
            }
        }
        return text.toString();
    }

    private void appendLine(StringBuilder text, int step, List<Actor> parties, Map<Long, String> names) {
        int code = codes[step];
        String mark = step > 0 && actors[step] != actors[step - 1] ? "->" : "";
        text.append(String.format(
                "  %5d %2s %-14s %s", step, mark, parties.get(actors[step]).name(), nameOf(code)));
        if (touchesMemory(code)) {
            String name = names.get(addresses[step]);
            text.append(" [0x").append(Long.toHexString(addresses[step]));
            text.append(name == null ? "" : " " + name).append(']');
            text.append(code == READ ? " is 0x" : " was 0x").append(Long.toHexString(values[step]));
        }
        text.append('\n');
    }

    static String nameOf(int code) {
        return switch (code) {
            case START -> "start";
            case WAIT -> "tries again";
            default -> KINDS[code].name();
        };
    }

    /** Tells whether a step begins with an access to a word of host memory. */
    static boolean touchesMemory(int code) {
        return code < KINDS.length && KINDS[code] != Interleave.Kind.STEP;
    }
}
