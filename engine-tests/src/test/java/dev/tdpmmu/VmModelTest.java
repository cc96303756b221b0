package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.SlotZap;
import dev.tdpmmu.config.TlbMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.mmu.TreeCensus;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * Random operations on one VM against plain maps of bytes and sets of pages. A failure names the seed, the point of the
 * matrix with its settings, and the number of the operation; the same seed does the same again.
 */
class VmModelTest {
    private static final int OPERATIONS = 3_000;
    private static final int CHECK_EVERY = 250;
    private static final int RING_ENTRIES = 1024;

    private static final Seeds SEEDS = Seeds.announce("VmModelTest");

    /** Deals the ways of tracking, so that each is used in each run. */
    private static final AtomicInteger CELLS = new AtomicInteger();

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix
    void everyOperationDoesWhatTheModelSays(VmConfig.Builder builder) {
        String cell = builder.build().name();
        SplittableRandom random = SEEDS.random(cell);
        VmConfig config = settings(builder, random);
        Model model = new Model(engine.vm(config), random);
        try {
            for (int i = 0; i < OPERATIONS; i++) {
                step(model, i);
            }
            model.requireSomethingLogged();
        } finally {
            model.changes.close();
        }
    }

    private static VmConfig settings(VmConfig.Builder builder, SplittableRandom random) {
        DirtyTracking[] trackings = DirtyTracking.values();
        return builder.backgroundReclaim(random.nextBoolean())
                .fastFix(random.nextInt(4) != 0)
                .dirtyTracking(trackings[CELLS.getAndIncrement() % trackings.length])
                .dirtyRingEntries(RING_ENTRIES)
                .pml(random.nextBoolean())
                .eagerSplit(random.nextBoolean())
                .clearLock(any(OperationLock.values(), random))
                .unmapLock(any(OperationLock.values(), random))
                .slotZap(any(SlotZap.values(), random))
                .nxHugePageMitigation(random.nextBoolean())
                .nxRecoveryRatio(1 + random.nextInt(4))
                .hardware(HardwareConfig.DEFAULT.withTlb(any(TlbMode.values(), random)))
                .build();
    }

    private static <T> T any(T[] values, SplittableRandom random) {
        return values[random.nextInt(values.length)];
    }

    private static void step(Model model, int number) {
        try {
            model.step();
            if (number % CHECK_EVERY == CHECK_EVERY - 1) {
                model.compareEverything();
            }
        } catch (RuntimeException | AssertionError failure) {
            throw new AssertionError(
                    "model differs: " + SEEDS + ", operation=" + number + ", last=" + model.world.last + ", config="
                            + model.world.vm.config() + ", cause=" + failure,
                    failure);
        }
    }

    private static final class Model {
        private final ModelWorld world;
        private final ModelAccesses accesses;
        private final ModelLogs logs;
        private final ModelSlotChanges changes;
        private final ModelRanges ranges;

        Model(Vm vm, SplittableRandom random) {
            world = new ModelWorld(vm, random);
            accesses = new ModelAccesses(world);
            logs = new ModelLogs(world);
            changes = new ModelSlotChanges(world, logs);
            ranges = new ModelRanges(world);
        }

        void step() {
            int kind = world.random.nextInt(50);
            if (kind < 6) {
                changes.step(kind);
            } else if (kind < 10) {
                logs.step();
            } else if (kind < 15) {
                ranges.step();
            } else if (kind == 15) {
                reopenVcpu();
            } else {
                accesses.step(kind - 16);
            }
        }

        private void reopenVcpu() {
            world.last = "reopen vCPU";
            int index = world.random.nextInt(ModelWorld.VCPUS);
            logs.vcpuCloses();
            world.vcpus.get(index).close();
            world.vcpus.set(index, world.vm.createVcpu());
            world.setRingHandler();
        }

        void compareEverything() {
            logs.take();
            world.last = "verify";
            EngineAtRest.requireBalance(world.vm);
            requireCounted();
            Vcpu reader = world.vcpu();
            for (ModelSlot slot : world.slots.values()) {
                long gpa = slot.handle.gpa();
                for (Map.Entry<Long, Byte> entry : slot.bytes.entrySet()) {
                    byte found = world.guest(() -> reader.getByte(gpa + entry.getKey()));
                    assertEquals(entry.getValue(), found);
                }
            }
            for (Vcpu vcpu : world.vcpus) {
                world.guest(() -> TlbAtRest.requireAgreement(world.vm, vcpu, ModelWorld.LARGE));
            }
        }

        private void requireCounted() {
            TreeCensus census = world.vm.verify();
            VmStats stats = world.vm.stats();
            assertEquals(census.pages4k(), stats.pages4k(), "pages4k");
            assertEquals(census.pages2m(), stats.pages2m(), "pages2m");
            assertEquals(census.pages1g(), stats.pages1g(), "pages1g");
            assertEquals(census.tablePages(), stats.tablePages(), "tablePages");
            assertEquals(world.vm.nxHugePages().splits(), stats.nxLpageSplits(), "nxLpageSplits");
        }

        void requireSomethingLogged() {
            assertTrue(logs.handedOut > 0, "no log has handed anything out");
        }
    }
}
