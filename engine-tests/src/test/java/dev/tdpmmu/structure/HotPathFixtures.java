package dev.tdpmmu.structure;

import dev.tdpmmu.base.HotPath;
import java.util.List;
import java.util.function.LongSupplier;

/** Methods that break the promise of {@link HotPath}, one rule each, and methods that keep it. */
final class HotPathFixtures {
    private HotPathFixtures() {}

    /** Two targets at most. */
    sealed interface TwoTargets permits First, Second {
        long value();
    }

    /** A target. */
    static final class First implements TwoTargets {
        @Override
        public long value() {
            return 1;
        }
    }

    /** Another target. */
    static final class Second implements TwoTargets {
        @Override
        public long value() {
            return 2;
        }
    }

    /** Any number of targets. */
    static class Open {
        long open() {
            return 1;
        }

        final long closed() {
            return 2;
        }
    }

    /** Three targets. */
    sealed interface ThreeTargets permits Third, Fourth, Fifth {
        long value();
    }

    /** A target. */
    record Third(long value) implements ThreeTargets {}

    /** A target. */
    record Fourth(long value) implements ThreeTargets {}

    /** A target. */
    record Fifth(long value) implements ThreeTargets {}

    /** Promises what one of two does not promise. */
    sealed interface HalfMarked permits Marked, Unmarked {
        @HotPath
        long value();
    }

    /** Promises it. */
    static final class Marked implements HalfMarked {
        @Override
        @HotPath
        public long value() {
            return 1;
        }
    }

    /** Does not. */
    static final class Unmarked implements HalfMarked {
        @Override
        public long value() {
            return 2;
        }
    }

    /** Promises for anyone. */
    interface Unsealed {
        @HotPath
        long value();
    }

    /** A choice. */
    enum Choice {
        ONE,
        TWO
    }

    /** Keeps every rule. */
    static final class Sound {
        private long field;

        @HotPath
        Sound() {
            field = 1;
        }

        @HotPath
        long calls(TwoTargets two, Open open, First first, Choice choice) {
            field += Math.max(two.value(), open.closed()) + first.value() + choice.ordinal();
            return Long.bitCount(own()) + coldly();
        }

        private long own() {
            return field;
        }

        @HotPath
        static long coldly() {
            if (Rare.happened()) {
                throw refuse();
            }
            return 0;
        }

        private static IllegalStateException refuse() {
            return new IllegalStateException("cold");
        }

        private static final class Rare {
            static boolean happened() {
                return false;
            }
        }
    }

    /** Each method breaks the rule that it is named after. */
    static final class Broken {
        @HotPath
        static Object allocatesObject() {
            return new Object();
        }

        @HotPath
        static void allocatesException(long value) {
            if (value < 0) {
                throw new IllegalStateException();
            }
        }

        @HotPath
        static long[] allocatesLongs() {
            return new long[2];
        }

        @HotPath
        static String[] allocatesStrings() {
            return new String[2];
        }

        @HotPath
        static long[][] allocatesMatrix() {
            return new long[2][2];
        }

        @HotPath
        static Object boxes(long value) {
            return value;
        }

        @HotPath
        static LongSupplier invokesLambda(long value) {
            return () -> value;
        }

        @HotPath
        static String invokesConcatenation(long value, String text) {
            return text + value;
        }

        @HotPath
        static long dispatchesOpen(Open open) {
            return open.open();
        }

        @HotPath
        static long dispatchesThree(ThreeTargets three) {
            return three.value();
        }

        @HotPath
        static int leavesToInterface(List<String> list) {
            return list.size();
        }

        @HotPath
        static String leavesToText(long value) {
            return Long.toHexString(value);
        }
    }
}
