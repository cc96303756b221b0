package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** Makes the VMs of a test; after it each is brought to rest, verified and closed, and every byte must have come back. */
final class TestVms implements BeforeEachCallback, AfterEachCallback {
    static final long KIB_4 = PageSize.SIZE_4K.bytes();
    static final long MIB_2 = PageSize.SIZE_2M.bytes();
    static final Backing SMALL = Backing.anonymous(PageSize.SIZE_4K);
    static final Backing HUGE = Backing.anonymous(PageSize.SIZE_2M);

    private final List<Vm> vms = new ArrayList<>();
    private long bytesBefore;

    /** Every paging mode, lock policy and accessed/dirty setting that exist together. */
    static Stream<VmConfig.Builder> matrix() {
        List<VmConfig.Builder> all = new ArrayList<>();
        for (PagingMode mode : PagingMode.values()) {
            for (LockPolicy policy : LockPolicy.values()) {
                for (AccessedDirty bits : AccessedDirty.values()) {
                    if (mode.isEpt() || bits == AccessedDirty.ON) {
                        all.add(VmConfig.builder()
                                .pagingMode(mode)
                                .lockPolicy(policy)
                                .accessedDirty(bits));
                    }
                }
            }
        }
        return all.stream();
    }

    Vm vm() {
        return vm(VmConfig.builder());
    }

    Vm vm(VmConfig.Builder builder) {
        Vm vm = new Vm(builder.build());
        vms.add(vm);
        return vm;
    }

    /** A VM with one slot at 0. */
    Vm vmWithMemory(VmConfig.Builder builder, long bytes) {
        Vm vm = vm(builder);
        vm.addSlot(0, 0, bytes, SMALL);
        return vm;
    }

    static MemSlot slotAt(Vm vm, long gpa) {
        return vm.memorySlots().stream()
                .filter(slot -> slot.contains(gpa >>> 12))
                .findFirst()
                .orElseThrow();
    }

    @Override
    public void beforeEach(ExtensionContext context) {
        bytesBefore = HostMemory.bytesHandedOut();
    }

    @Override
    public void afterEach(ExtensionContext context) {
        for (Vm vm : vms) {
            if (!vm.isClosed()) {
                vm.barrier();
                vm.verify();
                assertBooksBalance(vm.stats());
            }
            vm.close();
            assertClosed(vm.stats());
        }
        assertEquals(bytesBefore, HostMemory.bytesHandedOut(), "bytes handed out in the process");
    }

    /** The equations that hold while nothing runs. */
    static void assertBooksBalance(VmStats stats) {
        assertEquals(
                stats.remoteTlbFlushRequests(), stats.remoteTlbFlush() + stats.remoteTlbFlushCoalesced(), "flushes");
        assertEquals(stats.retiredPages(), stats.reclaimedPages(), "retired pages after a barrier");
        assertEquals(TablePool.bytesOf(stats.tablePages()), stats.tableBytes(), "table bytes");
    }

    private static void assertClosed(VmStats stats) {
        assertEquals(0, stats.pages4k() + stats.pages2m() + stats.pages1g(), "leaves after close");
        assertEquals(0, stats.tablePages(), "tables after close");
        assertEquals(0, stats.memoryUsedInBytes(), "bytes charged after close");
        assertEquals(stats.retiredPages(), stats.reclaimedPages(), "retired pages after close");
    }
}
