package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.AccessedDirty;
import java.util.Optional;
import java.util.SplittableRandom;

/** Accesses by vCPUs and devices, compared with the model. */
final class ModelAccesses implements MmioHandler {
    private static final long PAGE = ModelWorld.PAGE;

    private final ModelWorld world;
    private final Vm vm;
    private final SplittableRandom random;
    private long deviceWord;

    ModelAccesses(ModelWorld world) {
        this.world = world;
        this.vm = world.vm;
        this.random = world.random;
        vm.addMmio(ModelWorld.DEVICE, PAGE, this);
    }

    @Override
    public long read(long gpa, int bytes) {
        return deviceWord;
    }

    @Override
    public void write(long gpa, int bytes, long value) {
        deviceWord = value;
    }

    void step(int kind) {
        switch (kind) {
            case 0 -> bulk();
            case 1 -> device();
            case 2, 3 -> deviceView();
            case 4, 5 -> fetch();
            case 6, 7 -> touchAndTranslate();
            case 8, 9, 10 -> compareAndSet();
            case 11, 12, 13, 14, 15, 16, 17 -> load();
            default -> store();
        }
    }

    private static long loadFrom(Vcpu vcpu, long gpa, int bytes, boolean ordered) {
        return switch (bytes) {
            case 1 -> (ordered ? vcpu.getByteVolatile(gpa) : vcpu.getByte(gpa)) & 0xffL;
            case 2 -> (ordered ? vcpu.getShortVolatile(gpa) : vcpu.getShort(gpa)) & 0xffffL;
            case 4 -> (ordered ? vcpu.getIntVolatile(gpa) : vcpu.getInt(gpa)) & 0xffff_ffffL;
            default -> ordered ? vcpu.getLongVolatile(gpa) : vcpu.getLong(gpa);
        };
    }

    private static void storeTo(Vcpu vcpu, long gpa, int bytes, long value) {
        switch (bytes) {
            case 1 -> vcpu.putByte(gpa, (byte) value);
            case 2 -> vcpu.putShort(gpa, (short) value);
            case 4 -> vcpu.putInt(gpa, (int) value);
            default -> vcpu.putLong(gpa, value);
        }
    }

    private static void storeOrderedTo(Vcpu vcpu, long gpa, int bytes, long value) {
        switch (bytes) {
            case 1 -> vcpu.putByteVolatile(gpa, (byte) value);
            case 2 -> vcpu.putShortVolatile(gpa, (short) value);
            case 4 -> vcpu.putIntVolatile(gpa, (int) value);
            default -> vcpu.putLongVolatile(gpa, value);
        }
    }

    private void load() {
        int bytes = 1 << random.nextInt(4);
        boolean ordered = random.nextInt(4) == 0;
        long gpa = ordered ? world.address() & -bytes : world.address();
        Vcpu vcpu = world.vcpu();
        world.last = "load " + bytes + " at 0x" + Long.toHexString(gpa);
        Optional<Reason> refusal = world.refusal(gpa, bytes, false);
        if (refusal.isPresent()) {
            world.requireRefused(refusal.get(), gpa, bytes, false, () -> loadFrom(vcpu, gpa, bytes, ordered));
        } else {
            assertEquals(world.load(gpa, bytes), world.guest(() -> loadFrom(vcpu, gpa, bytes, ordered)));
        }
    }

    private void store() {
        int bytes = 1 << random.nextInt(4);
        boolean ordered = random.nextInt(4) == 0;
        long gpa = ordered ? world.address() & -bytes : world.address();
        long value = random.nextLong();
        Vcpu vcpu = world.vcpu();
        world.last = "store " + bytes + " at 0x" + Long.toHexString(gpa);
        Runnable access =
                ordered ? () -> storeOrderedTo(vcpu, gpa, bytes, value) : () -> storeTo(vcpu, gpa, bytes, value);
        Optional<Reason> refusal = world.refusal(gpa, bytes, true);
        if (refusal.isPresent()) {
            world.requireRefused(refusal.get(), gpa, bytes, true, access::run);
        } else {
            world.guestStore(gpa, ModelWorld.bytesOf(value, bytes), access);
        }
    }

    private void compareAndSet() {
        int bytes = random.nextBoolean() ? 4 : 8;
        long gpa = world.address() & -bytes;
        long value = random.nextLong();
        Vcpu vcpu = world.vcpu();
        world.last = "compare-and-set " + bytes + " at 0x" + Long.toHexString(gpa);
        Optional<Reason> refusal = world.refusal(gpa, bytes, true);
        if (refusal.isPresent()) {
            world.requireRefused(refusal.get(), gpa, bytes, true, () -> vcpu.compareAndSetInt(gpa, 0, 1));
            return;
        }
        long now = world.load(gpa, bytes);
        long expected = random.nextInt(3) == 0 ? now + 1 : now;
        byte[] stored = ModelWorld.bytesOf(value, expected == now ? bytes : 0);
        Runnable access = () -> {
            boolean replaced = bytes == 4
                    ? vcpu.compareAndSetInt(gpa, (int) expected, (int) value)
                    : vcpu.compareAndSetLong(gpa, expected, value);
            assertEquals(expected == now, replaced);
        };
        world.opened(gpa, bytes);
        world.guestStore(gpa, stored, access);
        world.opened(gpa, bytes);
    }

