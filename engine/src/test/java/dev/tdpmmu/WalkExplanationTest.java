package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.WalkVerdict.Outcome;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.ProcessorConfigs;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.FaultAnswer;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.spte.Spte;
import dev.tdpmmu.spte.SpteFormat;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * An explanation says what the walker finds, over tables of the MMU and over entries that no MMU makes; and changes
 * nothing.
 */
class WalkExplanationTest {
    private static final long BASE = 8 * MIB_2;

    @RegisterExtension
    final TestVms vms = new TestVms();

    static List<VmConfig> processors() {
        return ProcessorConfigs.all();
    }

    /** The entries on the way to {@link #BASE} of a VM at rest, set bit by bit and put back. */
    private static final class Path implements AutoCloseable {
        private final Vm vm;
        private final HardwareWalker walker;
        private final TdpRoot root;
        private final long[] addresses = new long[PagingLevel.L256T + 1];
        private final long[] entries = new long[PagingLevel.L256T + 1];
        private final Tlb tlb = new Tlb();
        private final WalkResult result = new WalkResult();

        Path(Vm vm) {
            this.vm = vm;
            walker = HardwareWalker.of(vm.config());
            root = vm.mmu().roots().roots().getFirst();
            long table = root.hpa();
            for (int level = root.level(); level >= PagingLevel.L4K; level--) {
                addresses[level] = SpteAccess.addressOf(table, Gfn.of(BASE), level);
                entries[level] = SpteAccess.readPlain(addresses[level]);
                table = Spte.address(entries[level]);
            }
        }

        void set(int level, long entry) {
            SpteAccess.setPlain(addresses[level], entry);
        }

        void restore() {
            for (int level = PagingLevel.L4K; level <= root.level(); level++) {
                set(level, entries[level]);
            }
        }

        @Override
        public void close() {
            vm.close();
        }

        /** Explains first, since a walk sets A and D. */
        void compare(int changedLevel, long entry, int access) {
            set(changedLevel, entry);
            WalkExplanation explanation = vm.explain(BASE + 8, access);
            tlb.flushAll();
            int outcome = walker.walk(tlb, walker.makeRootPointer(root.hpa()), BASE + 8, access, result);
            restore();

            WalkVerdict verdict = explanation.verdict();
            String what = vm.config().name() + ", " + explanation;
            switch (verdict.outcome()) {
                case ALLOWED -> {
                    assertEquals(HardwareWalker.OK, outcome, what);
                    assertEquals(result.frame | 8, verdict.hpa(), what);
                    assertEquals(result.level, verdict.level(), what);
                }
                case VIOLATION -> {
                    assertEquals(HardwareWalker.VIOLATION, outcome, what);
                    assertEquals(result.exit, verdict.exit(), what);
                    assertEquals(result.faultLevel, verdict.level(), what);
                }
                case MISCONFIGURATION -> {
                    assertEquals(HardwareWalker.MISCONFIGURATION, outcome, what);
                    assertEquals(result.exit, verdict.exit(), what);
                    assertEquals(result.misconfigLevel, verdict.level(), what);
                    assertFalse(explanation.steps().getLast().misconfiguration().isEmpty(), what);
                }
                case NO_TABLES -> throw new AssertionError(what);
            }
        }
    }

