package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.config.DirtyTracking;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.slot.DirtyPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.SplittableRandom;

/** Random operations on one VM with one vCPU, each with a result. Belongs to one thread. */
final class DeterminismScript {
    private static final long SMALL_BYTES = 4 << 20;
    private static final long HUGE_GPA = 1L << 30;
    private static final long HUGE_BYTES = 64 << 20;
    private static final long PAGE = 4096;

    private final Vm vm;
    private final Vcpu vcpu;
    private final SplittableRandom random;
    private final boolean rings;
    private MemSlot small;
    private MemSlot huge;
    private boolean logs;

    /** Pages that were collected from the ring, in their order. */
    private long collected;

    DeterminismScript(Vm vm, SplittableRandom random) {
        this.vm = vm;
        this.random = random;
        this.rings = vm.config().dirtyLog().tracking() == DirtyTracking.RING;
        small = vm.addSlot(0, 0, SMALL_BYTES, Backing.anonymous(PageSize.SIZE_4K));
        huge = vm.addSlot(1, HUGE_GPA, HUGE_BYTES, Backing.anonymous(PageSize.SIZE_2M));
        vcpu = vm.createVcpu();
        vcpu.onDirtyRingFull(this::emptyRing);
    }

    /** Does the next operation and returns what it says. */
    long step() {
        return switch (random.nextInt(24)) {
            case 0, 1, 2, 3, 4, 5, 6 -> store();
            case 7, 8, 9, 10 -> vcpu.getLong(address());
            case 11 -> vcpu.touch(address(), random.nextBoolean() ? Access.WRITE : Access.EXECUTE) ? 1 : 0;
            case 12 -> vcpu.fetch(address());
            case 13 -> vm.zap(address(), 1 + random.nextLong(64 * PAGE));
            case 14 -> vm.ageing().clearYoungAndFlush(address() & -PAGE, PAGE * (1 + random.nextInt(700)));
            case 15 -> vm.ageing().clearYoung(address() & -PAGE, PAGE * (1 + random.nextInt(700)));
            case 16, 17 -> harvest();
            case 18 -> startOrStopLog();
            case 19 -> protect();
            case 20 -> discard();
            case 21 -> replaceSmall();
            case 22 -> workingSet();
            default -> vm.mmu().ranges().age(0, 1 + random.nextLong(1 << 20));
        };
    }

    private long address() {
        long gpa = random.nextInt(3) == 0 ? HUGE_GPA + random.nextLong(HUGE_BYTES) : random.nextLong(SMALL_BYTES);
        return gpa & -Long.BYTES;
    }

    private long store() {
        long gpa = address();
        long value = random.nextLong();
        vcpu.putLong(gpa, value);
        return vcpu.getLong(gpa) - value;
    }

    private long harvest() {
        if (rings) {
            emptyRing();
            return collected;
        }
        if (!logs) {
            return -1;
        }
        long hash = 0;
        DirtyPages pages = vm.dirtyLog(huge).harvest();
        for (long page = pages.next(0); page >= 0; page = page + 1 < pages.pages() ? pages.next(page + 1) : -1) {
            hash = 31 * hash + page;
        }
        if (vm.config().dirtyLog().tracking() != DirtyTracking.GET_AND_CLEAR) {
            hash += vm.dirtyLog(huge).clear(pages);
        }
        return hash;
    }

    private void emptyRing() {
        vm.drainHardwareLogs();
        vcpu.collectDirty((slotId, page) -> collected = 31 * collected + page + slotId, Integer.MAX_VALUE);
        collected += vm.resetDirtyRings();
    }

    private long startOrStopLog() {
        logs = !logs;
        if (logs) {
            huge = vm.startDirtyLog(huge).slot();
        } else {
            vm.dirtyLog(huge).stop();
            huge = vm.memorySlots().stream()
                    .filter(slot -> slot.id() == 1)
                    .findFirst()
                    .orElseThrow();
        }
        return vm.stats().splits();
    }

    private long protect() {
        long gfn = address() / PAGE;
        return vm.mmu().ranges().writeProtect(gfn, gfn + 1 + random.nextLong(2048)) ? 1 : 0;
    }

    private long discard() {
        vm.discard(random.nextInt(500) * PAGE, PAGE * (1 + random.nextInt(20)));
        return vm.stats().pages4k();
    }

    private long replaceSmall() {
        vm.removeSlot(small);
        small = vm.addSlot(0, 0, SMALL_BYTES, Backing.anonymous(PageSize.SIZE_4K));
        return vm.stats().tablePages();
    }

    private long workingSet() {
        WorkingSet set = vm.workingSet(huge);
        set.scan();
        vcpu.getByte(HUGE_GPA + random.nextLong(HUGE_BYTES));
        set.scanAndFlush();
        return set.pagesYoungerThan(1);
    }
}
