package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.testkit.EngineAtRest;
import dev.tdpmmu.testkit.EngineMatrix;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.function.Executable;

/**
 * Random operations on one VM against a plain map of bytes. A failure names the seed, the point of the matrix and the
 * number of the operation; the same seed does the same again.
 */
class VmModelTest {
    private static final int OPERATIONS = 3_000;
    private static final int CHECK_EVERY = 250;
    private static final int VCPUS = 3;
    private static final int MAX_SLOTS = 6;

    private static final long PAGE = PageSize.SIZE_4K.bytes();
    private static final long BLOCK = PageSize.SIZE_2M.bytes();

    /** Slots come and go below; a slot with 1 GiB pages stays above; a device is between them. */
    private static final long REGION = 16 * BLOCK;

    private static final long DEVICE = 64 * BLOCK;
    private static final long LARGE = PageSize.SIZE_1G.bytes();

    private static final Seeds SEEDS = Seeds.announce("VmModelTest");

    @RegisterExtension
    final EngineAtRest engine = new EngineAtRest();

    @EngineMatrix
    void everyOperationDoesWhatThePlainMapSays(VmConfig.Builder builder) {
        VmConfig config = builder.build();
        Model model = new Model(engine.vm(config), SEEDS.random(config.name()));
        for (int i = 0; i < OPERATIONS; i++) {
            try {
                model.step();
                if (i % CHECK_EVERY == CHECK_EVERY - 1) {
                    model.compareEverything();
                }
            } catch (RuntimeException | AssertionError failure) {
                throw new AssertionError(
                        "model differs: " + SEEDS + ", cell=" + config.name() + ", operation=" + i + ", last="
                                + model.last + ", cause=" + failure,
                        failure);
            }
        }
    }

    /** A slot and the bytes that were written to it, by offset; the others are zero. */
    private static final class ModelSlot {
        MemSlot handle;
        final Map<Long, Byte> bytes = new HashMap<>();

        ModelSlot(MemSlot handle) {
            this.handle = handle;
        }
    }

    private static final class Model implements MmioHandler {
        private final Vm vm;
        private final SplittableRandom random;
        private final TreeMap<Long, ModelSlot> slots = new TreeMap<>();
        private final List<Vcpu> vcpus = new ArrayList<>();
        private final long[] recent = new long[8];
        private long deviceWord;
        private int nextId;
        String last = "";

        Model(Vm vm, SplittableRandom random) {
            this.vm = vm;
            this.random = random;
            vm.addMmio(DEVICE, PAGE, this);
            for (int i = 0; i < VCPUS; i++) {
                vcpus.add(vm.createVcpu());
            }
            put(vm.addSlot(nextId++, LARGE, LARGE, Backing.anonymous(PageSize.SIZE_1G)));
        }

        @Override
        public long read(long gpa, int bytes) {
            return deviceWord;
        }

        @Override
        public void write(long gpa, int bytes, long value) {
            deviceWord = value;
        }

        void step() {
            switch (random.nextInt(40)) {
                case 0 -> addSlot();
                case 1 -> removeSlot();
                case 2 -> moveSlot();
                case 3 -> changeFlags();
                case 4 -> writeProtect();
                case 5 -> reopenVcpu();
                case 6 -> bulk();
                case 7 -> device();
                case 8, 9 -> deviceView();
                case 10, 11 -> fetch();
                case 12, 13 -> touchAndTranslate();
                case 14, 15, 16 -> compareAndSet();
                case 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27 -> load();
                default -> store();
            }
        }

        private void put(MemSlot handle) {
            slots.put(handle.gpa(), new ModelSlot(handle));
        }

        private Vcpu vcpu() {
            return vcpus.get(random.nextInt(VCPUS));
        }

        /** An address near one used before, near a border, or anywhere. */
        private long address() {
            long gpa = switch (random.nextInt(8)) {
                case 0 -> random.nextLong(REGION);
                case 1 -> LARGE + random.nextLong(LARGE);
                case 2, 3 -> {
                    ModelSlot slot = anySlot();
                    yield slot.handle.gpa() + random.nextLong(slot.handle.pages() + 1) * PAGE - random.nextInt(10);
                }
                default -> recent[random.nextInt(recent.length)] + random.nextInt(64);
            };
            gpa = Math.max(0, gpa);
            recent[random.nextInt(recent.length)] = gpa;
            return gpa;
        }