    private void fetch() {
        long gpa = world.address() & -4;
        Vcpu vcpu = world.vcpu();
        world.last = "fetch at 0x" + Long.toHexString(gpa);
        Optional<Reason> refusal = world.refusal(gpa, 4, false);
        if (refusal.isPresent()) {
            world.requireRefused(refusal.get(), gpa, 4, false, () -> vcpu.fetch(gpa));
        } else {
            assertEquals((int) world.load(gpa, 4), world.guest(() -> vcpu.fetch(gpa)));
        }
    }

    private void touchAndTranslate() {
        long gpa = world.address();
        boolean isStore = random.nextBoolean();
        int access = isStore ? Access.WRITE : Access.READ;
        Vcpu vcpu = world.vcpu();
        world.last = "touch at 0x" + Long.toHexString(gpa);
        Optional<Reason> refusal = world.refusal(gpa, 1, isStore);
        if (refusal.isPresent() && refusal.get() == Reason.HOST_READ_ONLY) {
            world.requireRefused(Reason.HOST_READ_ONLY, gpa, 1, true, () -> vcpu.touch(gpa, access));
            return;
        }
        if (isStore && world.isWatched(gpa)) {
            // The VM would have to do the store.
            assertFalse(world.guest(() -> vcpu.touch(gpa, access)));
            return;
        }
        boolean done = isStore
                ? world.guestOpen(gpa, 1, () -> vcpu.touch(gpa, access))
                : world.guest(() -> vcpu.touch(gpa, access));
        assertEquals(refusal.isEmpty(), done);
        if (refusal.isEmpty()) {
            Translation translation = vm.translate(gpa).orElseThrow();
            if (isStore && vm.config().accessedDirty() == AccessedDirty.ON) {
                // Without A/D bits ageing takes the permission, while a TLB may go on with it.
                assertTrue(translation.writable() && translation.dirty(), "opened for stores");
            }
            ModelSlot slot = world.slotAt(gpa);
            if (slot.host == null) {
                assertEquals(slot.handle.hpa(gpa >>> 12) | gpa & PAGE - 1, translation.hpa());
            }
        } else if (refusal.get() == Reason.NO_SLOT) {
            assertEquals(Optional.empty(), vm.translate(gpa));
        }
    }

    private void bulk() {
        long gpa = world.address();
        int length = random.nextInt(3 * (int) PAGE);
        world.last = "bulk of " + length + " at 0x" + Long.toHexString(gpa);
        if (world.refusal(gpa, length, true).isPresent()) {
            return;
        }
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        Vcpu writer = world.vcpu();
        world.guestStore(gpa, bytes, () -> writer.write(gpa, bytes, 0, length));
        byte[] back = new byte[length];
        Vcpu reader = world.vcpu();
        world.guest(() -> reader.read(gpa, back, 0, length));
        assertArrayEquals(bytes, back);
    }

    private void device() {
        long value = random.nextLong();
        Vcpu vcpu = world.vcpu();
        world.last = "device";
        world.guest(() -> vcpu.putLong(ModelWorld.DEVICE + 8, value));
        assertEquals(value, world.guest(() -> vcpu.getLong(ModelWorld.DEVICE + 16)));
        assertFalse(world.guest(() -> vcpu.touch(ModelWorld.DEVICE, Access.READ)));
    }

    private void deviceView() {
        long gpa = world.address();
        long value = random.nextLong();
        world.last = "device view at 0x" + Long.toHexString(gpa);
        ModelSlot slot = world.slotAt(gpa);
        if (slot == null || world.slotAt(gpa + 7) != slot) {
            assertEquals(Reason.NO_SLOT, reasonOf(() -> vm.memory().getLong(gpa)));
            return;
        }
        assertEquals(world.load(gpa, 8), vm.memory().getLong(gpa));
        if (slot.isProtected.get(slot.page(gpa)) || slot.isProtected.get(slot.page(gpa + 7))) {
            long refused = slot.isProtected.get(slot.page(gpa)) ? gpa : gpa + 7;
            assertEquals(Reason.HOST_READ_ONLY, reasonOf(() -> vm.memory().putByte(refused, (byte) 1)));
            return;
        }
        long before = world.takings;
        world.opened(gpa, 8);
        vm.memory().putLong(gpa, value);
        world.stored(gpa, ModelWorld.bytesOf(value, 8), before);
        for (ModelWatch watch : world.watches) {
            // Devices are not watched.
            watch.requireReports(gpa, new byte[0]);
        }
    }

    private static Reason reasonOf(Runnable access) {
        try {
            access.run();
        } catch (GuestAccessException refused) {
            return refused.reason();
        }
        throw new AssertionError("access is not refused");
    }
}
