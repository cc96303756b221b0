package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;

/** Operations on ranges that change no byte, or take them away. */
final class ModelRanges {
    private static final int MAX_WATCHES = 3;
    private static final long PAGE = ModelWorld.PAGE;

    private final ModelWorld world;
    private final Vm vm;
    private final SplittableRandom random;

    ModelRanges(ModelWorld world) {
        this.world = world;
        this.vm = world.vm;
        this.random = world.random;
    }

    void step() {
        switch (random.nextInt(10)) {
            case 0 -> writeProtect();
            case 1 -> zap();
            case 2, 3 -> age();
            case 4 -> discard();
            case 5, 6 -> watchOrEnd();
            case 7 -> scanWorkingSet();
            case 8 -> switchNx();
            default -> recoverNx();
        }
    }

    private void writeProtect() {
        long start = random.nextLong(ModelWorld.REGION / PAGE);
        world.last = "write-protect from 0x" + Long.toHexString(start);
        vm.mmu().ranges().writeProtect(start, start + 1 + random.nextLong(2048));
    }

    private void zap() {
        long gpa = world.recentAddress();
        long bytes = 1 + random.nextLong(8 * PAGE);
        world.last = "zap from 0x" + Long.toHexString(gpa);
        vm.zap(gpa, bytes);
        assertFalse(vm.translate(gpa).isPresent(), "leaf after zap");
        assertEquals(0, vm.zap(gpa, bytes), "leaves after zap");
    }

    /** After a clear with flush nothing is young; what is read then is, and nothing else. */
    private void age() {
        long gpa = world.recentAddress() & -PAGE;
        long bytes = PAGE * (1 + random.nextInt(700));
        world.last = "age from 0x" + Long.toHexString(gpa);
        long young = vm.ageing().clearYoungAndFlush(gpa, bytes);
        assertTrue(young >= 0 && young <= bytes / PAGE, "pages that were young: " + young);
        assertFalse(vm.ageing().testYoung(gpa, bytes), "young after the flush");
        ModelSlot slot = world.slotAt(gpa);
        if (slot == null) {
            return;
        }
        Vcpu vcpu = world.vcpu();
        assertEquals(slot.byteAt(gpa), world.guest(() -> vcpu.getByte(gpa)));
        assertTrue(vm.ageing().testYoung(gpa, PAGE), "old after a use");
        long leaf = vm.translate(gpa).orElseThrow().pageSize().bytes();
        long leafEnd = (gpa & -leaf) + leaf;
        if (gpa + bytes > leafEnd) {
            assertFalse(vm.ageing().testYoung(leafEnd, gpa + bytes - leafEnd), "young without a use");
        }
        long used = Math.min(leafEnd - gpa, bytes) / PAGE;
        assertEquals(used, vm.ageing().clearYoung(gpa, bytes), "young pages after one use");
        assertEquals(slot.byteAt(gpa), world.guest(() -> vcpu.getByte(gpa)));
    }

    private void discard() {
        long gpa = world.recentAddress() & -PAGE;
        long bytes = PAGE * (1 + random.nextInt(20));
        world.last = "discard from 0x" + Long.toHexString(gpa) + ", bytes=" + bytes;
        ModelSlot slot = world.slotAt(gpa);
        if (slot == null || slot.host != null || !slot.contains(gpa + bytes - 1)) {
            assertThrows(IllegalArgumentException.class, () -> vm.discard(gpa, bytes));
            return;
        }
        vm.discard(gpa, bytes);
        slot.empty(slot.page(gpa), bytes / PAGE);
        assertFalse(vm.translate(gpa).isPresent(), "leaf after discard");
    }

    private void watchOrEnd() {
        if (world.watches.size() >= MAX_WATCHES || !world.watches.isEmpty() && random.nextBoolean()) {
            world.last = "end watch";
            world.watches.remove(random.nextInt(world.watches.size())).close();
            return;
        }
        long gpa = world.recentAddress() & -PAGE;
        world.last = "watch from 0x" + Long.toHexString(gpa);
        world.watches.add(new ModelWatch(vm, gpa, PAGE * (1 + random.nextInt(3))));
    }

    private void scanWorkingSet() {
        ModelSlot slot = world.anySlot();
        world.last = "working set of " + slot.handle;
        long gpa = slot.handle.gpa();
        vm.ageing().clearYoungAndFlush(gpa, slot.handle.bytes());
        WorkingSet set = vm.workingSet(slot.handle);
        set.scan();
        assertEquals(0, set.pagesYoungerThan(1), "working set without a use");
        Vcpu vcpu = world.vcpu();
        world.guest(() -> vcpu.getByte(gpa));
        set.scan();
        assertEquals(0, set.age(0));
        assertTrue(set.pagesYoungerThan(1) >= 1);
    }

    private void switchNx() {
        world.last = "switch NX";
        vm.nxHugePages().setOn(!vm.nxHugePages().isOn());
        assertEquals(0, vm.nxHugePages().splits(), "tables on the list after a zap");
    }

    private void recoverNx() {
        world.last = "recover NX";
        long before = vm.nxHugePages().splits();
        long zapped = vm.nxHugePages().recover();
        assertTrue(
                zapped <= before && vm.nxHugePages().splits() <= before - Math.min(before, 1), "recovery does nothing");
    }
}
