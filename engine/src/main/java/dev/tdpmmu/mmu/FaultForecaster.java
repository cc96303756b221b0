package dev.tdpmmu.mmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.base.RequiresEpoch;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.slot.HostPageWord;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.slot.MemSlots;
import dev.tdpmmu.spte.MmioSpte;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;

/**
 * Says what {@link FaultHandler} would do with a fault, without doing it: the same questions in the same order, asked
 * of entries that somebody has read. Takes no lock, so the answer is of the moment.
 */
public final class FaultForecaster {
    private final SpteFormat format;
    private final InvalidationTracker tracker;
    private final WriteTracks tracks;
    private final NxPolicy nx;
    private final boolean fastFix;
    private final boolean mmioCaching;
    private final int maxLevel;

    FaultForecaster(VmConfig config, SpteFormat format, InvalidationTracker tracker, WriteTracks tracks, NxPolicy nx) {
        this.format = format;
        this.tracker = tracker;
        this.tracks = tracks;
        this.nx = nx;
        this.fastFix = config.fastFix();
        this.mmioCaching = config.mmioCaching() && format.mmioCaching();
        this.maxLevel = config.hugePages().level();
    }

    /**
     * Says what becomes of a violation.
     *
     * @param memSlots slots of now
     * @param gfn guest frame number
     * @param access what was tried, bits of {@link Access}
     * @param present whether hardware found a usable entry that forbade the access
     * @param level level of the lowest entry on the way to the frame, 1 to 5
     * @param sptes the entries on the way by level, as {@link TdpWalk#read} gives them
     * @return the answer if nothing changes meanwhile
     * @locking inside an epoch
     */
    @RequiresEpoch
    public FaultForecast violation(MemSlots memSlots, long gfn, int access, boolean present, int level, long[] sptes) {
        MemSlot memSlot = memSlots.find(gfn);
        boolean store = (access & Access.WRITE) != 0;
        boolean watched = tracks.contains(gfn);
        FaultAnswer answer = fast(memSlot, access, present, level, sptes[level]);
        if (answer != FaultAnswer.NONE) {
            return new FaultForecast(answer, level, watched);
        }
        answer = withoutMapping(memSlot, gfn, access, level, sptes[level]);
        if (answer != FaultAnswer.NONE) {
            return new FaultForecast(answer, 0, watched);
        }
        if (store && watched) {
            return new FaultForecast(FaultAnswer.EMULATE_WATCHED, 0, true);
        }
        return mapping(memSlot, gfn, access, level, sptes);
    }

    /**
     * Says what becomes of a misconfiguration.
     *
     * @param memSlots slots of now
     * @param gfn guest frame number
     * @param access what was tried, bits of {@link Access}
     * @param level level of the lowest entry on the way to the frame, 1 to 5
     * @param sptes the entries on the way by level, as {@link TdpWalk#read} gives them
     * @return the answer if nothing changes meanwhile
     * @locking inside an epoch
     */
    @RequiresEpoch
    public FaultForecast misconfiguration(MemSlots memSlots, long gfn, int access, int level, long[] sptes) {
        long spte = sptes[level];
        long generation = memSlots.generation() & SpteFormat.MMIO_GENERATION_MASK;
        if (format.isMmio(spte) && MmioSpte.generation(spte) == generation) {
            return new FaultForecast(FaultAnswer.EMULATE_NO_SLOT, 0, tracks.contains(gfn));
        }
        return violation(memSlots, gfn, access, false, level, sptes);
    }

    /**
     * Tells whether stores to a frame are reported to somebody.
     *
     * @param gfn guest frame number
     * @return whether it is watched now
     */
    public boolean isWatched(long gfn) {
        return tracks.contains(gfn);
    }

