package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.ProcessorConfigs;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** A walk that begins at a remembered table knows what the entries above it forbid, and so does all that it remembers. */
final class RememberedTablesTest {
    static final List<VmConfig> CONFIGS = ProcessorConfigs.all();

    private static final long GPA = (1L << 39) + 0x4060_3000L;
    private static final long HPA = 0x3_4000_0000L;
    private static final int READ_ONLY = 1;
    private static final int READ_WRITE = 3;

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    /** EPT: R alone, with W, with X, with XU, all of them. NPT: P and US alone, with RW, with NX where it exists. */
    private static long[] restrictions(VmConfig config) {
        if (config.pagingMode().isEpt()) {
            return new long[] {READ_ONLY, READ_WRITE, READ_ONLY | 4, READ_ONLY | 1L << 10, 7 | 1L << 10};
        }
        long noExecute = config.hardware().noExecute() ? 1L << 63 : 0;
        return new long[] {READ_ONLY | 4, READ_WRITE | 4, READ_WRITE | 4 | noExecute};
    }

    private static int permissions(VmConfig config, long restriction) {
        boolean ept = config.pagingMode().isEpt();
        boolean executable = ept ? (restriction & 4) != 0 : restriction >= 0;
        boolean userOwn = ept && config.hardware().modeBasedExecute();
        boolean user = !ept || userOwn && (restriction & 1L << 10) != 0;
        return (int) restriction & READ_WRITE | (executable ? Access.EXECUTE : 0) | (user ? WalkResult.USER : 0);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void entriesAboveForbidTheSameToTheNeighbour(VmConfig config) {
        boolean ept = config.pagingMode().isEpt();
        HardwareWalker walker = HardwareWalker.of(config);
        int levels = config.pagingMode().levels();
        long everything = ept ? 0x407 : 7;
        long leaf = HPA | everything | (ept ? 6L << 3 : 0);
        try (var tables = new HandMadeTables(levels, GPA, everything | walker.accessed)) {
            long root = walker.makeRootPointer(tables.root());
            for (int restricted = 3; restricted <= levels; restricted++) {
                for (long restriction : restrictions(config)) {
                    tables.set(restricted, tables.table(restricted - 1) | walker.accessed | restriction);
                    // The neighbour's path forks off at this level, by an entry that leads back into the same tables:
                    // with A for the fast walk, without it for the slow one.
                    for (int level = 2; level < restricted; level++) {
                        for (long flag : new long[] {walker.accessed, 0}) {
                            long neighbour = GPA ^ PagingLevel.bytes(level);
                            long fork = tables.table(level - 1) | everything | flag;
                            SpteAccess.setPlain(
                                    SpteAccess.addressOf(tables.table(level), Gfn.of(neighbour), level), fork);
                            tables.set(1, leaf);
                            tlb.flushAll();
                            int first = walker.walk(tlb, root, GPA, Access.READ, result);

                            int second = walker.walk(tlb, root, neighbour, Access.READ, result);
                            int permissions = result.entryPermissions;
                            int again = walker.walk(tlb, root, neighbour, Access.READ, result);

                            String what = config.name() + ", restricted=" + restricted + ", to=0x"
                                    + Long.toHexString(restriction) + ", fork=" + level + ", flag=" + flag;
                            int expected = permissions(config, restriction);
                            assertEquals(HardwareWalker.OK, first | second | again, what);
                            assertEquals(expected, permissions, what);
                            assertEquals(expected, result.entryPermissions, what);
                            for (int lower = level - 1; lower >= 2; lower--) {
                                long third = neighbour ^ PagingLevel.bytes(lower);
                                SpteAccess.setPlain(
                                        SpteAccess.addressOf(tables.table(lower), Gfn.of(third), lower),
                                        tables.table(lower - 1) | everything | flag);
                                assertEquals(
                                        HardwareWalker.OK, walker.walk(tlb, root, third, Access.READ, result), what);
                                assertEquals(expected, result.entryPermissions, what);
                            }
                            int store = walker.walk(tlb, root, neighbour, Access.WRITE, result);
                            boolean writable = (restriction & READ_WRITE) == READ_WRITE;
                            assertEquals(writable ? HardwareWalker.OK : HardwareWalker.VIOLATION, store, what);
                        }
                    }
                }
                tables.relink(restricted);
            }
        }
    }

    /** Not flushed, so still used: a table of every level, by the fast walk and by the slow one. */
    @ParameterizedTest
    @FieldSource("CONFIGS")
    void walkBeginsAtTheLowestRememberedTable(VmConfig config) {
        boolean ept = config.pagingMode().isEpt();
        HardwareWalker walker = HardwareWalker.of(config);
        int levels = config.pagingMode().levels();
        long everything = ept ? 0x407 : 7;
        for (int level = 1; level < levels; level++) {
            for (long flag : new long[] {walker.accessed, 0}) {
                try (var tables = new HandMadeTables(levels, GPA, everything | walker.accessed)) {
                    long root = walker.makeRootPointer(tables.root());
                    long neighbour = GPA ^ PagingLevel.bytes(level);
                    long leaf = HPA | everything | (ept ? 6L << 3 : 0);
                    long fork = level == 1 ? leaf : tables.table(level - 1) | everything | flag;
                    SpteAccess.setPlain(SpteAccess.addressOf(tables.table(level), Gfn.of(neighbour), level), fork);
                    tables.set(1, leaf);
                    tlb.flushAll();
                    int first = walker.walk(tlb, root, GPA, Access.READ, result);
                    for (int above = level + 1; above <= levels; above++) {
                        tables.set(above, 0);
                    }

                    int second = walker.walk(tlb, root, neighbour, Access.READ, result);

                    String what = config.name() + ", fork=" + level + ", flag=" + flag;
                    assertEquals(HardwareWalker.OK, first, what);
                    assertEquals(HardwareWalker.OK, second, what);
                    tlb.flushAll();
                    assertEquals(
                            HardwareWalker.VIOLATION, walker.walk(tlb, root, neighbour, Access.READ, result), what);
                }
            }
        }
    }
}
