package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.TdpWalk;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import dev.tdpmmu.testkit.Actor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A table of small leaves is replaced by a huge one, retired and reclaimed while others use it: through cached
 * upper-level entries, by faults that have walked into it, by walks that stand between its parent and it.
 *
 * <pre>
 *  walk                                    | replacement
 *  reads the entry of level 2: table T     |
 *                                          | detaches T, flushes, retires T, reclaims T: full of poison, or reused
 *  reads T                                 |   -- a translation that never was
 * </pre>
 */
final class TableReplacementRaceTest {
    private static final int OLD_PAGE = 0;
    private static final int OTHER_OLD_PAGE = 1;

    /** A block with a table of small leaves whose slot now wants huge ones. */
    private abstract static class Replacement extends VmWorld {
        final MemSlot small;
        final VcpuRun user = run("user");
        final Vcpu vcpu = vcpu(user);
        final MemSlot big;
        final VcpuMmu replacer = part("replacer");

        Replacement(VmConfig.Builder config) {
            super(config);
            small = addSlot(SlotFlag.SMALL_PAGES);
            vcpu.putLong(page(OLD_PAGE), 1);
            vcpu.putLong(page(OTHER_OLD_PAGE), 1);
            big = vm.changeSlotFlags(small);
            name(spteAddress(replacer, page(0), 2), "entry of level 2");
        }

        final void replaceAndReclaim() {
            fault(replacer, big, page(2), READ_WRITE);
            vm.mmu().rcu().reclaim();
        }

        @Override
        public String outcome() {
            return level(replacer, page(2)) == 2 ? "huge" : "small";
        }
    }

    /** A guest goes on storing in the block. */
    private static final class Guest extends Replacement {
        Guest(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("replacer", this::replaceAndReclaim), Actor.of("guest", () -> {
                vcpu.putLong(page(OLD_PAGE), 11);
                assertEquals(1, vcpu.getLong(page(OTHER_OLD_PAGE)));
                vcpu.putLong(page(3), 33);
            }));
        }

        @Override
        void judge() {
            assertEquals(11, GuestBytes.getLong(hpa(page(OLD_PAGE))));
            assertEquals(33, GuestBytes.getLong(hpa(page(3))));
            assertEquals("huge", outcome());
        }
    }

    /** A fault with an older view of the slot wants a small leaf in the same table. */
    private static final class SmallFault extends Replacement {
        private final VcpuMmu faulting = part("faulting");

        SmallFault(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("replacer", this::replaceAndReclaim),
                    Actor.of("smallFault", () -> fault(faulting, small, page(3), READ_WRITE)));
        }

        @Override
        void judge() {
            assertTrue(isLeaf(faulting, page(3)));
            assertTrue(isLeaf(replacer, page(2)));
        }
    }

    /** The MMU's own walk and the hardware's walk read the tables. */
    private static final class Walks extends Replacement {
        private final HardwareWalker walker = HardwareWalker.of(vm.config());
        private final VcpuMmu software = part("software");

        Walks(VmConfig.Builder config) {
            super(config);
        }

        private void walkAsHardware() {
            ReaderSlot slot = user.mmu().slot();
            WalkResult result = new WalkResult();
            long root = walker.makeRootPointer(user.mmu().root().hpa());
            slot.enter(ReaderSlot.IN_GUEST);
            long now = HostWords.readVolatile(shootdown.sequenceAddress());
            if (now != user.seenSequence) {
                shootdown.apply(user.tlb, null, user.seenSequence, now);
                user.seenSequence = now;
                slot.acknowledge(now);
            }
            int outcome = walker.walk(user.tlb, root, page(OLD_PAGE), Access.READ, result);
            slot.leave(ReaderSlot.OUTSIDE);
            assertNotEquals(HardwareWalker.MISCONFIGURATION, outcome, "hardware met poison");
            if (outcome == HardwareWalker.OK) {
                assertEquals(hpa(page(OLD_PAGE)), result.frame);
            }
        }

        private void walkAsSoftware() {
            ReaderSlot slot = software.slot();
            slot.enter(ReaderSlot.WALKING);
            long found = vm.mmu().walk().translate(software.root(), page(OLD_PAGE));
            slot.leave(ReaderSlot.OUTSIDE);
            if (found != TdpWalk.NOT_MAPPED) {
                assertEquals(hpa(page(OLD_PAGE)), found);
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("replacer", this::replaceAndReclaim),
                    Actor.of("hardware", this::walkAsHardware),
                    Actor.of("software", this::walkAsSoftware));
        }

        @Override
        void judge() {
            assertEquals("huge", outcome());
        }
    }

    /** Two faults replace the same table. */
    private static final class Twice extends Replacement {
        private final VcpuMmu second = part("second");

        Twice(VmConfig.Builder config) {
            super(config);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("first", this::replaceAndReclaim),
                    Actor.of("second", () -> fault(second, big, page(3), READ_WRITE)));
        }

        @Override
        void judge() {
            assertEquals("huge", outcome());
            assertEquals(1, vm.stats().promotions());
            assertEquals(FaultResult.SPURIOUS, fault(second, big, page(3), READ_WRITE));
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void guestStoresGoOn(LockPolicy policy) {
        Explore.all(
                "guest against replacement, " + policy,
                () -> new Guest(VmWorld.of(policy)),
                policy == LockPolicy.PARALLEL ? 500 : 0,
                60);
    }

    @Test
    void smallFaultNeverFillsDetachedTable() {
        Explore.all("small fault against replacement", () -> new SmallFault(VmWorld.parallel()), 500, 60);
    }

    @Test
    void walksNeverSeeReclaimedTable() {
        Explore.all("walks against reclaim", () -> new Walks(VmWorld.parallel()), 600, 100);
    }

    @Test
    void tableIsReplacedOnce() {
        Explore.all("two replacements", () -> new Twice(VmWorld.parallel()), 400, 60);
    }
}
