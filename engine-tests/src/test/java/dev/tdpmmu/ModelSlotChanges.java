package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;

/** Slots that come, go, move and change, and a host that changes the pages behind them. */
final class ModelSlotChanges {
    private static final int MAX_SLOTS = 6;
    private static final long PAGE = ModelWorld.PAGE;
    private static final long BLOCK = ModelWorld.BLOCK;

    private final ModelWorld world;
    private final ModelLogs logs;
    private final Vm vm;
    private final SplittableRandom random;
    private final List<HostPages> hosts = new ArrayList<>();
    private int nextId;

    ModelSlotChanges(ModelWorld world, ModelLogs logs) {
        this.world = world;
        this.logs = logs;
        this.vm = world.vm;
        this.random = world.random;
        put(vm.addSlot(nextId++, ModelWorld.LARGE, ModelWorld.LARGE, Backing.anonymous(PageSize.SIZE_1G)), null);
    }

    void step(int kind) {
        switch (kind) {
            case 0 -> add();
            case 1 -> remove();
            case 2 -> move();
            case 3 -> changeFlags();
            default -> changeHostPages();
        }
    }

    private ModelSlot put(MemSlot handle, HostPages host) {
        ModelSlot slot = new ModelSlot(handle, host);
        world.placed(slot);
        return slot;
    }

    private boolean overlaps(long gpa, long bytes, ModelSlot except) {
        for (ModelSlot slot : world.slots.values()) {
            if (slot != except && gpa < slot.handle.gpa() + slot.handle.bytes() && slot.handle.gpa() < gpa + bytes) {
                return true;
            }
        }
        return false;
    }

    private void add() {
        world.last = "add slot";
        boolean huge = random.nextBoolean();
        boolean isHost = !huge && random.nextBoolean();
        long gpa = huge ? random.nextLong(16) * BLOCK : random.nextLong(ModelWorld.REGION / PAGE) * PAGE;
        long bytes = huge ? BLOCK * (1 + random.nextInt(6)) : PAGE * (1 + random.nextInt(isHost ? 100 : 1200));
        if (world.slots.size() >= MAX_SLOTS || overlaps(gpa, bytes, null)) {
            return;
        }
        Set<SlotFlag> flags = new HashSet<>();
        if (random.nextInt(4) == 0) {
            flags.add(SlotFlag.READ_ONLY);
        }
        if (random.nextInt(4) == 0) {
            flags.add(SlotFlag.LOG_DIRTY);
        }
        HostPages host = isHost ? HostPages.allocate(bytes) : null;
        Backing backing =
                isHost ? Backing.host(host, 0) : Backing.anonymous(huge ? PageSize.SIZE_2M : PageSize.SIZE_4K);
        if (isHost) {
            hosts.add(host);
        }
        ModelSlot slot = put(vm.addSlot(nextId++, gpa, bytes, backing, flags.toArray(SlotFlag[]::new)), host);
        if (flags.contains(SlotFlag.LOG_DIRTY)) {
            logs.started(slot);
        }
    }

    private void remove() {
        world.last = "remove slot";
        ModelSlot slot = world.anySlot();
        if (slot.handle.gpa() == ModelWorld.LARGE || random.nextBoolean()) {
            return;
        }
        vm.removeSlot(slot.handle);
        world.slots.remove(slot.handle.gpa());
        if (slot.host != null) {
            slot.host.close();
            hosts.remove(slot.host);
        }
    }

    private void move() {
        world.last = "move slot";
        ModelSlot slot = world.anySlot();
        long gpa =
                random.nextBoolean() ? random.nextLong(16) * BLOCK : slot.handle.gpa() + (random.nextInt(9) - 4) * PAGE;
        if (slot.handle.gpa() == ModelWorld.LARGE || gpa < 0 || overlaps(gpa, slot.handle.bytes(), slot)) {
            return;
        }
        world.slots.remove(slot.handle.gpa());
        slot.handle = vm.moveSlot(slot.handle, gpa);
        world.placed(slot);
    }

    private void changeFlags() {
        world.last = "change flags";
        ModelSlot slot = world.anySlot();
        Set<SlotFlag> flags = new HashSet<>(slot.handle.flags());
        if (!flags.add(SlotFlag.SMALL_PAGES)) {
            flags.remove(SlotFlag.SMALL_PAGES);
        }
        slot.handle = vm.changeSlotFlags(slot.handle, flags.toArray(SlotFlag[]::new));
    }

    private void changeHostPages() {
        ModelSlot slot = world.anySlot();
        if (slot.host == null) {
            return;
        }
        int page = random.nextInt((int) slot.host.pages());
        int count = 1 + random.nextInt(Math.min(8, (int) slot.host.pages() - page));
        int kind = random.nextInt(6);
        world.last =
                "change host pages: kind=" + kind + ", page=" + page + ", count=" + count + ", slot=" + slot.handle;
        switch (kind) {
            case 0 -> {
                slot.host.discard(page, count);
                slot.empty(page, count);
            }
            case 1 -> {
                slot.host.protect(page, count);
                slot.isProtected.set(page, page + count);
            }
            case 2 -> {
                slot.host.unprotect(0, slot.host.pages());
                slot.isProtected.clear();
            }
            case 3 -> merge(slot, page, random.nextInt((int) slot.host.pages()));
            default -> {
                boolean movable = slot.host.isPresent(page) && !slot.host.isMerged(page);
                assertEquals(movable, slot.host.migrate(page));
            }
        }
    }

    private void merge(ModelSlot slot, int pageA, int pageB) {
        if (pageA == pageB) {
            return;
        }
        boolean mergeable = slot.host.isPresent(pageA) && slot.host.isPresent(pageB) && isEqual(slot, pageA, pageB);
        assertEquals(mergeable, slot.host.merge(pageA, pageB));
        if (mergeable) {
            assertEquals(true, slot.host.isMerged(pageA) && slot.host.isMerged(pageB));
        }
    }

    private static boolean isEqual(ModelSlot slot, int pageA, int pageB) {
        for (int i = 0; i < PAGE; i++) {
            long base = slot.handle.gpa() + i;
            if (slot.byteAt(base + pageA * PAGE) != slot.byteAt(base + pageB * PAGE)) {
                return false;
            }
        }
        return true;
    }

    void close() {
        hosts.forEach(HostPages::close);
    }
}