        private ModelSlot anySlot() {
            List<ModelSlot> all = new ArrayList<>(slots.values());
            return all.get(random.nextInt(all.size()));
        }

        /** Slot of an address, or null. */
        private ModelSlot slotAt(long gpa) {
            Map.Entry<Long, ModelSlot> below = slots.floorEntry(gpa);
            boolean inside = below != null
                    && gpa
                            < below.getValue().handle.gpa()
                                    + below.getValue().handle.bytes();
            return inside ? below.getValue() : null;
        }

        /** Why an access fails, or nothing. */
        private Optional<Reason> refusal(long gpa, int bytes, boolean isStore) {
            for (long at = gpa; at < gpa + bytes; at++) {
                ModelSlot slot = slotAt(at);
                if (slot == null) {
                    return Optional.of(Reason.NO_SLOT);
                }
                if (isStore && slot.handle.isReadOnly()) {
                    return Optional.of(Reason.READ_ONLY);
                }
            }
            return Optional.empty();
        }

        private byte modelByte(long gpa) {
            ModelSlot slot = slotAt(gpa);
            return slot.bytes.getOrDefault(gpa - slot.handle.gpa(), (byte) 0);
        }

        private long modelLoad(long gpa, int bytes) {
            long value = 0;
            for (int i = bytes - 1; i >= 0; i--) {
                value = value << 8 | modelByte(gpa + i) & 0xff;
            }
            return value;
        }

        private void modelStore(long gpa, int bytes, long value) {
            for (int i = 0; i < bytes; i++) {
                ModelSlot slot = slotAt(gpa + i);
                slot.bytes.put(gpa + i - slot.handle.gpa(), (byte) (value >>> 8 * i));
            }
        }

        private static void requireRefused(Reason reason, Executable access) {
            assertEquals(
                    reason, assertThrows(GuestAccessException.class, access).reason());
        }

        private static long loadFrom(Vcpu vcpu, long gpa, int bytes, boolean ordered) {
            return switch (bytes) {
                case 1 -> (ordered ? vcpu.getByteVolatile(gpa) : vcpu.getByte(gpa)) & 0xffL;
                case 2 -> (ordered ? vcpu.getShortVolatile(gpa) : vcpu.getShort(gpa)) & 0xffffL;
                case 4 -> (ordered ? vcpu.getIntVolatile(gpa) : vcpu.getInt(gpa)) & 0xffff_ffffL;
                default -> ordered ? vcpu.getLongVolatile(gpa) : vcpu.getLong(gpa);
            };
        }

        private static void storeTo(Vcpu vcpu, long gpa, int bytes, long value, boolean ordered) {
            switch (bytes) {
                case 1 -> {
                    if (ordered) {
                        vcpu.putByteVolatile(gpa, (byte) value);
                    } else {
                        vcpu.putByte(gpa, (byte) value);
                    }
                }
                case 2 -> {
                    if (ordered) {
                        vcpu.putShortVolatile(gpa, (short) value);
                    } else {
                        vcpu.putShort(gpa, (short) value);
                    }
                }
                case 4 -> {
                    if (ordered) {
                        vcpu.putIntVolatile(gpa, (int) value);
                    } else {
                        vcpu.putInt(gpa, (int) value);
                    }
                }
                default -> {
                    if (ordered) {
                        vcpu.putLongVolatile(gpa, value);
                    } else {
                        vcpu.putLong(gpa, value);
                    }
                }
            }
        }

        private void load() {
            int bytes = 1 << random.nextInt(4);
            boolean ordered = random.nextInt(4) == 0;
            long gpa = ordered ? address() & -bytes : address();
            Vcpu vcpu = vcpu();
            last = "load " + bytes + " at 0x" + Long.toHexString(gpa);
            Optional<Reason> refusal = refusal(gpa, bytes, false);
            if (refusal.isPresent()) {
                requireRefused(refusal.get(), () -> loadFrom(vcpu, gpa, bytes, ordered));
            } else {
                assertEquals(modelLoad(gpa, bytes), loadFrom(vcpu, gpa, bytes, ordered));
            }
        }

