package dev.tdpmmu;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPaging;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;

/** What tests of guests with paging share: the configurations, and where things are in guest memory. */
final class GuestVms {
    /** Guest tables, in a slot of their own. */
    static final long TABLES = 0x10_0000;

    static final long TABLES_BYTES = 64 * Gfn.PAGE_SIZE;

    /** Data, in a slot of 4 MiB. */
    static final long DATA = 0x4000_0000L;

    static final long DATA_BYTES = 4 * PageSize.SIZE_2M.bytes();

    /** A canonical address of the upper half, and one of the lower. */
    static final long HIGH = 0xffff_8000_4022_9000L;

    static final long LOW = 0x7f00_4020_1000L;

    static final long RW = GuestPageEntry.PRESENT | GuestPageEntry.WRITABLE;
    static final long URW = RW | GuestPageEntry.USER;

    private GuestVms() {}

    /** Every paging mode and accessed/dirty setting of the host, with guests of 4 and 5 levels. */
    static Stream<Arguments> matrix() {
        List<Arguments> all = new ArrayList<>();
        for (PagingMode mode : PagingMode.values()) {
            for (AccessedDirty bits : AccessedDirty.values()) {
                if (mode.isEpt() || bits == AccessedDirty.ON) {
                    for (int levels = 4; levels <= 5; levels++) {
                        all.add(Arguments.of(VmConfig.builder().pagingMode(mode).accessedDirty(bits), levels));
                    }
                }
            }
        }
        return all.stream();
    }

    static Vm vm(TestVms vms, VmConfig.Builder config) {
        return vm(vms, config, PageSize.SIZE_4K);
    }

    static Vm vm(TestVms vms, VmConfig.Builder config, PageSize dataPages) {
        Vm vm = vms.vm(config);
        vm.addMemory(0, TABLES, TABLES_BYTES, PageSize.SIZE_4K);
        vm.addMemory(1, DATA, DATA_BYTES, dataPages);
        return vm;
    }

    static GuestTables tables(Vm vm, int levels) {
        return new GuestTables(vm.memory(), TABLES, levels);
    }

    static GuestLinear enable(Vcpu vcpu, GuestTables tables, int levels) {
        return vcpu.enablePaging(GuestPaging.of(tables.cr3(), levels));
    }
}
