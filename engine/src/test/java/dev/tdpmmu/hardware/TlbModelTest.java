package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.TlbMode;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Random fills, look-ups and flushes against a map that never evicts. An unhelpful TLB must do exactly what the map
 * does; a typical one may miss where the map hits, and nothing else.
 */
final class TlbModelTest {
    private static final int OPERATIONS = 60_000;
    private static final int COMPARE_EVERY = 500;
    private static final long OFFSET = 1L << 36;

    /** A page, or the table that the entry of a level points to. */
    private record Key(boolean table, int level, long tag) {
        static Key page(int level, long gfn) {
            return new Key(false, level, gfn >>> PagingLevel.gfnShift(level));
        }

        static Key table(int level, long gfn) {
            return new Key(true, level, gfn >>> PagingLevel.gfnShift(level + 1));
        }

        boolean meets(long startGfn, long endGfn) {
            int covering = table ? level + 1 : level;
            long first = tag << PagingLevel.gfnShift(covering);
            return first < endGfn && first + PagingLevel.pages(covering) > startGfn;
        }
    }

    private final Map<Key, Long> model = new HashMap<>();
    private final WalkResult result = new WalkResult();

    @ParameterizedTest
    @EnumSource(TlbMode.class)
    void tlbHoldsWhatTheMapHolds(TlbMode mode) {
        long seed = Long.getLong("tdpmmu.seed", System.nanoTime());
        System.out.println("TlbModelTest " + mode + " seed=" + seed);
        var random = new SplittableRandom(seed);
        var tlb = new Tlb(mode, null);
        boolean exact = mode == TlbMode.UNHELPFUL;
        int largest = 0;

        for (int i = 0; i < OPERATIONS; i++) {
            step(tlb, exact, random);
            largest = Math.max(largest, model.size());
            if (exact && i % COMPARE_EVERY == 0) {
                compareAll(tlb);
            }
        }

        // Not what it holds at the end, which may be just behind a flush of everything.
        assertTrue(!exact || largest > 100, "the model stayed empty: largest=" + largest);
    }

    private void step(Tlb tlb, boolean exact, SplittableRandom random) {
        long gpa = address(random);
        int kind = random.nextInt(1000);
        if (kind < 250) {
            fillPage(tlb, gpa, 1 + random.nextInt(3), random.nextInt(1, 8), random.nextBoolean());
        } else if (kind < 400) {
            fillTable(tlb, gpa, 1 + random.nextInt(4), random.nextInt(16));
        } else if (kind < 700) {
            lookUpPage(tlb, exact, gpa, 1 << random.nextInt(3));
        } else if (kind < 850) {
            lookUpTable(tlb, exact, gpa, 1 + random.nextInt(4));
        } else if (kind < 940) {
            long start = Gfn.of(gpa);
            flush(tlb, start, start + 1);
        } else if (kind < 997) {
            long start = Gfn.of(gpa) - random.nextInt(300);
            flush(tlb, Math.max(0, start), Gfn.of(gpa) + (random.nextInt(8) == 0 ? 1L << 18 : random.nextInt(600)));
        } else if (kind < 999) {
            tlb.forget(gpa);
            model.keySet().removeIf(key -> key.meets(Gfn.of(gpa), Gfn.of(gpa) + 1));
        } else {
            tlb.flushAll();
            model.clear();
        }
    }

    private static long address(SplittableRandom random) {
        return (random.nextInt(4) == 0 ? 1L << 48 : 0)
                + (random.nextInt(4) == 0 ? 1L << 39 : 0)
                + random.nextLong(6) * PagingLevel.bytes(3)
                + random.nextLong(40) * PagingLevel.bytes(2)
                + random.nextLong(300) * Gfn.PAGE_SIZE;
    }

    private void fillPage(Tlb tlb, long gpa, int level, int permissions, boolean dirty) {
        result.entryPermissions = permissions;
        result.found((gpa + OFFSET) & -Gfn.PAGE_SIZE, level, permissions, dirty && (permissions & Access.WRITE) != 0);

        tlb.insert(gpa, result);

        long cached = result.writableCached ? permissions : permissions & ~Access.WRITE;
        model.put(Key.page(level, Gfn.of(gpa)), cached);
        model.put(Key.page(1, Gfn.of(gpa)), cached);
    }

    private void fillTable(Tlb tlb, long gpa, int level, int permissions) {
        Key key = Key.table(level, Gfn.of(gpa));
        long word = key.tag() << Gfn.PAGE_SHIFT | permissions;

        tlb.insertUpper(gpa, level, word & -Gfn.PAGE_SIZE, permissions);

        model.put(key, word);
    }

    private void lookUpPage(Tlb tlb, boolean exact, long gpa, int access) {
        long hpa = switch (access) {
            case Access.READ -> tlb.readFrame(gpa);
            case Access.WRITE -> tlb.writeFrame(gpa);
            default -> tlb.executeFrame(gpa);
        };

        int level = 1;
        while (level <= PagingLevel.MAX_HUGE && (model.getOrDefault(Key.page(level, Gfn.of(gpa)), 0L) & access) == 0) {
            level++;
        }
        boolean known = level <= PagingLevel.MAX_HUGE;
        if (known && hpa != Tlb.MISS) {
            model.put(Key.page(1, Gfn.of(gpa)), model.get(Key.page(level, Gfn.of(gpa))));
        }
        assertEquals(known && (exact || hpa != Tlb.MISS) ? gpa + OFFSET : Tlb.MISS, hpa, "gpa=" + gpa);
    }

    private void lookUpTable(Tlb tlb, boolean exact, long gpa, int level) {
        long table = switch (level) {
            case 1 -> tlb.leafTable(gpa);
            case 2 -> tlb.middleTable(gpa);
            case 3 -> tlb.upperTable(gpa);
            default -> tlb.topTable(gpa);
        };

        long expected = model.getOrDefault(Key.table(level, Gfn.of(gpa)), Tlb.MISS);
        if (exact || table != Tlb.MISS) {
            assertEquals(expected, table, "gpa=" + gpa + ", level=" + level);
        }
    }

    private void flush(Tlb tlb, long startGfn, long endGfn) {
        tlb.flushRange(startGfn, endGfn);
        model.keySet().removeIf(key -> startGfn < endGfn && key.meets(startGfn, endGfn));
    }

    private void compareAll(Tlb tlb) {
        Set<Key> seen = new HashSet<>();
        var view = new TlbView();
        for (int i = 0; i < tlb.capacity(); i++) {
            if (tlb.entryAt(i, view)) {
                Key key = view.table ? Key.table(view.level, view.gfn) : Key.page(view.level, view.gfn);
                long word = model.get(key);
                assertEquals(word & Tlb.PERMISSIONS, view.permissions, key.toString());
                assertEquals(
                        view.table ? word & -Gfn.PAGE_SIZE : Gfn.toGpa(view.gfn) + OFFSET, view.hpa, key.toString());
                seen.add(key);
            }
        }
        assertEquals(model.keySet(), seen);
        assertEquals(model.size(), tlb.validEntries());
    }
}
