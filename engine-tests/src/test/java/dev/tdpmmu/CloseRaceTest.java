package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.Scenario;
import dev.tdpmmu.testkit.ScheduleExplorer;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A VM is closed while a vCPU loads its root. */
class CloseRaceTest {
    /**
     * The vCPU has no root yet.
     *
     * <pre>
     *  vCPU                                    | close
     *  takes the MMU lock, finds or makes a    |
     *  root, unlocks: its slot says OUTSIDE    |
     *                                          | every slot is outside; takes roots and stocks from the vCPUs
     *  keeps the root                          |   -- with a reference that nobody puts: its page leaks
     * </pre>
     */
    private static final class FirstAccessAgainstClose implements Scenario {
        private final Vm vm;
        private final Vcpu vcpu;
        private String outcome = "";

        FirstAccessAgainstClose(LockPolicy policy) {
            vm = new Vm(VmConfig.builder()
                    .lockPolicy(policy)
                    .backgroundReclaim(false)
                    .build());
            vm.addSlot(0, 0, PageSize.SIZE_4K.bytes(), Backing.anonymous(PageSize.SIZE_4K));
            vcpu = vm.createVcpu();
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("vCPU", this::access), Actor.of("close", vm::close));
        }

        private void access() {
            try {
                vcpu.putLong(0, 1);
                outcome = "stored";
            } catch (VmClosedException closed) {
                outcome = "refused";
            }
        }

        @Override
        public void check() {
            assertEquals(0, vm.stats().memoryUsedInBytes());
            assertEquals(0, vm.stats().tablePages());
        }

        @Override
        public String outcome() {
            return outcome;
        }

        @Override
        public void close() {
            vm.close();
        }
    }

    @ParameterizedTest
    @EnumSource(LockPolicy.class)
    void closeMissesNoRootThatAVcpuIsLoading(LockPolicy policy) {
        ScheduleExplorer explorer = ScheduleExplorer.of(
                        "first access against close, " + policy, () -> new FirstAccessAgainstClose(policy))
                .trustLocks()
                .maxSteps(100_000)
                .points((kind, address) -> !HostMemory.isTable(address));

        System.out.println(
                explorer.preemptions(1).exhaustive(20_000).requireExhausted().requireOutcomes("stored", "refused"));
    }
}
