package dev.tdpmmu;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import java.util.HashMap;
import java.util.Map;

/**
 * Hashes all entries of a VM at rest in the order of its tables. Where the host has put a table or a frame does not
 * matter, only whether two entries name the same.
 */
final class TableHash {
    private static final long FACTOR = 0x9e37_79b9_7f4a_7c15L;

    private final SpteFormat format;
    private final Map<Long, Long> places = new HashMap<>();
    private long hash;

    private TableHash(SpteFormat format) {
        this.format = format;
    }

    static long of(Vm vm) {
        TableHash hash = new TableHash(vm.mmu().format());
        for (TdpRoot root : vm.mmu().roots().roots()) {
            hash.add(root.isInvalid() ? 1 : 0);
            hash.addTable(root.hpa(), root.level());
        }
        return hash.hash;
    }

    private void addTable(long table, int level) {
        for (int i = 0; i < PagingLevel.ENTRIES; i++) {
            long spte = SpteAccess.readAcquire(table + ((long) i << 3));
            if (!Spte.isMmuPresent(spte)) {
                add(spte);
                continue;
            }
            long address = format.address(spte);
            add(spte ^ address);
            add(places.computeIfAbsent(address, unseen -> (long) places.size()));
            if (format.isTable(spte, level)) {
                addTable(address, level - 1);
            }
        }
    }

    private void add(long word) {
        hash = Long.rotateLeft(hash ^ word * FACTOR, 23) * FACTOR;
    }
}