        private void store() {
            int bytes = 1 << random.nextInt(4);
            boolean ordered = random.nextInt(4) == 0;
            long gpa = ordered ? address() & -bytes : address();
            long value = random.nextLong();
            Vcpu vcpu = vcpu();
            last = "store " + bytes + " at 0x" + Long.toHexString(gpa);
            Optional<Reason> refusal = refusal(gpa, bytes, true);
            if (refusal.isPresent()) {
                requireRefused(refusal.get(), () -> storeTo(vcpu, gpa, bytes, value, ordered));
            } else {
                storeTo(vcpu, gpa, bytes, value, ordered);
                modelStore(gpa, bytes, value);
            }
        }

        private void compareAndSet() {
            int bytes = random.nextBoolean() ? 4 : 8;
            long gpa = address() & -bytes;
            long value = random.nextLong();
            Vcpu vcpu = vcpu();
            last = "compare-and-set " + bytes + " at 0x" + Long.toHexString(gpa);
            Optional<Reason> refusal = refusal(gpa, bytes, true);
            if (refusal.isPresent()) {
                requireRefused(refusal.get(), () -> vcpu.compareAndSetInt(gpa, 0, 1));
                return;
            }
            long now = modelLoad(gpa, bytes);
            long expected = random.nextInt(3) == 0 ? now + 1 : now;
            boolean replaced = bytes == 4
                    ? vcpu.compareAndSetInt(gpa, (int) expected, (int) value)
                    : vcpu.compareAndSetLong(gpa, expected, value);
            assertEquals(expected == now, replaced);
            if (replaced) {
                modelStore(gpa, bytes, value);
            }
        }

        private void fetch() {
            long gpa = address() & -4;
            Vcpu vcpu = vcpu();
            last = "fetch at 0x" + Long.toHexString(gpa);
            Optional<Reason> refusal = refusal(gpa, 4, false);
            if (refusal.isPresent()) {
                requireRefused(refusal.get(), () -> vcpu.fetch(gpa));
            } else {
                assertEquals((int) modelLoad(gpa, 4), vcpu.fetch(gpa));
            }
        }

        private void touchAndTranslate() {
            long gpa = address();
            boolean isStore = random.nextBoolean();
            last = "touch at 0x" + Long.toHexString(gpa);
            Optional<Reason> refusal = refusal(gpa, 1, isStore);
            assertEquals(refusal.isEmpty(), vcpu().touch(gpa, isStore ? Access.WRITE : Access.READ));
            if (refusal.isEmpty()) {
                Translation translation = vm.translate(gpa).orElseThrow();
                assertEquals(isStore, isStore && translation.writable() && translation.dirty());
                assertEquals(slotAt(gpa).handle.hpa(gpa >>> 12) | gpa & PAGE - 1, translation.hpa());
            } else if (refusal.get() == Reason.NO_SLOT) {
                assertEquals(Optional.empty(), vm.translate(gpa));
            }
        }

        private void bulk() {
            long gpa = address();
            int length = random.nextInt(3 * (int) PAGE);
            Vcpu vcpu = vcpu();
            last = "bulk of " + length + " at 0x" + Long.toHexString(gpa);
            if (refusal(gpa, length, true).isPresent()) {
                return;
            }
            byte[] bytes = new byte[length];
            random.nextBytes(bytes);
            vcpu.write(gpa, bytes, 0, length);
            for (int i = 0; i < length; i++) {
                modelStore(gpa + i, 1, bytes[i]);
            }
            byte[] back = new byte[length];
            vcpu().read(gpa, back, 0, length);
            for (int i = 0; i < length; i++) {
                assertEquals(bytes[i], back[i]);
            }
        }

        private void device() {
            long value = random.nextLong();
            last = "device";
            vcpu().putLong(DEVICE + 8, value);
            assertEquals(value, vcpu().getLong(DEVICE + 16));
            assertFalse(vcpu().touch(DEVICE, Access.READ));
        }

