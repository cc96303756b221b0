package dev.tdpmmu.slot;

import static dev.tdpmmu.slot.SlotFixture.KIB_4;
import static dev.tdpmmu.slot.SlotFixture.MIB_2;
import static dev.tdpmmu.slot.SlotFixture.NO_FLAGS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.slot.SlotException.Reason;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

final class MemSlotsTest {
    @Test
    void emptySnapshotFindsNothing() {
        MemSlots slots = MemSlots.empty(5);

        assertEquals(0, slots.size());
        assertEquals(5, slots.generation());
        assertEquals(List.of(), slots.asList());
        for (long gfn : new long[] {Long.MIN_VALUE, -1, 0, 1, 1L << 40, Long.MAX_VALUE}) {
            assertSame(MemSlot.NONE, slots.find(gfn));
            assertSame(MemSlot.NONE, slots.find(gfn, MemSlot.NONE));
        }
        for (int id : new int[] {Integer.MIN_VALUE, -1, 0, 32_763, 32_764, Integer.MAX_VALUE}) {
            assertSame(MemSlot.NONE, slots.byId(id));
        }
    }

    @Test
    void lastSlotIsTriedFirstAndOthersAreStillFound() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot first = vm.add(0, 0, KIB_4);
            MemSlot second = vm.add(1, KIB_4, KIB_4);
            MemSlots slots = vm.registry.current();

