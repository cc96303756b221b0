package dev.tdpmmu.bench.perf;

import dev.tdpmmu.Vm;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.TableCache;
import dev.tdpmmu.sim.FleetThreads;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.LongFunction;

/** A VM with its slots and its fleet, table pages taken from the operating system ahead. */
final class PerfVm implements AutoCloseable {
    private static final long LEAVES_OF_TABLE = PagingLevel.pages(PagingLevel.L4K + 1);
    private static final int UPPER_TABLES = 64;

    /** A fast zap fills new tables while the old ones wait for the end of their grace period. */
    private static final int GENERATIONS = 2;

    private final Vm vm;
    private final List<MemSlot> slots = new ArrayList<>();
    private final VcpuFleet fleet;

    private PerfVm(Vm vm, GuestLayout layout, LongFunction<Backing> frames, FleetThreads threads) {
        this.vm = vm;
        for (int slot = 0; slot < layout.slots(); slot++) {
            long offset = layout.slotOffset(slot);
            long bytes = layout.slotOffset(slot + 1) - offset;
            slots.add(vm.addSlot(slot, layout.gpa() + offset, bytes, frames.apply(offset)));
        }
        this.fleet = new VcpuFleet(vm, layout.vcpus(), threads);
    }

    /**
     * Makes the VM; slots are numbered from 0.
     *
     * @param frames the backing of a slot, by its offset in the memory
     */
    static PerfVm open(
            VmConfig.Builder config, GuestLayout layout, LongFunction<Backing> frames, FleetThreads threads) {
        Vm vm = new Vm(config.hugePages(layout.pageSize()).build());
        try {
            prewarm(vm, layout);
            return new PerfVm(vm, layout, frames, threads);
        } catch (RuntimeException | Error failure) {
            vm.close();
            throw failure;
        }
    }

    private static void prewarm(Vm vm, GuestLayout layout) {
        long tables = layout.pages() / LEAVES_OF_TABLE + layout.slots() + UPPER_TABLES;
        long wanted = GENERATIONS * tables + (long) layout.vcpus() * TableCache.CAPACITY;
        if (vm.prewarmTables(Math.toIntExact(wanted)) != wanted) {
            throw new IllegalStateException("table pages are missing: wanted=" + wanted + ", stats=" + vm.stats());
        }
    }

    Vm vm() {
        return vm;
    }

    /** As they were added. */
    List<MemSlot> slots() {
        return Collections.unmodifiableList(slots);
    }

    VcpuFleet fleet() {
        return fleet;
    }

    @Override
    public void close() {
        try (vm) {
            fleet.close();
        }
    }
}
