package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.ProcessorConfigs;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import dev.tdpmmu.spte.SpteText;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** The two judges: whatever the MMU's format makes, the walker must understand in the same way. */
final class WalkersAgreeTest {
    private static final long GPA = (1L << 39) + 0x4060_3000L;
    private static final long HPA = 0x3_4000_0000L;

    static final List<VmConfig> CONFIGS = ProcessorConfigs.all();

    private final Tlb tlb = new Tlb();
    private final WalkResult result = new WalkResult();

    private static HandMadeTables tables(VmConfig config, SpteFormat format) {
        return new HandMadeTables(config.pagingMode().levels(), GPA, format.makeTable(0));
    }

    /** Whoever makes an access, by mode: EPT may tell user-mode and supervisor-mode pages apart, the MMU never does. */
    private static final int[] MAKERS = {0, WalkAccess.SUPERVISOR_PAGE, WalkAccess.GUEST_TABLE};

    private int walk(HardwareWalker walker, HandMadeTables tables, int access) {
        return walker.walk(tlb, walker.makeRootPointer(tables.root()), GPA, access, result);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void hardwareGrantsWhatTheFormatAllows(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        HardwareWalker walker = HardwareWalker.of(config);
        int compared = 0;
        try (HandMadeTables tables = tables(config, format)) {
            for (int level = 1; level <= 3; level++) {
                for (long spte : leaves(format, level)) {
                    for (int access = 1; access <= Access.ALL; access++) {
                        for (int maker : MAKERS) {
                            if (maker == WalkAccess.GUEST_TABLE && (access & Access.EXECUTE) != 0) {
                                continue;
                            }
                            tables.set(level, spte);
                            tlb.flushAll();
                            int outcome = walk(walker, tables, access | maker);

                            String what = SpteText.describe(format, spte, level) + ", access=" + Access.text(access)
                                    + ", maker=" + maker;
                            boolean stores = maker == WalkAccess.GUEST_TABLE && format.accessedDirty();
                            int done = stores ? access | Access.WRITE : access;
                            boolean allowed = format.allows(spte, done);
                            assertEquals(allowed ? HardwareWalker.OK : HardwareWalker.VIOLATION, outcome, what);
                            if (allowed) {
                                assertAgreement(config, format, tables, level, spte, done, what);
                                assertTrue(walker.allows(result.entryPermissions, access | maker), what);
                            } else {
                                assertEquals(spte, tables.get(level), what);
                            }
                            compared++;
                        }
                    }
                }
                if (level > 1) {
                    tables.relink(level);
                }
            }
        }
        assertTrue(compared > 5000, "compared=" + compared);
    }

    private void assertAgreement(
            VmConfig config, SpteFormat format, HandMadeTables tables, int level, long spte, int access, String what) {
        long after = tables.get(level);
        assertEquals(format.address(spte) + (GPA & PagingLevel.bytes(level) - 1), result.frame, what);
        assertEquals(level, result.level, what);
        assertEquals(format.isReadable(spte), (result.permissions & Access.READ) != 0, what);
        assertEquals(format.isWritable(spte), (result.permissions & Access.WRITE) != 0, what);
        // With the trap some fetch is refused everywhere, so none may be cached without knowing who makes it.
        boolean trap = config.hardware().guestModeExecuteTrap();
        assertEquals(format.isExecutable(spte) && !trap, (result.permissions & Access.EXECUTE) != 0, what);
        assertTrue(format.isLegal(after, level), what);
        assertTrue(format.isAccessed(after), what);
        long expected = spte | format.accessedBit() | ((access & Access.WRITE) != 0 ? format.dirtyBit() : 0);
        assertEquals(expected, after, what);
        assertEquals(
                format.isWritable(spte) && (after & format.dirtyBit()) == format.dirtyBit(),
                result.writableCached,
                what);
        // A store that hardware may still have to mark is exactly what makes an entry volatile.
        if (format.accessedDirty() && format.isWritable(after)) {
            assertEquals(!result.writableCached, format.isVolatile(after, level), what);
        }
    }

    private static List<Long> leaves(SpteFormat format, int level) {
        var leaves = new ArrayList<Long>();
        for (int access = 1; access <= Access.ALL; access++) {
            for (int flags = 0; flags < 4; flags++) {
                long spte = format.makeLeaf(HPA, level, access, (flags & 1) != 0, (flags & 2) != 0);
                leaves.add(spte);
                leaves.add(format.clearWritable(spte));
                leaves.add(format.clearWritableAndMmuWritable(spte));
                leaves.add(format.trackAccess(spte));
                leaves.add(format.restoreAccess(format.trackAccess(spte)));
                leaves.add(format.trackAccess(spte | format.accessedBit() | format.dirtyBit()));
                if (level < 3) {
                    long huge = format.makeLeaf(HPA, level + 1, access, (flags & 1) != 0, (flags & 2) != 0);
                    leaves.add(format.splitFirst(huge, level + 1) + 511 * PagingLevel.bytes(level));
                }
            }
        }
        return leaves;
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void absentEntriesAreViolationsAndMmioIsMisconfigured(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        HardwareWalker walker = HardwareWalker.of(config);
        int levels = config.pagingMode().levels();
        try (HandMadeTables tables = tables(config, format)) {
            for (int level = 1; level <= levels; level++) {
                for (long spte : new long[] {Spte.NON_PRESENT, Spte.FROZEN}) {
                    for (int access = 1; access <= Access.ALL; access++) {
                        for (int maker : new int[] {0, WalkAccess.SUPERVISOR_PAGE, WalkAccess.PRIVILEGED}) {
                            tables.set(level, spte);
                            assertEquals(HardwareWalker.VIOLATION, walk(walker, tables, access | maker));
                            assertEquals(level, result.faultLevel);
                            assertFalse(saysPresent(config));
                        }
                    }
                }
                if (level > 1) {
                    tables.relink(level);
                }
            }
            for (long generation : new long[] {0, 1, 0x155, SpteFormat.MMIO_GENERATION_MASK}) {
                for (int access = 1; access <= Access.ALL; access++) {
                    tables.set(1, format.makeMmio(Gfn.of(GPA), access, generation));
                    assertEquals(HardwareWalker.MISCONFIGURATION, walk(walker, tables, access));
                    assertEquals(1, result.misconfigLevel);
                }
            }
        }
    }

    private boolean saysPresent(VmConfig config) {
        return config.pagingMode().isEpt()
                ? ExitQualification.isPresent(result.exit)
                : NptErrorCode.isPresent(result.exit);
    }

    /** With the trap, what the MMU makes are user pages: a privileged guest may use them but not execute them. */
    @ParameterizedTest
    @FieldSource("CONFIGS")
    void privilegedGuestFetchesFromLeavesOfTheFormatUnlessTheTrapForbidsIt(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        HardwareWalker walker = HardwareWalker.of(config);
        try (HandMadeTables tables = tables(config, format)) {
            for (int level = 1; level <= 3; level++) {
                tables.set(level, format.makeLeaf(HPA, level, Access.ALL, true, false));
                for (int access = 1; access <= Access.ALL; access++) {
                    tlb.flushAll();
                    int outcome = walk(walker, tables, access | WalkAccess.PRIVILEGED);

                    boolean refused = config.hardware().guestModeExecuteTrap() && (access & Access.EXECUTE) != 0;
                    assertEquals(refused ? HardwareWalker.VIOLATION : HardwareWalker.OK, outcome);
                    assertTrue(!refused || saysPresent(config));
                }
                if (level > 1) {
                    tables.relink(level);
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void tablesOfTheFormatAreNeverWritten(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        HardwareWalker walker = HardwareWalker.of(config);
        int levels = config.pagingMode().levels();
        try (HandMadeTables tables = tables(config, format)) {
            tables.set(1, format.makeLeaf(HPA, 1, Access.ALL, true, false));

            int outcome = walk(walker, tables, Access.WRITE);

            assertEquals(HardwareWalker.OK, outcome);
            for (int level = 2; level <= levels; level++) {
                assertEquals(format.makeTable(tables.table(level - 1)), tables.get(level));
            }
        }
    }

    /** Legal entries of hardware that the format calls illegal are fine; the reverse never is. */
    @ParameterizedTest
    @FieldSource("CONFIGS")
    void noLegalLeafIsMisconfigured(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        HardwareWalker walker = HardwareWalker.of(config);
        int legal = 0;
        try (HandMadeTables tables = tables(config, format)) {
            long leaf = format.makeLeaf(HPA, 1, Access.ALL, true, false);
            for (int first = 0; first < 64; first++) {
                for (int second = first; second < 64; second++) {
                    long spte = leaf ^ 1L << first ^ (first == second ? 0 : 1L << second);
                    tables.set(1, spte);
                    if (format.isLegal(spte, 1) && !format.isMmio(spte)) {
                        legal++;
                        String what = SpteText.describe(format, spte, 1);
                        assertTrue(walk(walker, tables, Access.READ) != HardwareWalker.MISCONFIGURATION, what);
                    }
                }
            }
        }
        assertTrue(legal > 100, "legal=" + legal);
    }

    @Test
    void poisonOfTheTablePoolIsMisconfiguredEverywhere() {
        long poison = Debug.PROVE ? poisonOfThePool() : 0x7ff8_dead_dead_d8fbL;
        for (VmConfig config : CONFIGS) {
            SpteFormat format = SpteFormat.of(config);
            HardwareWalker walker = HardwareWalker.of(config);
            try (HandMadeTables tables = tables(config, format)) {
                for (int level = 1; level <= config.pagingMode().levels(); level++) {
                    tables.set(level, poison);
                    tlb.flushAll();

                    int outcome = walk(walker, tables, Access.READ);

                    assertEquals(HardwareWalker.MISCONFIGURATION, outcome, config.pagingMode() + ", level=" + level);
                    if (level > 1) {
                        tables.relink(level);
                    }
                }
            }
        }
    }

    private static long poisonOfThePool() {
        var pool = new TablePool(1, new MemoryAccount(Long.MAX_VALUE));
        long table = pool.take();
        pool.give(table);
        long poison = SpteAccess.readPlain(table);
        pool.close();
        return poison;
    }
}
