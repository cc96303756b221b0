package dev.tdpmmu.testkit;

import java.lang.management.LockInfo;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadInfo;
import java.lang.management.ThreadMXBean;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Finds monitors and {@code java.util.concurrent} locks that the calling thread holds at a point of an actor.
 *
 * <p>They belong to the thread, and all actors are the same thread: after a switch the next actor would enter them
 * without waiting, or a monitor would hang the thread. Asking costs a millisecond, so each call chain is asked about
 * once in a process, and only the first call chains of an exploration are looked at. Used by one exploration at a
 * time.
 */
final class HeldLocks {
    private static final int LOOKS_PER_EXPLORATION = 2_000;
    private static final int FRAMES = 40;

    private static final StackWalker WALKER = StackWalker.getInstance();
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
    /** Call chains without any lock. */
    private static final Set<Long> CLEAN_SITES = new HashSet<>();

    /** Call chains without monitors; asked about owned locks only by explorations that trust them. */
    private static final Set<Long> SITES_WITHOUT_MONITORS = new HashSet<>();

    private final Set<Integer> heldBefore = new HashSet<>();
    private final boolean locksAreTrusted;
    private int looksLeft = LOOKS_PER_EXPLORATION;

    HeldLocks(boolean locksAreTrusted) {
        this.locksAreTrusted = locksAreTrusted;
        heldNow().forEach(lock -> heldBefore.add(lock.getIdentityHashCode()));
    }

    /**
     * Looks whether the calling actor holds a lock here.
     *
     * @return what it holds; empty if nothing, or if this call chain was found clean before
     */
    String find() {
        if (looksLeft == 0) {
            return "";
        }
        looksLeft--;
        long site = WALKER.walk(HeldLocks::hash);
        // A site that is clean without locks says nothing about an exploration that does not trust them.
        Set<Long> cleanSites = locksAreTrusted ? SITES_WITHOUT_MONITORS : CLEAN_SITES;
        if (cleanSites.contains(site)) {
            return "";
        }
        for (LockInfo lock : heldNow().toList()) {
            if (!heldBefore.contains(lock.getIdentityHashCode())) {
                return lock.toString();
            }
        }
        cleanSites.add(site);
        return "";
    }

    private Stream<LockInfo> heldNow() {
        long[] self = {Thread.currentThread().threadId()};
        ThreadInfo info = THREADS.getThreadInfo(self, true, !locksAreTrusted)[0];
        return Stream.concat(Arrays.stream(info.getLockedMonitors()), Arrays.stream(info.getLockedSynchronizers()));
    }

    private static long hash(Stream<StackWalker.StackFrame> frames) {
        return frames.limit(FRAMES)
                .mapToLong(frame -> 31L * frame.getClassName().hashCode()
                        + 17L * frame.getMethodName().hashCode()
                        + frame.getByteCodeIndex())
                .reduce(0, (hash, frame) -> (hash + frame) * 0x9E3779B97F4A7C15L);
    }
}
