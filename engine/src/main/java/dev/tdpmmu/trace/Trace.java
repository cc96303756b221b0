package dev.tdpmmu.trace;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.HotPath;

/**
 * Writes the engine's flight-recorder events; costs one load and a branch while no recording runs.
 *
 * <p>An event with a duration has two calls. The first returns the event, or {@code null} if it is not recorded, and
 * the caller hands that over as it is:
 *
 * <pre>{@code
 * FlushEvent event = Trace.beginFlush();
 * boolean coalesced = flush(startGfn, endGfn);
 * Trace.endFlush(event, startGfn, endGfn, coalesced);
 * }</pre>
 *
 * <p>An operation that throws in between simply leaves its event behind. An event without a duration has one call.
 * All may be called under any lock and in any section, from any thread. Arguments that cost something to compute
 * wait behind {@link #isOn}.
 */
public final class Trace {
    // Design note. An event's own switch, Event.isEnabled, is exact but dear to reach: to initialise the first event
    // class takes 160 ms and half of the recorder with it, even if nobody will ever record. So there are two: the
    // RecordingSwitch, which a listener sets when any recording starts or stops, and behind it, in the cold part, the
    // event's own, which also follows changes of a setting. That is why off is null and not an empty event: such an
    // object would be of an event class too. An event at the very start or end of a recording may be lost.
    //
    // The listener is never removed: the recorder keeps it, and with it the class loader of the engine.

    static {
        // An application of modules has the recorder only if one of them asks for it, or if an option starts it.
        if (ModuleLayer.boot().findModule("jdk.jfr").isPresent()) {
            RecordingWatch.start();
        }
    }

    private Trace() {}

    /**
     * Tells whether any recording runs, of whatever events.
     *
     * @return whether an event could be written
     */
    @HotPath
    public static boolean isOn() {
        return RecordingSwitch.isOn();
    }

    /**
     * Begins the event of a violation.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static FaultEvent beginFault() {
        return isOn() ? FaultEvent.start() : null;
    }

    /**
     * Writes the event of a violation.
     *
     * @param event from {@link #beginFault}
     * @param vm number of the VM
     * @param gfn guest frame number
     * @param level of the mapping, 1 to 3; 0 if none was made
     * @param access bits of {@link Access} that the guest wanted
     * @param fast whether it was fixed without the MMU lock
     * @param result the MMU's answer; its name is written
     */
    @HotPath
    public static void endFault(
            FaultEvent event, int vm, long gfn, int level, int access, boolean fast, Enum<?> result) {
        if (event != null) {
            event.finish(vm, gfn, level, access, fast, result);
        }
    }

    /**
     * Writes that a linked entry was changed.
     *
     * @param vm number of the VM
     * @param gfn any frame that the entry covers
     * @param level of the entry, 1 to 5
     * @param oldSpte value that was replaced
     * @param newSpte value that replaced it
     * @kvm trace_kvm_tdp_mmu_spte_changed
     */
    @HotPath
    public static void spteChanged(int vm, long gfn, int level, long oldSpte, long newSpte) {
        if (isOn()) {
            SpteChangeEvent.write(vm, gfn, level, oldSpte, newSpte);
        }
    }

    /**
     * Begins the event of a zap.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static ZapEvent beginZap() {
        return isOn() ? ZapEvent.start() : null;
    }

    /**
     * Writes the event of a zap.
     *
     * @param event from {@link #beginZap}
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param mode of the MMU lock; its name is written
     * @param entries that were removed
     */
    @HotPath
    public static void endZap(ZapEvent event, long startGfn, long endGfn, Enum<?> mode, long entries) {
        if (event != null) {
            event.finish(startGfn, endGfn, mode, entries);
        }
    }

    /**
     * Writes that a huge leaf was split.
     *
     * @param gfn any frame that it covered
     * @param level of the huge leaf, 2 or 3
     * @param eager whether an operation did it ahead of the faults
     * @kvm trace_kvm_mmu_split_huge_page
     */
    @HotPath
    public static void split(long gfn, int level, boolean eager) {
        if (isOn()) {
            SplitEvent.write(gfn, level, eager);
        }
    }

