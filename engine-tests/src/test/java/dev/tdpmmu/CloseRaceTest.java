package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A VM is closed while others work on it, who do it or are told that it is closed; nothing of it is left.
 *
 * <pre>
 *  host                                     | close
 *  tells the VM, which holds a root         |
 *                                           | zaps all roots, waits for all retired pages, gives the pool back
 *  drops the root: the last reference       |
 *  retires its page                         |   -- a page of a pool that is gone
 * </pre>
 */
final class CloseRaceTest {
    private static final long PAGE = Gfn.PAGE_SIZE;
    private static final long HOST_BASE = 1L << 30;
    private static final long FETCHED = 2L << 30;

    /** What is done while the VM is closed. */
    private enum Operation {
        HOST_DISCARD(world -> world.pages.discard(0, 2)),
        HOST_PROTECT(world -> world.pages.protect(0, 2)),
        DISCARD(world -> world.vm.discard(0, 2 * PAGE)),
        ZAP(world -> world.vm.zap(0, 2 * PAGE)),
        AGE(world -> world.vm.ageing().clearYoung(0, 2 * PAGE)),
        NX_RECOVERY(world -> world.vm.nxHugePages().recover());

        private final Consumer<World> action;

        Operation(Consumer<World> action) {
            this.action = action;
        }

        /** The host does not know that a VM is closed. */
        boolean byHost() {
            return this == HOST_DISCARD || this == HOST_PROTECT;
        }

        boolean unmaps() {
            return byHost() || this == DISCARD;
        }
    }

    /** A VM with one page of its own and one of the host, both mapped. */
    private static final class World implements Scenario {
        private final long bytesBefore = HostMemory.bytesHandedOut();
        private final HostPages pages = HostPages.allocate(2 * PAGE);
        private final Operation operation;
        private final Vm vm;
        private final Vcpu vcpu;
        private String outcome = "none";

        World(Operation operation, OperationLock how) {
            this.operation = operation;
            vm = new Vm(VmConfig.builder()
                    .backgroundReclaim(false)
                    .mmioCaching(false)
                    .nxHugePageMitigation(true)
                    .nxRecoveryRatio(1)
                    .unmapLock(how)
                    .build());
            vm.addSlot(0, 0, 2 * PAGE, Backing.anonymous(PageSize.SIZE_4K));
            vm.addSlot(1, HOST_BASE, 2 * PAGE, Backing.host(pages, 0));
            vm.addSlot(2, FETCHED, PageSize.SIZE_2M.bytes(), Backing.synthetic(PageSize.SIZE_2M));
            vcpu = vm.createVcpu();
            vcpu.putLong(0, 1);
            vcpu.putLong(HOST_BASE, 1);
            if (operation == Operation.NX_RECOVERY) {
                vcpu.touch(FETCHED, Access.EXECUTE);
                assertEquals(1, vm.nxHugePages().splits());
            }
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("close", vm::close), Actor.of("operation", () -> {
                try {
                    operation.action.accept(this);
                    outcome = "done";
                } catch (VmClosedException closed) {
                    outcome = "closed";
                }
            }));
        }

        @Override
        public void check() {
            assertTrue(outcome.equals("done") || !operation.byHost(), "the host was told that the VM is closed");
            assertThrows(VmClosedException.class, () -> vcpu.getLong(0));
            assertEquals(0, vm.mmu().invalidations().snapshot(), "invalidation in a VM that is closed");
            VmStats stats = vm.stats();
            assertEquals(0, stats.memoryUsedInBytes(), "memory is charged after close");
            assertEquals(0, stats.pages4k(), "leaves after close");
            assertEquals(0, stats.tablePages(), "tables after close");
            assertEquals(stats.retiredPages(), stats.reclaimedPages(), "retired pages after close");
            assertEquals(0, vm.mmu().roots().roots().size(), "roots after close");
            // The pages do not tell the VM any more.
            pages.discard(0, 1);
            pages.close();
            assertEquals(bytesBefore, HostMemory.bytesHandedOut(), "memory is handed out after close");
        }

        @Override
        public String outcome() {
            return outcome;
        }

        @Override
        public Map<Long, String> names() {
            return Map.of();
        }

        @Override
        public void close() {
            vm.close();
        }
    }

    @ParameterizedTest
    @EnumSource(Operation.class)
    void operationDuringCloseHasOneOutcomeAndLeavesNothing(Operation operation) {
        for (OperationLock how : OperationLock.values()) {
            if (how == OperationLock.SHARED || operation.unmaps()) {
                Explore.all("close against " + operation + ", " + how, () -> new World(operation, how), 0, 40);
            }
        }
    }

    /** The host tells of a change when the VM has closed its slots to it, but still has them. */
    @Test
    void hostFindsNoSlotOfAVmThatDoesNotListen() {
        Explore.narrow(
                "end of close against host",
                () -> new World(Operation.HOST_DISCARD, OperationLock.SHARED),
                (kind, address) ->
                        kind == Interleave.Kind.STEP || kind == Interleave.Kind.UPDATE && !HostMemory.isTable(address));
    }
}