    /** As the lock-free fix; NONE if the slow path is needed. */
    private FaultAnswer fast(MemSlot memSlot, int access, boolean present, int level, long spte) {
        boolean store = (access & Access.WRITE) != 0;
        boolean mayFix = fastFix && (present ? store : !format.accessedDirty());
        if (!mayFix || !format.isLeaf(spte, level)) {
            return FaultAnswer.NONE;
        }
        if (format.allows(spte, access)) {
            return FaultAnswer.SPURIOUS;
        }
        long fixed = format.restoreAccess(spte);
        // A leaf that stays without permissions is none that the MMU makes; the fix would not know it either.
        if (store && format.isMmuWritable(fixed) && !format.isAccessTracked(fixed)) {
            fixed = format.makeWritable(fixed);
        }
        boolean needsSplit = level != PagingLevel.L4K && memSlot.exists() && memSlot.logsDirty();
        return fixed != spte && format.allows(fixed, access) && memSlot.exists() && !needsSplit
                ? FaultAnswer.FAST_FIX
                : FaultAnswer.NONE;
    }

    /** Answers of the slow path that need no lock; NONE if it goes on to map. */
    private FaultAnswer withoutMapping(MemSlot memSlot, long gfn, int access, int level, long spte) {
        if (!memSlot.exists()) {
            // A present leaf belongs to a slot that is being removed; no MMIO entry is put over it.
            boolean isInTheWay = mmioCaching && (Spte.isFrozen(spte) || format.isLeaf(spte, level));
            return isInTheWay ? FaultAnswer.RETRY : FaultAnswer.EMULATE_NO_SLOT;
        }
        if ((access & ~memSlot.access()) != 0) {
            return FaultAnswer.EMULATE_READ_ONLY;
        }
        if (tracker.isInProgress(tracker.snapshot(), gfn)) {
            return FaultAnswer.RETRY;
        }
        if (memSlot.isLinear()) {
            return FaultAnswer.NONE;
        }
        long word = memSlot.hostPages().word(memSlot.hostPage(gfn));
        boolean ready = (access & Access.WRITE) != 0 ? HostPageWord.isWritable(word) : HostPageWord.isPresent(word);
        return ready ? FaultAnswer.NONE : FaultAnswer.ASK_HOST;
    }

    private FaultForecast mapping(MemSlot memSlot, long gfn, int access, int level, long[] sptes) {
        long spte = sptes[level];
        boolean watched = tracks.contains(gfn);
        int goal = tracks.maxLevel(gfn, Math.min(memSlot.maxLevel(gfn), maxLevel));
        if (goal != PagingLevel.L4K && (access & Access.EXECUTE) != 0 && nx.mitigation()) {
            goal = PagingLevel.L4K;
        }
        if (level < goal) {
            if (TableHeaders.nxState(format.address(sptes[goal])) == TableHeaders.NX_NONE) {
                return new FaultForecast(FaultAnswer.REPLACE_TABLE, goal, watched);
            }
            // A huge leaf where one was executed would be split by the next fetch: the table stays.
            goal--;
        }
        if (Spte.isFrozen(spte)) {
            return new FaultForecast(FaultAnswer.RETRY, 0, watched);
        }
        if (level > goal) {
            FaultAnswer answer = format.isLeaf(spte, level) ? FaultAnswer.SPLIT : FaultAnswer.MAP;
            return new FaultForecast(answer, goal, watched);
        }
        return new FaultForecast(atGoal(memSlot, gfn, access, level, spte), level, watched);
    }

    private FaultAnswer atGoal(MemSlot memSlot, long gfn, int access, int level, long spte) {
        if (!Spte.isMmuPresent(spte)) {
            return FaultAnswer.MAP;
        }
        if (format.allows(spte, access)) {
            return FaultAnswer.SPURIOUS;
        }
        long hpa = memSlot.isLinear()
                ? memSlot.hpa(Gfn.alignDown(gfn, level))
                : HostPageWord.hpa(memSlot.hostPages().word(memSlot.hostPage(gfn)));
        return format.address(spte) == hpa ? FaultAnswer.WIDEN : FaultAnswer.RETRY;
    }
}
