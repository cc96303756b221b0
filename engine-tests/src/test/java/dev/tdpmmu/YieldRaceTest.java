package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.mmu.TdpIterator;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Operations over ranges that are made to yield at each of their steps: they skip nothing, and they end. */
final class YieldRaceTest {
    private static final int PAGES = 4;

    /** Below the root's second entry. */
    private static final long FAR = 1L << 39;

    /** Pages that are mapped and writable, and one who wants the lock alone, again and again. */
    private abstract static class Contended extends VmWorld {
        private static final int EXCLUSIVE_TURNS = 2;

        final VcpuRun run = run("guest");
        final VcpuMmu worker = part("worker");
        private final VcpuMmu contender = part("contender");

        Contended(VmConfig.Builder config) {
            super(config);
            addSlot(SlotFlag.SMALL_PAGES);
            for (int i = 0; i < PAGES; i++) {
                vcpu(run).putLong(page(i), i);
            }
        }

        final void contend() {
            for (int i = 0; i < EXCLUSIVE_TURNS; i++) {
                vm.mmu().lock().lock(contender.slot(), LockMode.EXCLUSIVE);
                vm.mmu().lock().unlock(contender.slot(), LockMode.EXCLUSIVE);
            }
        }

        @Override
        public String outcome() {
            return "yields " + vm.stats().yields();
        }
    }

    /** Write protection yields. */
    private static final class WriteProtection extends Contended {
        WriteProtection(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of(
                            "protect",
                            () -> assertTrue(vm.mmu().ranges().writeProtect(Gfn.of(BASE), Gfn.of(BASE) + PAGES))),
                    Actor.of("contender", this::contend));
        }

        @Override
        void judge() {
            for (int i = 0; i < PAGES; i++) {
                assertTrue(isLeaf(worker, page(i)));
                assertFalse(vm.mmu().format().isWritable(spte(worker, page(i))), "skipped: page=" + i);
            }
        }
    }

    /** The zap of everything yields. */
    private static final class Zap extends Contended {
        Zap(VmConfig.Builder config) {
            super(config);
            // A second entry in the root, so that the pass over the root can yield in front of one.
            MemSlot far = vm.addSlot(2, FAR, PAGE, Backing.synthetic(PageSize.SIZE_4K));
            fault(worker, far, FAR, READ_WRITE);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("zap", () -> vm.mmu().zapAllFast(0, Gfn.of(NOWHERE))),
                    Actor.of("contender", this::contend));
        }

        @Override
        void judge() {
            assertEquals(0, vm.stats().pages4k(), "skipped");
            assertEquals(vm.mmu().roots().roots().size(), vm.stats().tablePages(), "skipped");
        }
    }

    /** Two walkers that hold the lock alone yield to each other. */
    private static final class TwoWalkers extends Contended {
        private final VcpuMmu second = part("second");
        private int visits;

        TwoWalkers(VmConfig.Builder config) {
            super(config);
        }

        private void walk(VcpuMmu by) {
            TdpIterator cursor = new TdpIterator(vm.mmu().format());
            vm.mmu().lock().lock(by.slot(), LockMode.EXCLUSIVE);
            for (cursor.start(by.root(), 1, Gfn.of(BASE), Gfn.of(BASE) + PAGES); cursor.isValid(); cursor.next()) {
                if (cursor.yieldIfNeeded(vm.mmu().lock(), by.slot(), LockMode.EXCLUSIVE)) {
                    continue;
                }
                if (cursor.level() == 1) {
                    visits++;
                }
            }
            vm.mmu().lock().unlock(by.slot(), LockMode.EXCLUSIVE);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("first", () -> walk(worker)), Actor.of("second", () -> walk(second)));
        }

        @Override
        void judge() {
            assertEquals(2 * PAGES, visits);
            assertTrue(vm.stats().yields() <= 2 * PAGES, "yields: " + vm.stats().yields());
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void writeProtectionSkipsNothing(LockPolicy policy) {
        Explore.all("write protection yields, " + policy, () -> new WriteProtection(VmWorld.of(policy)), 500, 50);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void zapSkipsNothing(LockPolicy policy) {
        Explore.all("zap yields, " + policy, () -> new Zap(VmWorld.of(policy)), 0, 50);
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void walkersThatYieldToEachOtherEnd(LockPolicy policy) {
        Explore.all("two walkers, " + policy, () -> new TwoWalkers(VmWorld.of(policy)), 500, 50);
    }
}
