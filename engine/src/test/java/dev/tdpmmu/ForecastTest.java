package dev.tdpmmu;

import static dev.tdpmmu.TestVms.HUGE;
import static dev.tdpmmu.TestVms.KIB_4;
import static dev.tdpmmu.TestVms.MIB_2;
import static dev.tdpmmu.TestVms.SMALL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.WalkVerdict.Outcome;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.mmu.FaultAnswer;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What an explanation foretells is what the vCPU and the MMU then do, whatever was done to the guest's memory before.
 */
class ForecastTest {
    private static final int STEPS = 1_500;
    private static final long HUGE_AT = 4 * MIB_2;
    private static final long READ_ONLY_AT = 8 * MIB_2;
    private static final long DEVICE_AT = 16 * MIB_2;
    private static final long[] PLACES = {0, HUGE_AT, HUGE_AT + MIB_2, READ_ONLY_AT, DEVICE_AT, 32 * MIB_2};

    @RegisterExtension
    final TestVms vms = new TestVms();

    private final Map<FaultAnswer, Integer> answers = new EnumMap<>(FaultAnswer.class);
    private int refusedByTlb;
    private WriteWatch watch;

    static List<VmConfig.Builder> configs() {
        List<VmConfig.Builder> configs = new ArrayList<>();
        for (TlbMode tlb : TlbMode.values()) {
            for (boolean pml : new boolean[] {true, false}) {
                TestVms.matrix()
                        .forEach(config -> configs.add(config.pml(pml).hardware(HardwareConfig.DEFAULT.withTlb(tlb))));
            }
        }
        return configs;
    }

    @ParameterizedTest
    @MethodSource("configs")
    void accessEndsAsItsExplanationSays(VmConfig.Builder config) {
        Vm vm = vms.vm(config);
        vm.addSlot(0, 0, MIB_2, SMALL);
        vm.addSlot(1, HUGE_AT, 2 * MIB_2, HUGE);
        vm.addSlot(2, READ_ONLY_AT, MIB_2, SMALL, SlotFlag.READ_ONLY);
        vm.addMmio(DEVICE_AT, KIB_4, new Registers());
        Map<Outcome, Integer> seen = new EnumMap<>(Outcome.class);
        long seed = 4711;
        Random random = new Random(seed);
        try (Vcpu vcpu = vm.createVcpu()) {
            for (int step = 0; step < STEPS; step++) {
                if (random.nextInt(8) == 0) {
                    disturb(vm, random);
                }
                long gpa = PLACES[random.nextInt(PLACES.length)] + random.nextInt(3) * KIB_4;
                int access = 1 << random.nextInt(3);
                WalkExplanation explanation = vcpu.explain(gpa, access);

                String what =
                        "seed=" + seed + ", step=" + step + ", " + vm.config().pagingMode() + "\n" + explanation;
                VmStats before = vm.stats();
                long exits = vcpu.run().exits;
                boolean done = vcpu.touch(gpa, access);
                if (!explanation.flushPending()) {
                    Outcome outcome = explanation.verdict().outcome();
                    seen.merge(outcome, 1, Integer::sum);
                    assertEquals(outcome == Outcome.ALLOWED ? 0 : 1, vcpu.run().exits - exits, what);
                    answers.merge(explanation.forecast().answer(), 1, Integer::sum);
                    refusedByTlb += explanation.verdict().cached() && outcome == Outcome.VIOLATION ? 1 : 0;
                    compare(explanation, done, before, vm.stats(), what);
                    if (done && explanation.forecast().level() != 0) {
                        int level = vm.translate(gpa).orElseThrow().pageSize().level();
                        assertEquals(explanation.forecast().level(), level, what);
                    }
                }
            }
        }
        assertTrue(
                answers.keySet().containsAll(EnumSet.range(FaultAnswer.MAP, FaultAnswer.REPLACE_TABLE)),
                answers::toString);
        assertTrue(
                answers.keySet().containsAll(EnumSet.range(FaultAnswer.EMULATE_NO_SLOT, FaultAnswer.EMULATE_WATCHED)),
                answers::toString);
        assertEquals(vm.config().hardware().tlb() == TlbMode.UNHELPFUL, refusedByTlb > 0);
        assertTrue(seen.get(Outcome.ALLOWED) > 100 && seen.get(Outcome.VIOLATION) > 100, seen::toString);
    }

    private static void compare(WalkExplanation explanation, boolean done, VmStats before, VmStats after, String what) {
        long fast = after.pfFast() - before.pfFast();
        long fixed = after.pfFixed() - before.pfFixed();
        long spurious = after.pfSpurious() - before.pfSpurious();
        long emulated = after.pfEmulate() - before.pfEmulate();
        switch (explanation.forecast().answer()) {
            case NONE -> assertEquals(0, fast + fixed + spurious + emulated, what);
            case SPURIOUS -> assertEquals(1, spurious, what);
            case FAST_FIX -> assertEquals(1, fast, what);
            case MAP, WIDEN -> {
                assertEquals(1, fixed, what);
                assertEquals(0, after.splits() - before.splits() + after.promotions() - before.promotions(), what);
            }
            case SPLIT -> assertEquals(1, after.splits() - before.splits(), what);
            case REPLACE_TABLE -> assertEquals(1, after.promotions() - before.promotions(), what);
            case EMULATE_NO_SLOT, EMULATE_READ_ONLY, EMULATE_WATCHED -> assertEquals(1, emulated, what);
            case ASK_HOST, RETRY -> throw new AssertionError(what);
        }
        assertEquals(emulated == 0, done, what);
    }

    private void disturb(Vm vm, Random random) {
        switch (random.nextInt(7)) {
            case 0 -> vm.zap(random.nextInt(3) * KIB_4, KIB_4);
            case 1 -> vm.zap(HUGE_AT + random.nextInt(2) * MIB_2, KIB_4);
            case 2 -> vm.ageing().clearYoungAndFlush(0, 3 * KIB_4);
            case 3 -> vm.ageing().clearYoungAndFlush(HUGE_AT, MIB_2);
            case 4 -> toggleLog(vm, random.nextInt(2));
            case 5 -> vm.nxHugePages().setOn(!vm.nxHugePages().isOn());
            default -> toggleWatch(vm);
        }
    }

    private static void toggleLog(Vm vm, int slotId) {
        MemSlot slot = vm.memorySlots().get(slotId);
        if (slot.logsDirty()) {
            vm.changeSlotFlags(slot);
        } else {
            vm.startDirtyLog(slot);
        }
    }

    private void toggleWatch(Vm vm) {
        if (watch == null) {
            watch = vm.watchWrites(HUGE_AT, 1, (gpa, bytes, value) -> {});
            assertTrue(vm.explain(HUGE_AT, Access.READ).forecast().watched());
        } else {
            watch.close();
            watch = null;
        }
    }
}