    /**
     * Writes that a table was replaced by a huge leaf.
     *
     * @param gfn any frame that it covers
     * @param level of the huge leaf, 2 or 3
     */
    @HotPath
    public static void recovered(long gfn, int level) {
        if (isOn()) {
            RecoverEvent.write(gfn, level);
        }
    }

    /**
     * Begins the event of a remote flush.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static FlushEvent beginFlush() {
        return isOn() ? FlushEvent.start() : null;
    }

    /**
     * Writes the event of a remote flush; its duration is the wait.
     *
     * @param event from {@link #beginFlush}
     * @param startGfn first frame
     * @param endGfn frame behind the last
     * @param coalesced whether another flush waited for this one
     */
    @HotPath
    public static void endFlush(FlushEvent event, long startGfn, long endGfn, boolean coalesced) {
        if (event != null) {
            event.finish(startGfn, endGfn, coalesced);
        }
    }

    /**
     * Begins the event of a wait for the MMU lock.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static LockWaitEvent beginLockWait() {
        return isOn() ? LockWaitEvent.start() : null;
    }

    /**
     * Writes the event of a wait for the MMU lock.
     *
     * @param event from {@link #beginLockWait}
     * @param mode in which it was taken; its name is written
     */
    @HotPath
    public static void endLockWait(LockWaitEvent event, Enum<?> mode) {
        if (event != null) {
            event.finish(mode);
        }
    }

    /**
     * Begins the event of a yield.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static YieldEvent beginYield() {
        return isOn() ? YieldEvent.start() : null;
    }

    /**
     * Writes the event of a yield; its duration is the time without the lock.
     *
     * @param event from {@link #beginYield}
     * @param gfn where the operation goes on
     * @param mode in which the lock is held; its name is written
     */
    @HotPath
    public static void endYield(YieldEvent event, long gfn, Enum<?> mode) {
        if (event != null) {
            event.finish(gfn, mode);
        }
    }

    /**
     * Begins the event of a wait for a grace period.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static GracePeriodEvent beginGracePeriod() {
        return isOn() ? GracePeriodEvent.start() : null;
    }

    /**
     * Writes the event of a wait for a grace period.
     *
     * @param event from {@link #beginGracePeriod}
     * @param purpose what it was waited for, a constant
     */
    @HotPath
    public static void endGracePeriod(GracePeriodEvent event, String purpose) {
        if (event != null) {
            event.finish(purpose);
        }
    }

    /**
     * Begins the event of a dirty harvest.
     *
     * @return the event, or {@code null} if it is not recorded
     */
    @HotPath
    public static DirtyHarvestEvent beginDirtyHarvest() {
        return isOn() ? DirtyHarvestEvent.start() : null;
    }

    /**
     * Writes the event of a dirty harvest.
     *
     * @param event from {@link #beginDirtyHarvest}
     * @param slot id of the slot
     * @param dirtyPages that were handed out
     */
    @HotPath
    public static void endDirtyHarvest(DirtyHarvestEvent event, int slot, long dirtyPages) {
        if (event != null) {
            event.finish(slot, dirtyPages);
        }
    }

    /**
     * Writes that retired table pages went back to the pool.
     *
     * @param pages that went back
     * @param pendingPages that still wait
     */
    @HotPath
    public static void reclaimed(int pages, long pendingPages) {
        if (isOn()) {
            ReclaimEvent.write(pages, pendingPages);
        }
    }

    /**
     * Writes that a grace period takes too long.
     *
     * @param reader name of the vCPU or worker that holds it
     * @param waitedNanos how long the oldest pages have waited, in nanoseconds
     * @param pendingPages table pages that wait
     */
    @HotPath
    public static void stalled(String reader, long waitedNanos, long pendingPages) {
        if (isOn()) {
            StallEvent.write(reader, waitedNanos, pendingPages);
        }
    }
}
