package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.GuestAccessException.Reason;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.PageSize;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.junit.jupiter.api.function.Executable;

/** A VM beside the plain maps that say what must be in it. Belongs to one thread. */
final class ModelWorld {
    static final int VCPUS = 3;
    static final long PAGE = PageSize.SIZE_4K.bytes();
    static final long BLOCK = PageSize.SIZE_2M.bytes();

    /** Slots come and go below; a slot with 1 GiB pages stays above; a device is between them. */
    static final long REGION = 16 * BLOCK;

    static final long DEVICE = 64 * BLOCK;
    static final long LARGE = PageSize.SIZE_1G.bytes();

    final Vm vm;
    final SplittableRandom random;
    final TreeMap<Long, ModelSlot> slots = new TreeMap<>();
    final List<Vcpu> vcpus = new ArrayList<>();
    final List<ModelWatch> watches = new ArrayList<>();
    private final long[] recent = new long[8];

    /** How often pages were taken from logs; an access during which that happens may be in either harvest. */
    long takings;

    /** Frames opened for stores since the logs were drained: hardware logs frames, whatever slot they are in. */
    final Set<Long> openedGfns = new HashSet<>();

    /** Takes everything out of full rings. */
    Runnable onFullRing = () -> {};

    String last = "";

    ModelWorld(Vm vm, SplittableRandom random) {
        this.vm = vm;
        this.random = random;
        for (int i = 0; i < VCPUS; i++) {
            vcpus.add(vm.createVcpu());
        }
        setRingHandler();
    }

    boolean hasRings() {
        return vm.config().dirtyLog().tracking() == DirtyTracking.RING;
    }

    /** One vCPU empties its ring by a handler, the others by doing the access again. */
    void setRingHandler() {
        vcpus.get(0).onDirtyRingFull(() -> onFullRing.run());
    }

    Vcpu vcpu() {
        return vcpus.get(random.nextInt(VCPUS));
    }

    /** An address near one used before, near a border, or anywhere. */
    long address() {
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

    /** An address that was used lately. */
    long recentAddress() {
        return recent[random.nextInt(recent.length)];
    }

    ModelSlot anySlot() {
        List<ModelSlot> all = new ArrayList<>(slots.values());
        return all.get(random.nextInt(all.size()));
    }

    /** Slot of an address, or null. */
    ModelSlot slotAt(long gpa) {
        Map.Entry<Long, ModelSlot> below = slots.floorEntry(gpa);
        return below != null && below.getValue().contains(gpa) ? below.getValue() : null;
    }

    /** The slot with an id, or null. */
    ModelSlot slotOf(int slotId) {
        for (ModelSlot slot : slots.values()) {
            if (slot.handle.id() == slotId) {
                return slot;
            }
        }
        return null;
    }

    boolean isWatched(long gpa) {
        long page = gpa & -PAGE;
        for (ModelWatch watch : watches) {
            if (watch.covers(page)) {
                return true;
            }
        }
        return false;
    }

    /** Why an access fails, or nothing. */
    Optional<Reason> refusal(long gpa, long bytes, boolean isStore) {
        for (long at = gpa; at < gpa + bytes; at++) {
            ModelSlot slot = slotAt(at);
            if (slot == null) {
                return Optional.of(Reason.NO_SLOT);
            }
            if (isStore && slot.handle.isReadOnly()) {
                return Optional.of(Reason.READ_ONLY);
            }
            if (isStore && slot.isProtected.get(slot.page(at))) {
                return Optional.of(Reason.HOST_READ_ONLY);
            }
        }
        return Optional.empty();
    }

    long load(long gpa, int bytes) {
        long value = 0;
        for (int i = bytes - 1; i >= 0; i--) {
            value = value << 8 | slotAt(gpa + i).byteAt(gpa + i) & 0xff;
        }
        return value;
    }

    static byte[] bytesOf(long value, int bytes) {
        byte[] parts = new byte[bytes];
        for (int i = 0; i < bytes; i++) {
            parts[i] = (byte) (value >>> 8 * i);
        }
        return parts;
    }

    /** Does a guest access that stores bytes, here and there. */
    void guestStore(long gpa, byte[] stored, Runnable access) {
        long before = takings;
        opened(gpa, stored.length);
        guest(access);
        stored(gpa, stored, before);
        watches.forEach(watch -> watch.requireReports(gpa, stored));
    }

    /** Does a guest access that opens a page for stores and makes none. */
    <T> T guestOpen(long gpa, int bytes, Supplier<T> access) {
        opened(gpa, bytes);
        T result = guest(access);
        // Once more: a full ring may have been emptied meanwhile.
        opened(gpa, bytes);
        return result;
    }

    /** Notes that an access for writing begins. */
    void opened(long gpa, int bytes) {
        for (long at = gpa & -PAGE; at < gpa + bytes; at += PAGE) {
            ModelSlot slot = slotAt(Math.max(at, gpa));
            if (slot != null) {
                slot.opened(Math.max(at, gpa));
                openedGfns.add(at >>> 12);
            }
        }
    }

    /** Notes that a slot has come to its place: what is kept aside for its frames counts for it. */
    void placed(ModelSlot slot) {
        slots.put(slot.handle.gpa(), slot);
        for (long gfn : openedGfns) {
            if (slot.contains(gfn << 12)) {
                slot.opened(gfn << 12);
            }
        }
    }

    /** Notes what was stored. */
    void stored(long gpa, byte[] stored, long takingsBefore) {
        for (int i = 0; i < stored.length; i++) {
            ModelSlot slot = slotAt(gpa + i);
            slot.bytes.put(gpa + i - slot.handle.gpa(), stored[i]);
            if (takings == takingsBefore) {
                slot.stored(gpa + i);
            } else {
                opened(gpa + i, 1);
            }
        }
    }

    void guest(Runnable access) {
        guest(() -> {
            access.run();
            return 0;
        });
    }

    /** Does a guest access; if the ring is full, once more after a reset. */
    <T> T guest(Supplier<T> access) {
        try {
            return access.get();
        } catch (GuestAccessException failure) {
            if (failure.reason() != Reason.DIRTY_RING_FULL) {
                throw failure;
            }
            assertTrue(hasRings(), "ring is full without rings");
            onFullRing.run();
            watches.forEach(ModelWatch::forget);
            return access.get();
        }
    }

    /** Demands that a guest access fails; a part of it that comes before may have been opened for stores. */
    void requireRefused(Reason reason, long gpa, int bytes, boolean isStore, Executable access) {
        if (isStore) {
            opened(gpa, bytes);
        }
        GuestAccessException failure = assertThrows(GuestAccessException.class, access);
        if (failure.reason() == Reason.DIRTY_RING_FULL && hasRings()) {
            onFullRing.run();
            failure = assertThrows(GuestAccessException.class, access);
        }
        if (isStore) {
            opened(gpa, bytes);
        }
        assertEquals(reason, failure.reason());
        watches.forEach(ModelWatch::forget);
    }
}