    private Path path(VmConfig config) {
        Vm vm = new Vm(config);
        vm.addSlot(0, BASE, MIB_2, SMALL);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(BASE);
        }
        return new Path(vm);
    }

    @ParameterizedTest
    @MethodSource("processors")
    void verdictIsTheWalkersForEveryBitOfEveryEntry(VmConfig config) {
        try (Path path = path(config)) {
            SpteFormat format = path.vm.mmu().format();
            for (int level = PagingLevel.L4K; level <= config.pagingMode().levels(); level++) {
                for (long entry : variants(config, format, path.entries[level], level)) {
                    for (int access = 1; access <= Access.ALL; access++) {
                        path.compare(level, entry, access);
                    }
                }
            }
        }
    }

    /** Flips of one and two bits; those of an address only where it cannot lead into foreign memory. */
    private static Set<Long> variants(VmConfig config, SpteFormat format, long linked, int level) {
        Set<Long> variants = new TreeSet<>(List.of(Spte.NON_PRESENT, Spte.FROZEN, linked));
        List<Long> seeds = new ArrayList<>(List.of(linked));
        if (level <= PagingLevel.MAX_HUGE) {
            seeds.add(format.makeLeaf(3 * PageSize.SIZE_1G.bytes(), level, Access.ALL, true, false));
        }
        if (level == PagingLevel.L4K && format.mmioCaching()) {
            variants.add(format.makeMmio(Gfn.of(BASE), Access.READ, 3));
        }
        for (long seed : seeds) {
            boolean leaf = format.isLeaf(seed, level);
            for (int first = 0; first < Long.SIZE; first++) {
                for (int second = first; second < Long.SIZE; second++) {
                    if (isSafe(config, first, leaf, level) && isSafe(config, second, leaf, level)) {
                        variants.add(first == second ? seed ^ 1L << first : seed ^ 1L << first ^ 1L << second);
                    }
                }
            }
        }
        return variants;
    }

    private static boolean isSafe(VmConfig config, int bit, boolean leaf, int level) {
        if (bit == 7 && leaf && level > PagingLevel.L4K) {
            return false;
        }
        boolean address = bit >= Gfn.PAGE_SHIFT && bit < config.physicalAddressBits();
        // One bit of the address is enough, and pairs of high and low bits say nothing new.
        return (!address || leaf && bit <= 13) && (bit < 14 || bit > 50 || bit == config.physicalAddressBits());
    }

    @ParameterizedTest
    @MethodSource("processors")
    void permissionsOfAllLevelsAreTakenTogether(VmConfig config) {
        try (Path path = path(config)) {
            List<Long> masks = config.pagingMode().isEpt()
                    ? List.of(1L, 2L, 3L, 4L, 7L, 1L << 10, 4L | 1L << 10)
                    : List.of(2L, 4L, 6L, 1L << 63, 2L | 1L << 63);
            for (int level = PagingLevel.L2M; level <= config.pagingMode().levels(); level++) {
                for (long upper : masks) {
                    for (long lower : masks) {
                        for (int access = 1; access <= Access.ALL; access++) {
                            path.set(level, path.entries[level] ^ upper);
                            path.compare(PagingLevel.L4K, path.entries[PagingLevel.L4K] ^ lower, access);
                        }
                    }
                }
            }
        }
    }

    @Test
    void malformedPartIsNamed() {
        try (Path path = path(
                VmConfig.builder().executeOnly(false).physicalAddressBits(46).build())) {
            long leaf = path.entries[PagingLevel.L4K];
            assertEquals("permissions -w-", why(path, 1, leaf & ~7L | 2));
            assertEquals("permissions --x", why(path, 1, leaf & ~7L | 4));
            assertEquals("memory type 7", why(path, 1, leaf | 7L << 3));
            assertEquals("memory type 3, address above 46 bits", why(path, 1, leaf & ~(7L << 3) | 3L << 3 | 1L << 50));
            assertEquals("reserved bits 6:3", why(path, 2, path.entries[2] | 1L << 4));
            assertEquals("address not aligned to 2M", why(path, 2, leaf | 1L << 7 | 1L << 12));
            assertEquals("reserved bit 7", why(path, 4, path.entries[4] | 1L << 7));
            assertEquals("", why(path, 1, leaf));
            assertEquals(
                    "violation",
                    path.vm
                            .explain(BASE + KIB_4, Access.READ)
                            .verdict()
                            .outcome()
                            .text());
        }
    }

    @Test
    void malformedPartOfANestedEntryIsNamed() {
        try (Path path = path(VmConfig.builder()
                .pagingMode(PagingMode.NPT4)
                .physicalAddressBits(46)
                .build())) {
            assertEquals("address above 46 bits", why(path, 1, path.entries[1] | 1L << 48));
            assertEquals("reserved bit 8", why(path, 4, path.entries[4] | 1L << 8));
            assertEquals("reserved bit 8, reserved bit 7", why(path, 4, path.entries[4] | 3L << 7));
            assertEquals(
                    "not-present read user final",
                    path.vm.explain(BASE + KIB_4, Access.READ).verdict().reason());
        }
    }

    private static String why(Path path, int level, long entry) {
        path.set(level, entry);
        WalkExplanation explanation = path.vm.explain(BASE, Access.READ);
        path.restore();
        return explanation.steps().getLast().misconfiguration();
    }

    @ParameterizedTest
    @MethodSource("dev.tdpmmu.TestVms#matrix")
    void explanationHasNoEffect(VmConfig.Builder config) {
        Vm vm = vms.vmWithMemory(config, MIB_2);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(0);
            vcpu.getLong(KIB_4);
            vm.ageing().clearYoungAndFlush(0, MIB_2);
            vcpu.getLong(0);
            VmStats stats = vm.stats();
            TableDump dump = vm.dump();
            int cached = vcpu.run().tlb.validEntries();

            for (int access = 1; access <= Access.ALL; access++) {
                for (long gpa = 0; gpa < 3 * KIB_4; gpa += KIB_4) {
                    assertFalse(vm.explain(gpa, access).toString().isEmpty());
                    assertFalse(vcpu.explain(gpa, access).toString().isEmpty());
                }
            }

            assertEquals(stats, vm.stats());
            assertEquals(dump, vm.dump());
            assertEquals(cached, vcpu.run().tlb.validEntries());
        }
    }

    @Test
    void cachesDecideBeforeTheTables() {
        Vm vm = vms.vm();
        vm.addSlot(0, 0, MIB_2, HUGE);
        try (Vcpu vcpu = vm.createVcpu()) {
            vcpu.getLong(0);

            WalkExplanation load = vcpu.explain(KIB_4 + 5, Access.READ);
            WalkExplanation store = vcpu.explain(5, Access.WRITE);
            vm.zap(0, MIB_2);
            WalkExplanation late = vcpu.explain(5, Access.READ);

            assertTrue(load.verdict().cached());
            assertEquals(
                    load.steps().getLast().hpa() + KIB_4 + 5, load.verdict().hpa());
            assertEquals(2, load.verdict().level());
            // D is not set yet, so the TLB does not serve a store; the walk begins at the table that it remembers.
            assertFalse(store.verdict().cached());
            assertEquals(Outcome.ALLOWED, store.verdict().outcome());
            assertEquals(
                    List.of(true, true, false),
                    store.steps().stream().map(WalkStep::skipped).toList());
            assertTrue(late.flushPending());
            assertEquals(Outcome.VIOLATION, late.verdict().outcome());
            assertEquals(FaultAnswer.MAP, late.forecast().answer());
        }
    }

    @Test
    void vmWithoutTablesSaysWhatAFirstAccessDoes() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        vm.addSlot(1, BASE, MIB_2, SMALL, SlotFlag.READ_ONLY);
        try (Vcpu vcpu = vm.createVcpu()) {
            WalkExplanation memory = vcpu.explain(0, Access.WRITE);

            assertEquals(Outcome.NO_TABLES, memory.verdict().outcome());
            assertEquals(-1, memory.rootHpa());
            assertEquals(List.of(), memory.steps());
            assertEquals(FaultAnswer.MAP, memory.forecast().answer());
            assertEquals(
                    FaultAnswer.EMULATE_READ_ONLY,
                    vm.explain(BASE, Access.WRITE).forecast().answer());
            assertEquals(
                    FaultAnswer.EMULATE_NO_SLOT,
                    vm.explain(2 * BASE, Access.READ).forecast().answer());
        }
    }

    @Test
    void impossibleQuestionsAreRefused() {
        Vm vm = vms.vmWithMemory(VmConfig.builder(), MIB_2);
        Vcpu vcpu = vm.createVcpu();
        long limit = vm.config().guestAddressLimit();

        assertThrows(IllegalArgumentException.class, () -> vm.explain(-1, Access.READ));
        assertThrows(IllegalArgumentException.class, () -> vm.explain(limit, Access.READ));
        assertThrows(IllegalArgumentException.class, () -> vm.explain(0, 0));
        assertThrows(IllegalArgumentException.class, () -> vcpu.explain(0, Access.ALL + 1));
        assertThrows(IllegalArgumentException.class, () -> vcpu.explain(limit, Access.READ));
        assertEquals(
                Outcome.NO_TABLES, vm.explain(limit - 1, Access.READ).verdict().outcome());
        vcpu.close();
        assertThrows(IllegalStateException.class, () -> vcpu.explain(0, Access.READ));
        vm.close();
        assertThrows(VmClosedException.class, () -> vm.explain(0, Access.READ));
    }

    @Test
    void explanationIsReadable() {
        Vm vm = vms.vm(VmConfig.builder().name("golden").pml(false));
        MemSlot slot = vm.addSlot(7, BASE, 2 * MIB_2, SMALL, SlotFlag.LOG_DIRTY);
        vm.addMmio(0, KIB_4, new Registers());
        try (Vcpu vcpu = vm.createVcpu()) {
            String before = text(vcpu.explain(BASE + 0x10, Access.WRITE));
            vcpu.getLong(BASE + 0x10);
            String loaded = text(vcpu.explain(BASE + 0x10, Access.WRITE));
            vcpu.putLong(BASE + 0x10, 1);
            vcpu.getInt(0);
            vm.dirtyLog(slot).harvest();
            String late = text(vcpu.explain(BASE + 0x10, Access.WRITE));
            String device = text(vm.explain(0x10, Access.READ));

            assertEquals("""
                    -w- at gpa 0x1000010, as golden vCPU 0 would do it
                      nothing cached
                    verdict: no tables yet: a vCPU makes a root first
                    slot:    slot 7 [0x1000000, 0x1400000) AnonymousBacking[pageSize=SIZE_4K] [LOG_DIRTY], stores logged
                    MMU:     maps a leaf (4K)
                    """, before);
            assertEquals("""
                    -w- at gpa 0x1000010, as golden vCPU 0 would do it
                      cached page of 4K at F1 r-x for 0x1000000-0x1001000
                      cached table of 4K at T1 rwx for 0x1000000-0x1200000
                      cached table of 2M at T2 rwx for 0x0-0x40000000
                      cached table of 1G at T3 rwx for 0x0-0x8000000000
                      512G ~ T4[  0] = T3+0x907  table  rwx so far rwx  A- -> T3
                      1G   ~ T3[  0] = T2+0x907  table  rwx so far rwx  A- -> T2
                      2M   ~ T2[  8] = T1+0x907  table  rwx so far rwx  A- -> T1
                      4K     T1[  0] = F1+0x600000000000935  leaf   r-x so far r-x  A- WB -> F1  host- and MMU-writable
                    verdict: violation at level 4K: access=-w- allowed=r-x linear final
                    slot:    slot 7 [0x1000000, 0x1400000) AnonymousBacking[pageSize=SIZE_4K] [LOG_DIRTY], stores logged
                    MMU:     fixes the leaf without the MMU lock (4K)
                    """, loaded);
            assertEquals("""
                    -w- at gpa 0x1000010, as golden vCPU 0 would do it
                      cached page of 4K at F1 rwx for 0x1000000-0x1001000
                      cached table of 4K at T1 rwx for 0x1000000-0x1200000
                      a flush is pending: what is cached does not count
                      512G   T2[  0] = T3+0x907  table  rwx so far rwx  A- -> T3
                      1G     T3[  0] = T4+0x907  table  rwx so far rwx  A- -> T4
                      2M     T4[  8] = T1+0x907  table  rwx so far rwx  A- -> T1
                      4K     T1[  0] = F1+0x600000000000b35  leaf   r-x so far r-x  AD WB -> F1  host- and MMU-writable
                    verdict: violation at level 4K: access=-w- allowed=r-x linear final
                    slot:    slot 7 [0x1000000, 0x1400000) AnonymousBacking[pageSize=SIZE_4K] [LOG_DIRTY], stores logged
                    MMU:     fixes the leaf without the MMU lock (4K)
                    """, late);
            assertEquals("""
                    r-- at gpa 0x10, by the tables alone
                      512G   T1[  0] = T2+0x907  table  rwx so far rwx  A- -> T2
                      1G     T2[  0] = T3+0x907  table  rwx so far rwx  A- -> T3
                      2M     T3[  0] = T4+0x907  table  rwx so far rwx  A- -> T4
                      4K     T4[  0] = 0x000000000000000e  mmio   -wx so far -wx  --  no slot at gfn 0x0, r--, generation 1  malformed: \
                    permissions -wx
                    verdict: misconfiguration at level 4K: permissions -wx
                    slot:    no slot, a device answers
                    MMU:     emulates it: no slot is there
                    """, device);
        }
    }

    private static String text(WalkExplanation explanation) {
        return Addresses.normalised(explanation.toString());
    }
}
