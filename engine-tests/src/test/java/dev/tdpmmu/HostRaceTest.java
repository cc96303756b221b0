package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.TableHeaders;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * The host takes pages away while their slot goes, or moves.
 *
 * <pre>
 *  slot change                            | host
 *  publishes: no slot is at the old place |
 *                                         | tells the VM, which finds no slot; gives the frame away
 *                                         |   -- the leaf at the old place still leads to it
 *  zaps the old place                     |
 * </pre>
 */
final class HostRaceTest {
    private static final long NEW_PLACE = VmWorld.BASE + VmWorld.BLOCK;

    /** Steps, among them those of the locks and of the publication, and changes of leaves. */
    private static final PointFilter POINTS = (kind, address) -> kind == Interleave.Kind.STEP
            || kind != Interleave.Kind.READ
                    && HostMemory.isTable(address)
                    && TableHeaders.level(address & -HostMemory.PAGE_SIZE) == 1
                    && Explore.TABLES.includes(kind, address);

    /** A page that a guest has mapped is taken away while its slot is removed or moved. */
    private static final class ChangeAndDiscard extends VmWorld {
        private final HostPages pages = HostPages.allocate(4 * PAGE);
        private final MemSlot slot = vm.addSlot(1, BASE, 4 * PAGE, Backing.host(pages, 0));
        private final VcpuMmu part = part("part");
        private final boolean move;
        private String broken;

        ChangeAndDiscard(VmConfig.Builder config, boolean move) {
            super(config);
            this.move = move;
            vcpu("guest").putLong(BASE, 1);
            assertTrue(isLeaf(part, BASE));
        }

        private void change() {
            if (move) {
                vm.moveSlot(slot, NEW_PLACE);
            } else {
                vm.removeSlot(slot);
            }
        }

        /** Afterwards the page has no frame, and nobody touches it: a leaf would lead to memory of the host. */
        private void discard() {
            pages.discard(0, 1);
            if (!part.root().isInvalid() && (isLeaf(part, BASE) || isLeaf(part, NEW_PLACE))) {
                broken = "leaf of a page that has no frame";
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("change", this::change), Actor.of("host", this::discard));
        }

        @Override
        void judge() {
            assertEquals(null, broken);
            assertEquals(0, vm.mmu().invalidations().inProgress());
            assertEquals(0, vm.stats().pages4k());
            pages.close();
        }
    }

    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void hostReachesTheOldPlaceOfASlotThatMoves(OperationLock how) {
        for (SlotZap zap : SlotZap.values()) {
            Explore.narrow(
                    "discard against move, " + how + ", " + zap,
                    () -> new ChangeAndDiscard(VmWorld.parallel().unmapLock(how).slotZap(zap), true),
                    POINTS);
        }
    }

    @ParameterizedTest
    @EnumSource(OperationLock.class)
    void hostReachesASlotThatIsBeingRemoved(OperationLock how) {
        for (SlotZap zap : SlotZap.values()) {
            Explore.narrow(
                    "discard against removal, " + how + ", " + zap,
                    () -> new ChangeAndDiscard(VmWorld.parallel().unmapLock(how).slotZap(zap), false),
                    POINTS);
        }
    }
}
