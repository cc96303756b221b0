package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.ProcessorConfigs;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.PermissionOracle.Kind;
import dev.tdpmmu.hardware.PermissionOracle.Verdict;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/**
 * All permissions of all entries of a path at once, for every kind of access, page size and processor: the walkers must
 * say what {@link PermissionOracle} says. With five levels these are a million paths of 4 KiB, of which the normal
 * build walks a random part.
 */
final class PermissionMatrixTest {
    static final List<VmConfig> CONFIGS = ProcessorConfigs.all();

    private static final long GPA = (1L << 39) + 0x4060_3000L + 0x123;
    private static final long HPA = 0x3_4000_0000L;
    private static final int COMBINATIONS = 16;
    private static final int SAMPLE = 16;

    private static final Kind[] KINDS = Kind.values();
    private static final int[] ACCESSES = {
        Access.READ,
        Access.WRITE,
        Access.EXECUTE,
        Access.READ | WalkAccess.GUEST_TABLE,
        Access.WRITE | WalkAccess.GUEST_TABLE,
    };

    /** Letters of a path's entry: R W X XU, or P RW US NX. */
    private static final boolean[][] LETTERS = letters();

    private final PermissionOracle oracle = new PermissionOracle();
    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();
    private long walks;

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void everyPathOfFourLevelsAndSomeOfFive(VmConfig config) {
        long seed = System.nanoTime();
        walkAll(config, config.pagingMode().levels() == 4 ? null : new SplittableRandom(seed));
        System.out.println("PermissionMatrixTest " + config.name() + ": walks=" + walks + ", seed=" + seed);
    }

    @Tag("exhaustive")
    @ParameterizedTest
    @FieldSource("CONFIGS")
    void everyPath(VmConfig config) {
        walkAll(config, null);
        System.out.println("PermissionMatrixTest " + config.name() + ": walks=" + walks);
    }

    private void walkAll(VmConfig config, SplittableRandom sample) {
        oracle.accessedDirty = config.accessedDirty() == AccessedDirty.ON;
        oracle.executeOnly = config.executeOnly();
        oracle.modeBasedExecute = config.hardware().modeBasedExecute();
        oracle.noExecute = config.hardware().noExecute();
        oracle.guestModeExecuteTrap = config.hardware().guestModeExecuteTrap();
        HardwareWalker walker = HardwareWalker.of(config);
        int levels = config.pagingMode().levels();
        for (PageSize size : PageSize.values()) {
            int entries = levels - size.level() + 1;
            int paths = 1 << 4 * entries;
            try (var tables = new HandMadeTables(levels, GPA, 0)) {
                int previous = -1;
                for (int path = 0; path < paths; path++) {
                    if (sample != null && size == PageSize.SIZE_4K && sample.nextInt(SAMPLE) != 0) {
                        continue;
                    }
                    walkPath(config, walker, tables, size.level(), path, previous);
                    previous = path;
                }
            }
        }
    }

    /** Four bits of the number for each entry, the leaf's first. */
    private void walkPath(
            VmConfig config, HardwareWalker walker, HandMadeTables tables, int leafLevel, int path, int previous) {
        int levels = config.pagingMode().levels();
        var entries = new boolean[levels - leafLevel + 1][];
        for (int level = leafLevel; level <= levels; level++) {
            int shift = 4 * (level - leafLevel);
            int permissions = path >>> shift & COMBINATIONS - 1;
            entries[levels - level] = LETTERS[permissions];
            if (previous < 0 || (path ^ previous) >>> shift != 0) {
                tables.set(level, entry(config, tables, level, leafLevel, permissions));
            }
        }
        long root = walker.makeRootPointer(tables.root());
        long leaf = tables.get(leafLevel);
        // Every second path leaves its tables in the caches, which must then know all permissions above them.
        boolean cold = (Integer.bitCount(path) & 1) == 0;
        for (int i = 0; i < ACCESSES.length; i++) {
            for (int maker = 0; maker < 2; maker++) {
                int access = ACCESSES[i];
                if (config.pagingMode().isEpt()) {
                    oracle.extended(entries, KINDS[i], maker == 1);
                    access |= maker == 1 ? WalkAccess.SUPERVISOR_PAGE : 0;
                } else {
                    oracle.nested(entries, KINDS[i], maker == 1);
                    access |= maker == 1 ? WalkAccess.PRIVILEGED : 0;
                }
                if (cold || i + maker == 0) {
                    tlb.flushAll();
                }
                int outcome = walker.walk(tlb, root, GPA, access, result);
                judge(config, outcome, leafLevel, path, access);
                if (outcome == HardwareWalker.OK) {
                    long flags = walker.accessed | (oracle.stores ? walker.dirty : 0);
                    if (tables.get(leafLevel) != (leaf | flags) || !walker.allows(result.entryPermissions, access)) {
                        fail(text(config, outcome, leafLevel, path, access));
                    }
                    tables.set(leafLevel, leaf);
                } else if (tables.get(leafLevel) != leaf) {
                    fail(text(config, outcome, leafLevel, path, access));
                }
                walks++;
            }
        }
    }

    private void judge(VmConfig config, int outcome, int leafLevel, int path, int access) {
        boolean right = switch (outcome) {
            case HardwareWalker.OK ->
                oracle.verdict == Verdict.DONE
                        && result.level == leafLevel
                        && result.permissions == everyone()
                        && result.frame == HPA + (GPA & PagingLevel.bytes(leafLevel) - 1 & -4096L);
            case HardwareWalker.VIOLATION -> oracle.verdict == Verdict.VIOLATION && result.exit == oracle.report;
            default ->
                oracle.verdict == Verdict.MALFORMED
                        && result.exit == (config.pagingMode().isEpt() ? 0 : oracle.report);
        };
        if (!right) {
            assertEquals(
                    "oracle: " + oracle.verdict + " 0x" + Long.toHexString(oracle.report),
                    text(config, outcome, leafLevel, path, access));
        }
    }

    private int everyone() {
        return (oracle.everyoneLoads ? Access.READ : 0)
                | (oracle.everyoneStores ? Access.WRITE : 0)
                | (oracle.everyoneFetches ? Access.EXECUTE : 0);
    }

    private String text(VmConfig config, int outcome, int leafLevel, int path, int access) {
        return config.name() + ", leafLevel=" + leafLevel + ", permissions from the root=0x" + Integer.toHexString(path)
                + ", access=0x" + Integer.toHexString(access) + ", outcome=" + outcome + ", exit=0x"
                + Long.toHexString(result.exit);
    }

    private static boolean[][] letters() {
        var letters = new boolean[COMBINATIONS][4];
        for (int permissions = 0; permissions < COMBINATIONS; permissions++) {
            for (int i = 0; i < 4; i++) {
                letters[permissions][i] = (permissions & 1 << i) != 0;
            }
        }
        return letters;
    }

    /** Tables have A already, so that walks need not set it and the fast ones have their turn. */
    private static long entry(VmConfig config, HandMadeTables tables, int level, int leafLevel, int permissions) {
        boolean ept = config.pagingMode().isEpt();
        long bits = permissions & 7 | ((permissions & 8) == 0 ? 0 : ept ? 1L << 10 : 1L << 63);
        if (level > leafLevel) {
            boolean flags = !ept || config.accessedDirty() == AccessedDirty.ON;
            return tables.table(level - 1) | bits | (!flags ? 0 : ept ? 1L << 8 : 1L << 5);
        }
        return HPA | bits | (ept ? 6L << 3 : 0) | (level > 1 ? 1L << 7 : 0);
    }
}
