package dev.tdpmmu;

import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.config.VmConfig;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A guest runs on every processor: what the MMU makes is what that processor wants. */
final class ProcessorVariantsTest {
    private static final int VALUE = 0x0ff0_1234;

    @RegisterExtension
    final TestVms vms = new TestVms();

    @ParameterizedTest
    @MethodSource("dev.tdpmmu.config.ProcessorConfigs#builders")
    void guestLoadsStoresAndFetchesAlsoAfterAgeingAndZapping(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, 2 * MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (long gpa = 0; gpa < 2 * MIB_2; gpa += MIB_2 - KIB_4) {
                vcpu.putInt(gpa, VALUE);
                assertEquals(VALUE, vcpu.fetch(gpa));
                vm.ageing().clearYoungAndFlush(0, 2 * MIB_2);
                assertEquals(VALUE, vcpu.fetch(gpa));
                assertEquals(VALUE, vcpu.getInt(gpa));
                vm.zap(0, 2 * MIB_2);
                assertEquals(VALUE, vcpu.fetch(gpa));
                vcpu.putInt(gpa, VALUE + 1);
                assertEquals(VALUE + 1, vcpu.fetch(gpa));
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tdpmmu.config.ProcessorConfigs#builders")
    void firstAccessMayBeAFetch(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            assertEquals(0, vcpu.fetch(KIB_4));
        }
    }
}
