package dev.tdpmmu.sync;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.memory.Interleave;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Checks at debug levels {@code check} and {@code prove} that locks are taken in rank order and held where they must
 * be.
 *
 * <p>StampedLock knows no owners: unlocking one stamp twice passes unnoticed and takes the lock from another holder. So
 * each thread keeps a record of what it holds, and every protected step asserts it. When the switch is off the methods
 * are empty.
 */
public final class LockDep {
    private static final ThreadLocal<Held> BY_THREAD = ThreadLocal.withInitial(Held::new);

    /** Records of the actors that the test kit runs on one thread. */
    private static final ConcurrentHashMap<Object, Held> BY_ACTOR = new ConcurrentHashMap<>();

    private LockDep() {}

    /**
     * Records that the caller is about to take a lock.
     *
     * @param rank which lock
     * @param mode how
     * @throws IllegalStateException if it holds a lock of the same or an inner rank
     */
    public static void acquire(LockRank rank, LockMode mode) {
        if (Debug.CHECK) {
            held().acquire(rank, mode);
        }
    }

    /**
     * Records that the caller gave a lock back.
     *
     * @param rank which lock
     * @param mode how it was held
     * @throws IllegalStateException if it did not hold the lock in that mode
     */
    public static void release(LockRank rank, LockMode mode) {
        if (Debug.CHECK) {
            held().release(rank, mode);
            if (held().isEmpty()) {
                BY_ACTOR.remove(Interleave.actor());
            }
        }
    }

    /**
     * Asserts that the caller holds a lock in some mode.
     *
     * @param rank which lock
     */
    public static void assertHeld(LockRank rank) {
        if (Debug.CHECK && held().modeOf(rank) == null) {
            throw new IllegalStateException("lock is not held: rank=" + rank + ", needed=any mode");
        }
    }

    /**
     * Asserts that the caller holds a lock exclusively.
     *
     * @param rank which lock
     */
    public static void assertHeldExclusive(LockRank rank) {
        if (Debug.CHECK && held().modeOf(rank) != LockMode.EXCLUSIVE) {
            throw new IllegalStateException(
                    "lock is not held exclusively: rank=" + rank + ", mode=" + held().modeOf(rank));
        }
    }

    /**
     * Asserts that the caller holds no lock of a rank or inside it.
     *
     * @param rank outermost lock that must not be held
     */
    public static void assertNoneHeldFrom(LockRank rank) {
        if (Debug.CHECK) {
            held().assertNoneFrom(rank);
        }
    }

    private static Held held() {
        Object actor = Interleave.actor();
        return actor instanceof Thread ? BY_THREAD.get() : BY_ACTOR.computeIfAbsent(actor, unknown -> new Held());
    }

    /** What one thread holds. Confined to it. */
    private static final class Held {
        private final LockMode[] modes = new LockMode[LockRank.values().length];

        LockMode modeOf(LockRank rank) {
            return modes[rank.ordinal()];
        }

        boolean isEmpty() {
            for (LockMode mode : modes) {
                if (mode != null) {
                    return false;
                }
            }
            return true;
        }

        void assertNoneFrom(LockRank rank) {
            for (int inner = rank.ordinal(); inner < modes.length; inner++) {
                if (modes[inner] != null) {
                    throw new IllegalStateException("lock order broken: wanted=" + rank + ", held="
                            + LockRank.values()[inner] + ", mode=" + modes[inner]);
                }
            }
        }

        void acquire(LockRank rank, LockMode mode) {
            assertNoneFrom(rank);
            modes[rank.ordinal()] = mode;
        }

        void release(LockRank rank, LockMode mode) {
            if (modes[rank.ordinal()] != mode) {
                throw new IllegalStateException(
                        "lock released but not held so: rank=" + rank + ", mode=" + mode + ", held=" + modeOf(rank));
            }
            modes[rank.ordinal()] = null;
        }
    }
}
