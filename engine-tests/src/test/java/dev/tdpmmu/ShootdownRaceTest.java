package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.memory.GuestBytes;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.sync.LockMode;
import dev.tdpmmu.testkit.Actor;
import dev.tdpmmu.testkit.PointFilter;
import dev.tdpmmu.testkit.ScheduleExplorer;
import dev.tdpmmu.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * Flushes against a vCPU that hits its TLB, against each other, and against a ring that is written over.
 *
 * <pre>
 *  flush t (held up)                | flush t + 32                  | vCPU
 *  stamps the entry as not written, |                               |
 *  writes the start of its range    |                               |
 *                                   | writes start', end', stamp'   |
 *  writes the end of its range      |                               |
 *                                   |                               | reads stamp', start', end of t, stamp': keeps what
 *                                   |                               | flush t + 32 has removed
 * </pre>
 */
final class ShootdownRaceTest {
    private static final long LAST = 3;

    /** Entry of the flush that is held up, in the world of now. Confined to the exploring thread. */
    private static long contested;

    private static final int RING = 256;
    private static final int RING_ENTRIES = 32;
    private static final int ENTRY_BYTES = 32;

    /** A vCPU that stores to page 0 while its leaf is zapped amid other flushes. */
    private abstract static class Flushes extends VmWorld {
        final Vcpu guest;
        final VcpuMmu zapping = part("zapping");
        long seenAfter = -1;

        Flushes(int flushesBefore) {
            super(parallel());
            addSlot(SlotFlag.SMALL_PAGES);
            for (int i = 0; i < flushesBefore; i++) {
                shootdown.flushRange(0, 1);
            }
            guest = vcpu("guest");
            guest.putLong(page(0), 0);
            guest.putLong(page(1), 0);
        }

        final void storeThrice() {
            for (long value = 1; value <= LAST; value++) {
                guest.putLong(page(0), value);
                Interleave.step();
            }
        }

        final void zap(VcpuMmu by, int index) {
            vm.mmu().lock().lock(by.slot(), LockMode.SHARED);
            long address = spteAddress(by, page(index), 1);
            boolean zapped = false;
            while (!zapped) {
                long spte = SpteAccess.readAcquire(address);
                zapped = vm.mmu().updater().tryZap(by.slot(), address, Gfn.of(page(index)), 1, spte);
            }
            vm.mmu().lock().unlock(by.slot(), LockMode.SHARED);
        }

        final void zapFirstPage() {
            zap(zapping, 0);
            seenAfter = GuestBytes.getLong(hpa(page(0)));
        }

        final void flushElsewhere(int times) {
            for (int i = 0; i < times; i++) {
                shootdown.flushRange(0, 1);
            }
        }

        final long ringEntry(long ticket) {
            return shootdown.sequenceAddress() + RING + (ticket & (RING_ENTRIES - 1)) * ENTRY_BYTES;
        }

        @Override
        void judge() {
            assertEquals(LAST, GuestBytes.getLong(hpa(page(0))));
            if (seenAfter != LAST) {
                assertTrue(isLeaf(zapping, page(0)), "stored without a leaf: seenAfter=" + seenAfter);
            }
            VmStats stats = vm.stats();
            assertEquals(stats.remoteTlbFlushRequests(), stats.remoteTlbFlush() + stats.remoteTlbFlushCoalesced());
        }
    }

    /** As many flushes before the vCPU exists as the world says, then a zap. */
    private static final class OneZap extends Flushes {
        OneZap(int flushesBefore) {
            super(flushesBefore);
        }

        @Override
        public List<Actor> actors() {
            return List.of(Actor.of("guest", this::storeThrice), Actor.of("zapping", this::zapFirstPage));
        }
    }

    /** Two zap at once. */
    private static final class TwoZaps extends Flushes {
        private final VcpuMmu second = part("second");
        private final Vcpu other = vcpu("other");

        TwoZaps() {
            super(0);
            other.putLong(page(1), 0);
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("guest", this::storeThrice),
                    Actor.of("zapsFirst", this::zapFirstPage),
                    Actor.of("zapsSecond", () -> {
                        zap(second, 1);
                        other.putLong(page(1), 7);
                    }));
        }

        @Override
        void judge() {
            super.judge();
            assertEquals(7, GuestBytes.getLong(hpa(page(1))));
        }
    }

    /** More flushes than the ring holds come between two accesses. */
    private static final class Overflow extends Flushes {
        private final int flushesBehind;

        Overflow(int flushesBehind) {
            super(0);
            this.flushesBehind = flushesBehind;
        }

        @Override
        public List<Actor> actors() {
            List<Actor> actors = new ArrayList<>();
            actors.add(Actor.of("guest", this::storeThrice));
            actors.add(Actor.of("zapping", () -> {
                zapFirstPage();
                flushElsewhere(flushesBehind);
            }));
            return actors;
        }
    }

    /** A flush is held up while it writes its entry, until the ring has come round to the same entry. */
    private static final class HeldUpFlush extends Flushes {
        HeldUpFlush() {
            super(0);
            contested = ringEntry(HostWords.readVolatile(shootdown.sequenceAddress()) + 1);
            name(contested, "stamp");
            name(contested + Long.BYTES, "start");
            name(contested + 2 * Long.BYTES, "end");
        }

        @Override
        public List<Actor> actors() {
            return List.of(
                    Actor.of("heldUp", () -> shootdown.flushRange(0, 1)),
                    Actor.of("zapping", () -> {
                        flushElsewhere(RING_ENTRIES - 1);
                        zapFirstPage();
                    }),
                    Actor.of("guest", this::storeThrice));
        }
    }

    @Test
    void zapIsFinalWhenItsFlushReturns() {
        Explore.all("store against zap", () -> new OneZap(0), 500, 50);
    }

    @Test
    void newVcpuIsWaitedForAfterTheSequenceHasWrapped() {
        Explore.all("store of a new vCPU against zap", () -> new OneZap(20), 0, 50);
    }

    @Test
    void concurrentFlushesAreAllFinal() {
        Explore.all("stores against two zaps", TwoZaps::new, 1_500, 60);
    }

    @Test
    void overflowOfTheRingFlushesEverything() {
        Explore.all("ring overflow by 1", () -> new Overflow(RING_ENTRIES), 0, 50);
        Explore.all("ring just full", () -> new Overflow(RING_ENTRIES - 1), 0, 50);
    }

    @Test
    void rangesOfTwoFlushesNeverMix() {
        // The race needs three or four switches, but only around one entry.
        PointFilter entry = (kind, address) -> kind == Interleave.Kind.STEP
                || address == VmWorld.hpa(VmWorld.page(0))
                || address - contested >= 0 && address - contested < ENTRY_BYTES;
        ScheduleExplorer explorer = ScheduleExplorer.of("held-up flush", HeldUpFlush::new)
                .trustLocks()
                .points(entry);

        System.out.println(explorer.preemptions(3).exhaustive(4_000));
        System.out.println(explorer.sample(Seeds.announce("held-up flush").seed(), 300));
    }
}