        private void deviceView() {
            long gpa = address();
            long value = random.nextLong();
            last = "device view at 0x" + Long.toHexString(gpa);
            ModelSlot slot = slotAt(gpa);
            if (slot == null || slotAt(gpa + 7) != slot) {
                requireRefused(Reason.NO_SLOT, () -> vm.memory().getLong(gpa));
                return;
            }
            assertEquals(modelLoad(gpa, 8), vm.memory().getLong(gpa));
            vm.memory().putLong(gpa, value);
            modelStore(gpa, 8, value);
        }

        private boolean overlaps(long gpa, long bytes, ModelSlot except) {
            for (ModelSlot slot : slots.values()) {
                if (slot != except
                        && gpa < slot.handle.gpa() + slot.handle.bytes()
                        && slot.handle.gpa() < gpa + bytes) {
                    return true;
                }
            }
            return false;
        }

        private void addSlot() {
            last = "add slot";
            boolean huge = random.nextBoolean();
            long gpa = huge ? random.nextLong(16) * BLOCK : random.nextLong(REGION / PAGE) * PAGE;
            long bytes = huge ? BLOCK * (1 + random.nextInt(3)) : PAGE * (1 + random.nextInt(1200));
            if (slots.size() >= MAX_SLOTS || overlaps(gpa, bytes, null)) {
                return;
            }
            SlotFlag[] flags = random.nextInt(4) == 0 ? new SlotFlag[] {SlotFlag.READ_ONLY} : new SlotFlag[0];
            put(vm.addSlot(nextId++, gpa, bytes, Backing.anonymous(huge ? PageSize.SIZE_2M : PageSize.SIZE_4K), flags));
        }

        private void removeSlot() {
            last = "remove slot";
            ModelSlot slot = anySlot();
            if (slot.handle.gpa() == LARGE || random.nextBoolean()) {
                return;
            }
            vm.removeSlot(slot.handle);
            slots.remove(slot.handle.gpa());
        }

        private void moveSlot() {
            last = "move slot";
            ModelSlot slot = anySlot();
            long gpa = random.nextBoolean()
                    ? random.nextLong(16) * BLOCK
                    : slot.handle.gpa() + (random.nextInt(9) - 4) * PAGE;
            if (slot.handle.gpa() == LARGE || gpa < 0 || overlaps(gpa, slot.handle.bytes(), slot)) {
                return;
            }
            slots.remove(slot.handle.gpa());
            slot.handle = vm.moveSlot(slot.handle, gpa);
            slots.put(gpa, slot);
        }

        private void changeFlags() {
            last = "change flags";
            ModelSlot slot = anySlot();
            List<SlotFlag> flags = new ArrayList<>();
            if (slot.handle.isReadOnly()) {
                flags.add(SlotFlag.READ_ONLY);
            }
            if (random.nextBoolean()) {
                flags.add(SlotFlag.SMALL_PAGES);
            }
            slot.handle = vm.changeSlotFlags(slot.handle, flags.toArray(SlotFlag[]::new));
        }

        private void writeProtect() {
            long start = random.nextLong(REGION / PAGE);
            last = "write-protect from 0x" + Long.toHexString(start);
            vm.mmu().ranges().writeProtect(start, start + 1 + random.nextLong(2048));
        }

        private void reopenVcpu() {
            last = "reopen vCPU";
            int index = random.nextInt(VCPUS);
            vcpus.get(index).close();
            vcpus.set(index, vm.createVcpu());
        }

        void compareEverything() {
            last = "verify";
            EngineAtRest.requireBalance(vm);
            Vcpu reader = vcpu();
            for (ModelSlot slot : slots.values()) {
                long gpa = slot.handle.gpa();
                for (Map.Entry<Long, Byte> entry : slot.bytes.entrySet()) {
                    assertEquals(entry.getValue(), reader.getByte(gpa + entry.getKey()));
                }
            }
            for (Vcpu vcpu : vcpus) {
                TlbAtRest.requireAgreement(vm, vcpu, LARGE);
            }
        }
    }
}
