package dev.tdpmmu.testkit;

import dev.tdpmmu.Vm;
import dev.tdpmmu.VmStats;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.TablePool;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * Makes the VMs of a test, and after it brings each to rest: verifies the whole tree, checks that the books balance,
 * closes it, and demands that the process holds as many bytes as before the test.
 *
 * <p>Register it as an instance field with {@code @RegisterExtension}. Belongs to one test at a time.
 */
public final class EngineAtRest implements BeforeEachCallback, AfterEachCallback {
    private final List<Vm> vms = new ArrayList<>();
    private long bytesBefore;

    /** Makes the extension. */
    public EngineAtRest() {}

    /**
     * Makes a VM that is checked and closed after the test.
     *
     * @param config of the VM
     * @return the VM; the test may close it itself
     */
    public Vm vm(VmConfig config) {
        Vm vm = new Vm(config);
        vms.add(vm);
        return vm;
    }

    @Override
    public void beforeEach(ExtensionContext context) {
        bytesBefore = HostMemory.bytesHandedOut();
    }

    @Override
    public void afterEach(ExtensionContext context) {
        for (Vm vm : vms) {
            if (!vm.isClosed()) {
                requireBalance(vm);
            }
            vm.close();
            requireEmpty(vm);
        }
        requireEqual("bytes handed out in the process", bytesBefore, HostMemory.bytesHandedOut());
    }

    /**
     * Waits for the VM's retired pages, verifies its tree, and checks the equations of its statistics.
     *
     * @param vm at rest: nobody uses it
     * @throws AssertionError naming the equation that does not hold
     */
    public static void requireBalance(Vm vm) {
        vm.barrier();
        vm.verify();
        VmStats stats = vm.stats();
        requireEqual(
                "flushes requested = carried out + coalesced",
                stats.remoteTlbFlushRequests(),
                stats.remoteTlbFlush() + stats.remoteTlbFlushCoalesced());
        requireEqual("table pages retired = reclaimed", stats.retiredPages(), stats.reclaimedPages());
        requireEqual("table bytes", TablePool.bytesOf(stats.tablePages()), stats.tableBytes());
    }

    private static void requireEmpty(Vm vm) {
        VmStats stats = vm.stats();
        requireEqual("leaves after close", 0, stats.pages4k() + stats.pages2m() + stats.pages1g());
        requireEqual("table pages after close", 0, stats.tablePages());
        requireEqual("bytes charged after close", 0, stats.memoryUsedInBytes());
        requireEqual("table pages retired = reclaimed, after close", stats.retiredPages(), stats.reclaimedPages());
    }

    private static void requireEqual(String what, long expected, long actual) {
        if (expected != actual) {
            throw new AssertionError(
                    "books do not balance: what=" + what + ", expected=" + expected + ", actual=" + actual);
        }
    }
}
