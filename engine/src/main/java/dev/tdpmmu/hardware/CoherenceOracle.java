package dev.tdpmmu.hardware;

import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;

/**
 * Judges, in proof runs, whether flushes remove what they cover: a history of the completed flushes of a VM, against
 * which every use of a cached translation is held.
 *
 * <p>Rule: an entry that was filled when its owner had applied the flushes up to sequence F must not be used once a
 * flush with a later sequence, whose range meets what the entry translates, has completed. A flush completes only after
 * every vCPU has left the guest or applied it, so within one access no flush completes that the access has not applied.
 *
 * <p>The history keeps the last {@value #HISTORY} sequences. An entry that is older than the history cannot be judged
 * by what was lost: {@link #unknown} counts that. It believes neither in what a vCPU applied nor in what a {@link Tlb}
 * removed, since these are what it judges; it believes the caller of {@link #publish} that the flush has completed.
 *
 * <p>For use by many threads. Sequences may wrap; {@link #NO_SEQUENCE} is none.
 */
public final class CoherenceOracle {
    /** How many sequences back an entry can be judged. */
    public static final int HISTORY = 1 << 12;

    /** Stamp of a place without a flush, or with one that is being written. */
    private static final long NO_SEQUENCE = -1;

    private static final int STAMP = 0;
    private static final int START_GFN = 1;
    private static final int END_GFN = 2;
    private static final int LONGS = 3;

    private static final int MOST_REPORTED = 16;

    /** Places by the low bits of the sequence: stamp, first frame, frame behind the last one. */
    private final AtomicLongArray flushes = new AtomicLongArray(HISTORY * LONGS);

    /** The latest sequence that was published; written under the monitor, read without. */
    private final AtomicLong latest;

    private final LongAdder unknown = new LongAdder();
    private final LongAdder judgements = new LongAdder();

    /** The first stale use; set once. */
    private volatile StaleTranslationException failure;

    // Design note. Flushes complete in any order, so there may be places that are not published below the latest one:
    // a judgement goes on behind them, and is not remembered beyond the first of them. Publishers write under the
    // monitor; readers take a range between two equal stamps, as a vCPU does with the ring of the shoot-down.

    /**
     * Makes an oracle without history.
     *
     * @param firstSequence value of the sequence before the first flush
     */
    public CoherenceOracle(long firstSequence) {
        latest = new AtomicLong(firstSequence);
        for (int i = 0; i < HISTORY * LONGS; i += LONGS) {
            flushes.setPlain(i + STAMP, NO_SEQUENCE);
        }
    }

    /**
     * Says that a flush has completed. Called before its caller learns so.
     *
     * @param sequence of the flush
     * @param startGfn first frame
     * @param endGfn frame behind the last one
     * @ordering the range stands between two volatile stores of the stamp; pairs with {@link #coverage}
     */
    public synchronized void publish(long sequence, long startGfn, long endGfn) {
        int place = placeOf(sequence);
        long there = flushes.get(place + STAMP);
        if (there != NO_SEQUENCE && there - sequence > 0) {
            // Held up for a whole turn of the history: it is lost, as everything behind the history.
            return;
        }
        flushes.set(place + STAMP, NO_SEQUENCE);
        flushes.set(place + START_GFN, startGfn);
        flushes.set(place + END_GFN, endGfn);
        flushes.set(place + STAMP, sequence);
        if (sequence - latest.get() > 0) {
            latest.set(sequence);
        }
    }

    /**
     * Makes what one vCPU needs to have its TLB judged.
     *
     * @param vcpuName for messages
     * @param applied sequence of the last flush that the vCPU has applied
     * @return record for its {@link Tlb}
     */
    public FillRecord newRecord(String vcpuName, long applied) {
        return new FillRecord(this, vcpuName, applied);
    }

    /**
     * Returns how often an entry could not be judged by a flush since the history had lost it.
     *
     * @return count of lost flushes, once for each judgement
     */
    public long unknown() {
        return unknown.sum();
    }

    /**
     * Returns how often an entry was compared with flushes that completed after it was filled or judged last.
     *
     * @return count
     */
    public long judgements() {
        return judgements.sum();
    }

    /**
     * Checks that no stale translation was used so far.
     *
     * @throws StaleTranslationException if one was; the VM must not go on
     */
    public void requireIntact() {
        StaleTranslationException first = failure;
        if (first != null) {
            throw new StaleTranslationException(first);
        }
    }

    /** The latest sequence that was published. */
    long latest() {
        return latest.get();
    }

    /** What the history says of one flush and one range. */
    enum Coverage {
        /** It completed, and does not meet the range. */
        APART,
        /** It completed, and meets the range. */
        COVERED,
        /** It has not completed. */
        PENDING,
        /** The history has lost it. */
        LOST
    }

    /** Compares one flush with a range. */
    Coverage coverage(long sequence, long startGfn, long endGfn) {
        int place = placeOf(sequence);
        long stamp = flushes.get(place + STAMP);
        if (stamp == NO_SEQUENCE || stamp - sequence < 0) {
            return latest.get() - sequence >= HISTORY ? Coverage.LOST : Coverage.PENDING;
        }
        long start = flushes.get(place + START_GFN);
        long end = flushes.get(place + END_GFN);
        if (stamp != sequence || flushes.get(place + STAMP) != sequence) {
            return Coverage.LOST;
        }
        return start < endGfn && end > startGfn ? Coverage.COVERED : Coverage.APART;
    }

    /** Counts flushes that an entry could not be judged by. */
    void countUnknown(long lost) {
        unknown.add(lost);
    }

    void countJudgement() {
        judgements.increment();
    }

    /** Stops the VM. The first failure stays the one that is reported. */
    StaleTranslationException fail(String entry, long filled, long startGfn, long endGfn) {
        var exception = new StaleTranslationException("a cached translation is used that a completed flush covers: "
                + entry + ", flushes=[" + covering(filled, startGfn, endGfn) + "], latest=" + latest.get());
        synchronized (this) {
            if (failure == null) {
                failure = exception;
            }
        }
        return exception;
    }

    private String covering(long filled, long startGfn, long endGfn) {
        var text = new StringBuilder();
        int found = 0;
        long last = latest.get();
        for (long sequence = last - filled > HISTORY ? last - HISTORY + 1 : filled + 1;
                sequence - last <= 0;
                sequence++) {
            if (coverage(sequence, startGfn, endGfn) == Coverage.COVERED && ++found <= MOST_REPORTED) {
                int place = placeOf(sequence);
                text.append(found == 1 ? "" : ", ")
                        .append(sequence)
                        .append(":0x")
                        .append(Long.toHexString(flushes.get(place + START_GFN)))
                        .append("-0x")
                        .append(Long.toHexString(flushes.get(place + END_GFN)));
            }
        }
        return text + (found > MOST_REPORTED ? ", and " + (found - MOST_REPORTED) + " more" : "");
    }

    private static int placeOf(long sequence) {
        return (int) (sequence & HISTORY - 1) * LONGS;
    }
}
