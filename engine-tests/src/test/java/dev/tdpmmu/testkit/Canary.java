package dev.tdpmmu.testkit;

import dev.tdpmmu.base.CacheLines;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.WordBlocks;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * One off-heap entry into which each actor sets a bit of its own: the accessed bit, the dirty bit. Either as hardware
 * must, by compare-and-set, or as it must not, by a load and a store between which the other's bit is lost.
 *
 * <p>If the explorer ever stops finding the second kind, it has become blind, and every green race test is worth
 * nothing.
 */
final class Canary implements Scenario {
    private static final long[] BITS = {1L << 8, 1L << 9, 1L << 10};
    private static final String[] NAMES = {"setsAccessed", "setsDirty", "setsThird"};

    private final long entry = WordBlocks.take(CacheLines.PAIR_BYTES);
    private final boolean losesUpdates;
    private final int actorCount;

    private Canary(boolean losesUpdates, int actorCount) {
        this.losesUpdates = losesUpdates;
        this.actorCount = actorCount;
    }

    static Canary broken() {
        return new Canary(true, 2);
    }

    static Canary sound(int actorCount) {
        return new Canary(false, actorCount);
    }

    private void set(long bit) {
        if (losesUpdates) {
            SpteAccess.setRelease(entry, SpteAccess.readAcquire(entry) | bit);
            return;
        }
        long spte = SpteAccess.readAcquire(entry);
        while (!SpteAccess.compareAndSet(entry, spte, spte | bit)) {
            spte = SpteAccess.readAcquire(entry);
        }
    }

    @Override
    public List<Actor> actors() {
        List<Actor> actors = new ArrayList<>();
        for (int i = 0; i < actorCount; i++) {
            long bit = BITS[i];
            actors.add(Actor.of(NAMES[i], () -> set(bit)));
        }
        return actors;
    }

    @Override
    public void check() {
        long expected = 0;
        for (int i = 0; i < actorCount; i++) {
            expected |= BITS[i];
        }
        long spte = SpteAccess.readAcquire(entry);
        if (spte != expected) {
            throw new AssertionError(
                    "update lost: entry=0x" + Long.toHexString(spte) + ", expected=0x" + Long.toHexString(expected));
        }
    }

    @Override
    public String outcome() {
        return "all bits set";
    }

    @Override
    public Map<Long, String> names() {
        return Map.of(entry, "entry");
    }

    @Override
    public void close() {
        WordBlocks.give(entry, CacheLines.PAIR_BYTES);
    }
}