            assertSame(first, slots.find(0, first));
            assertSame(second, slots.find(1, first));
            assertSame(first, slots.find(0, second));
            assertSame(second, slots.find(1, MemSlot.NONE));
            assertSame(MemSlot.NONE, slots.find(2, second));
        }
    }

    @Test
    void lastSlotOfAnotherSnapshotIsNeverReturned() {
        try (SlotFixture vm = new SlotFixture();
                SlotFixture other = new SlotFixture()) {
            MemSlot added = vm.add(0, 0, 4 * KIB_4);
            MemSlots afterAdd = vm.registry.current();
            MemSlot foreign = other.add(0, 0, 4 * KIB_4);
            MemSlot moved = vm.registry.move(added, KIB_4).newSlot();
            MemSlots afterMove = vm.registry.current();
            MemSlot flagged =
                    vm.registry.changeFlags(moved, Set.of(SlotFlag.SMALL_PAGES)).newSlot();
            MemSlots afterFlags = vm.registry.current();
            vm.registry.remove(flagged);
            MemSlots afterRemoval = vm.registry.current();
            MemSlot again = vm.add(0, KIB_4, 4 * KIB_4);
            MemSlots afterSecondAdd = vm.registry.current();

            for (MemSlot last : List.of(added, foreign, moved, flagged, again, MemSlot.NONE)) {
                assertSame(added, afterAdd.find(2, last));
                assertSame(moved, afterMove.find(2, last));
                assertSame(MemSlot.NONE, afterMove.find(0, last));
                assertSame(flagged, afterFlags.find(2, last));
                assertSame(MemSlot.NONE, afterRemoval.find(2, last));
                assertSame(again, afterSecondAdd.find(2, last));
            }
        }
    }

    @Test
    void listIsSortedAndUnmodifiable() {
        try (SlotFixture vm = new SlotFixture()) {
            MemSlot high = vm.add(0, 8 * KIB_4, KIB_4);
            MemSlot low = vm.add(1, 2 * KIB_4, KIB_4);
            MemSlot middle = vm.add(2, 4 * KIB_4, KIB_4);

            List<MemSlot> list = vm.registry.current().asList();

            assertEquals(List.of(low, middle, high), list);
            assertThrows(UnsupportedOperationException.class, () -> list.set(0, high));
        }
    }

    @Test
    void randomChangesAgreeWithASortedMap() {
        for (int round = 0; round < 8; round++) {
            long seed = System.nanoTime();
            System.out.println("MemSlotsTest.randomChangesAgreeWithASortedMap seed=" + seed);
            changeAtRandom(seed, 2_000, 64 << round);
        }
    }

    private static void changeAtRandom(long seed, int operations, int spaceInPages) {
        Random random = new Random(seed);
        TreeMap<Long, MemSlot> oracle = new TreeMap<>();
        MemSlot last = MemSlot.NONE;
        try (SlotFixture vm = new SlotFixture()) {
            for (int i = 0; i < operations; i++) {
                long gfn = random.nextInt(spaceInPages);
                long pages = 1 + random.nextInt(8);
                List<MemSlot> live = new ArrayList<>(oracle.values());
                MemSlot victim = live.isEmpty() ? MemSlot.NONE : live.get(random.nextInt(live.size()));
                switch (random.nextInt(4)) {
                    case 0 -> {
                        if (victim.exists()) {
                            vm.registry.remove(victim).complete();
                            oracle.remove(victim.baseGfn());
                        }
                    }
                    case 1 -> {
                        if (victim.exists()) {
                            move(vm, oracle, victim, gfn, seed);
                        }
                    }
                    default -> add(vm, oracle, random.nextInt(300), gfn, pages, seed);
                }
                last = check(vm.registry.current(), oracle, random.nextInt(spaceInPages + 16), last, seed);
            }
            long pages = 0;
            for (MemSlot slot : oracle.values()) {
                pages += slot.pages();
            }
            assertEquals(pages * KIB_4, vm.account.usedInBytes(), () -> "seed=" + seed);
            assertEquals(List.copyOf(oracle.values()), vm.registry.current().asList(), () -> "seed=" + seed);
        }
    }

    private static void add(SlotFixture vm, TreeMap<Long, MemSlot> oracle, int id, long gfn, long pages, long seed) {
        boolean taken = false;
        for (MemSlot slot : oracle.values()) {
            taken |= slot.id() == id;
        }
        long gpa = Gfn.toGpa(gfn);
        if (taken) {
            vm.assertRefused(Reason.ID_IN_USE, "id=" + id, () -> vm.add(id, gpa, pages * KIB_4));
        } else if (overlaps(oracle, gfn, pages, MemSlot.NONE)) {
            vm.assertRefused(Reason.OVERLAP, "other=slot", () -> vm.add(id, gpa, pages * KIB_4));
        } else {
            MemSlot added = vm.add(id, gpa, pages * KIB_4);
            assertEquals(gfn, added.baseGfn(), () -> "seed=" + seed);
            oracle.put(gfn, added);
        }
    }

    private static void move(SlotFixture vm, TreeMap<Long, MemSlot> oracle, MemSlot slot, long gfn, long seed) {
        if (overlaps(oracle, gfn, slot.pages(), slot)) {
            vm.assertRefused(Reason.OVERLAP, "other=slot", () -> vm.registry.move(slot, Gfn.toGpa(gfn)));
            return;
        }
        MemSlot moved = vm.registry.move(slot, Gfn.toGpa(gfn)).newSlot();
        assertEquals(slot.hpa(slot.baseGfn()), moved.hpa(gfn), () -> "seed=" + seed);
        oracle.remove(slot.baseGfn());
        oracle.put(gfn, moved);
    }

    private static boolean overlaps(TreeMap<Long, MemSlot> oracle, long gfn, long pages, MemSlot except) {
        for (MemSlot slot : oracle.values()) {
            if (slot != except && slot.baseGfn() < gfn + pages && gfn < slot.endGfn()) {
                return true;
            }
        }
        return false;
    }

    private static MemSlot check(MemSlots slots, TreeMap<Long, MemSlot> oracle, long gfn, MemSlot last, long seed) {
        MemSlot expected = expected(oracle, gfn);
        assertSame(expected, slots.find(gfn), () -> "seed=" + seed + ", gfn=" + gfn);
        assertSame(expected, slots.find(gfn, last), () -> "seed=" + seed + ", gfn=" + gfn + ", last=" + last);
        assertEquals(oracle.size(), slots.size());
        if (expected.exists()) {
            assertSame(expected, slots.byId(expected.id()));
        }
        // Keep the last slot now and then although it may be replaced by then.
        return expected.exists() ? expected : last;
    }

    private static MemSlot expected(TreeMap<Long, MemSlot> oracle, long gfn) {
        Map.Entry<Long, MemSlot> below = oracle.floorEntry(gfn);
        return below != null && gfn < below.getValue().endGfn() ? below.getValue() : MemSlot.NONE;
    }

    @Test
    void mostSlotsCanBeAddedFoundAndRemoved() {
        long seed = System.nanoTime();
        System.out.println("MemSlotsTest.mostSlotsCanBeAddedFoundAndRemoved seed=" + seed);
        Random random = new Random(seed);
        Backing synthetic = Backing.synthetic(PageSize.SIZE_4K);
        try (SlotFixture vm = new SlotFixture()) {
            // Ids backwards and frames permuted, so that slots are inserted everywhere. 12,347 and the maximum are
            // coprime.
            for (int i = 0; i < MemSlots.MAX_SLOTS; i++) {
                long place = i * 12_347L % MemSlots.MAX_SLOTS;
                vm.registry.add(MemSlots.MAX_SLOTS - 1 - i, place * 2 * KIB_4, KIB_4, synthetic, NO_FLAGS);
            }
            MemSlots full = vm.registry.current();

            assertEquals(32_764, full.size());
            vm.assertRefused(Reason.TOO_MANY_SLOTS, "max=32764", () -> vm.add(0, 1L << 40, KIB_4));
            vm.assertRefused(Reason.BAD_ID, "max=32763", () -> vm.add(32_764, 1L << 40, KIB_4));
            MemSlot last = MemSlot.NONE;
            for (long gfn = 0; gfn < 2 * MemSlots.MAX_SLOTS; gfn++) {
                last = full.find(gfn, last);
                assertEquals(gfn % 2 == 0, last.exists());
                assertTrue(!last.exists() || last.baseGfn() == gfn && full.byId(last.id()) == last);
            }

            for (int i = 0; i < 2_000; i++) {
                MemSlot victim = vm.registry.current().byId(random.nextInt(MemSlots.MAX_SLOTS));
                if (victim.exists()) {
                    vm.registry.remove(victim).complete();
                    assertSame(
                            MemSlot.NONE, vm.registry.current().find(victim.baseGfn(), victim), () -> "seed=" + seed);
                    assertSame(victim, full.find(victim.baseGfn()), () -> "seed=" + seed);
                }
            }
            for (MemSlot slot : vm.registry.current().asList()) {
                assertSame(slot, vm.registry.current().find(slot.baseGfn()), () -> "seed=" + seed);
            }
        }
    }

    @Test
    void readerSeesAMovingSlotInExactlyOnePlace() throws InterruptedException {
        try (SlotFixture vm = new SlotFixture()) {
            AtomicBoolean done = new AtomicBoolean();
            AtomicReference<String> failure = new AtomicReference<>("");
            MemSlot slot = vm.add(0, 0, KIB_4);
            Thread reader = Thread.ofPlatform().start(() -> {
                MemSlot last = MemSlot.NONE;
                long generation = -1;
                while (!done.get()) {
                    MemSlots slots = vm.registry.current();
                    MemSlot low = slots.find(0, last);
                    MemSlot high = slots.find(Gfn.of(MIB_2), last);
                    if (low.exists() == high.exists() || slots.generation() < generation || slots.size() != 1) {
                        failure.set("low=" + low + ", high=" + high + ", slots=" + slots + ", before=" + generation);
                        return;
                    }
                    last = low.exists() ? low : high;
                    generation = slots.generation();
                }
            });

            for (int i = 0; i < 20_000; i++) {
                slot = vm.registry.move(slot, i % 2 == 0 ? MIB_2 : 0).newSlot();
            }
            done.set(true);
            reader.join();

            assertEquals("", failure.get());
        }
    }
}
