package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Starting, failing and joining of fleets. */
final class FleetTest {
    @ParameterizedTest
    @EnumSource(FleetThreads.class)
    void everyTaskRunsOnceOnAThreadOfItsKind(FleetThreads threads) {
        AtomicIntegerArray runs = new AtomicIntegerArray(50);
        AtomicInteger virtual = new AtomicInteger();

        long nanos = Fleet.run("kinds", 50, threads, index -> {
            runs.incrementAndGet(index);
            virtual.addAndGet(Thread.currentThread().isVirtual() ? 1 : 0);
        });

        for (int index = 0; index < 50; index++) {
            assertEquals(1, runs.get(index));
        }
        assertEquals(threads == FleetThreads.VIRTUAL ? 50 : 0, virtual.get());
        assertTrue(nanos > 0);
    }

    @ParameterizedTest
    @EnumSource(FleetThreads.class)
    void allAreUnderWayTogether(FleetThreads threads) {
        CyclicBarrier all = new CyclicBarrier(20);
        AtomicInteger met = new AtomicInteger();

        Fleet.run("together", 20, threads, index -> {
            try {
                all.await();
            } catch (Exception broken) {
                throw new IllegalStateException(broken);
            }
            met.incrementAndGet();
        });

        assertEquals(20, met.get());
    }

    @Test
    void failureNamesItsVcpuAndTheOthersComeToTheirEnd() {
        AtomicInteger ended = new AtomicInteger();
        IllegalStateException planted = new IllegalStateException("planted");

        FleetException failure = assertThrows(
                FleetException.class,
                () -> Fleet.run("failing", 10, FleetThreads.VIRTUAL, index -> {
                    if (index == 3) {
                        throw planted;
                    }
                    ended.incrementAndGet();
                }));

        assertSame(planted, failure.getCause());
        assertTrue(failure.getMessage().contains("fleet=failing, vcpu=3"), failure.getMessage());
        assertEquals(9, ended.get());
    }

    @Test
    void emptyFleetIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> Fleet.run("empty", 0, FleetThreads.VIRTUAL, index -> {}));
    }
}
