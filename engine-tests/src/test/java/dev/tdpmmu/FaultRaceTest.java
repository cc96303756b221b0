package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Faults against faults: on one gfn, on neighbours that miss the same table, and at different levels of the same block.
 *
 * <pre>
 *  fault A                                 | fault B
 *  reads the entry: not present            |
 *                                          | reads the entry: not present, links table T2, a leaf in it
 *  links table T1 by a plain store         |   -- T2 is lost with its leaf, which stays counted for ever
 * </pre>
 */
final class FaultRaceTest {
    /** Two vCPUs store to pages of one block that has no tables yet. */
    private static final class Stores extends VmWorld {
        private final Vcpu first = vcpu("first");
        private final Vcpu second = vcpu("second");
        private final long firstGpa;
        private final long secondGpa;

        Stores(VmConfig.Builder config, int firstPage, int secondPage, SlotFlag... flags) {
            super(config);
            addSlot(flags);
            firstGpa = page(firstPage);
            secondGpa = page(secondPage) + Long.BYTES;
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("first", () -> first.putLong(firstGpa, 11)),
                    Actor.of("second", () -> second.putLong(secondGpa, 22)));
        }

        @Override
        void judge() {
            assertEquals(11, GuestBytes.getLong(hpa(firstGpa)));
            assertEquals(22, GuestBytes.getLong(hpa(secondGpa)));
            VmStats stats = vm.stats();
            long leaves = stats.pages4k() + stats.pages2m();
            assertEquals(stats.pages2m() == 1 || firstGpa >>> 12 == secondGpa >>> 12 ? 1 : 2, leaves);
            assertEquals(stats.pages2m() == 1 ? 3 : 4, stats.tablePages());
        }
    }

    /** One fault wants a huge leaf, the other, with an older view of the slot, a small one in the same block. */
    private static final class Levels extends VmWorld {
        private final MemSlot small;
        private final MemSlot big;
        private final VcpuMmu wantsSmall = part("wantsSmall");
        private final VcpuMmu wantsBig = part("wantsBig");

        Levels(VmConfig.Builder config, boolean tablesExist) {
            super(config);
            small = addSlot(SlotFlag.SMALL_PAGES);
            if (tablesExist) {
                assertEquals(FaultResult.FIXED, fault(wantsSmall, small, page(0), READ_WRITE));
            }
            big = vm.changeSlotFlags(small);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("wantsSmall", () -> fault(wantsSmall, small, page(1), READ_WRITE)),
                    Actor.of("wantsBig", () -> fault(wantsBig, big, page(2), READ_WRITE)));
        }

        @Override
        void judge() {
            assertTrue(isLeaf(wantsSmall, page(1)));
            assertTrue(isLeaf(wantsBig, page(2)));
        }

        @Override
        public String outcome() {
            return level(wantsBig, page(2)) == 2 ? "huge" : "small";
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void oneGfnGetsOneLeaf(LockPolicy policy) {
        Explore.all("same gfn, " + policy, () -> new Stores(VmWorld.of(policy), 1, 1, SlotFlag.SMALL_PAGES), 0, 50);
    }

    @Test
    void neighboursShareOneTable() {
        Explore.all("neighbours", () -> new Stores(VmWorld.parallel(), 1, 2, SlotFlag.SMALL_PAGES), 500, 60);
    }

    @Test
    void oneBlockGetsOneHugeLeaf() {
        Explore.all("one block", () -> new Stores(VmWorld.parallel(), 1, 2), 0, 50);
    }

    @Test
    void levelsMeetInMissingTables() {
        Explore.all("levels, no tables", () -> new Levels(VmWorld.parallel(), false), 500, 60);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void levelsMeetInExistingTables(LockPolicy policy) {
        Explore.all("levels, tables exist, " + policy, () -> new Levels(VmWorld.of(policy), true), 0, 50);
    }

    /** Counts how often the calling thread waits. */
    private static final class Waits implements Interleave.Hook {
        private final Thread thread = Thread.currentThread();
        private int count;

        @Override
        public void access(Interleave.Kind kind, long address) {}

        @Override
        public boolean blocked() {
            if (Thread.currentThread() == thread) {
                count++;
                return true;
            }
            return false;
        }

        @Override
        public Object actor() {
            return Thread.currentThread();
        }
    }

    /**
     * A guest that only yields between its retries stays in its carrier's queue, and with enough of them no carrier
     * looks for the thread that would end what they wait for.
     */
    @Test
    void faultThatRetriesOnAndOnLetsGoOfTheProcessor() {
        try (Vm vm = new Vm(VmWorld.parallel().backgroundReclaim(false).build())) {
            vm.addMemory(0, 0, Gfn.PAGE_SIZE, PageSize.SIZE_4K);
            VcpuMmu part = vm.mmu().createVcpu("retrying");
            vm.mmu().loadRoot(part);
            vm.mmu().invalidations().begin(0, 1);
            Waits waits = new Waits();
            Interleave.install(waits);

            try {
                for (int i = 0; i < 1000; i++) {
                    assertEquals(FaultResult.RETRY, vm.mmu().faults().handle(part, 0, Access.READ, false));
                }
            } finally {
                Interleave.install(null);
            }

            assertTrue(waits.count >= 10, "waits: " + waits.count);
            vm.mmu().invalidations().end(0, 1);
            assertEquals(FaultResult.FIXED, vm.mmu().faults().handle(part, 0, Access.READ, false));
            part.slot().leave(ReaderSlot.OUTSIDE);
            vm.mmu().closeVcpu(part);
        }
    }
}
