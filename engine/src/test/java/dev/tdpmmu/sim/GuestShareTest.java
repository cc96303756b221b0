package dev.tdpmmu.sim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Gfn;
import java.util.HashSet;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Shares cover guest memory, and their values tell every page and write apart. */
final class GuestShareTest {
    @ParameterizedTest
    @CsvSource({"1,1", "7,7", "8,3", "1000,7", "65536,1000", "2097152,1000"})
    void sharesCoverAllPagesWithoutOverlap(long pages, int vcpus) {
        long next = 0;

        for (int index = 0; index < vcpus; index++) {
            GuestShare share = GuestShare.of(pages * Gfn.PAGE_SIZE, index, vcpus);
            assertEquals(next, share.firstGfn());
            assertTrue(Math.abs(share.pages() - pages / (double) vcpus) < 1, share.toString());
            next += share.pages();
        }

        assertEquals(pages, next);
    }

    @Test
    void valuesLieInsideTheirPageAndAligned() {
        GuestShare share = new GuestShare(5, 4_096);

        for (int page = 0; page < share.pages(); page++) {
            assertEquals(share.gfn(page), Gfn.of(share.gpa(page)));
            assertEquals(share.gfn(page), Gfn.of(share.gpa(page) + Long.BYTES - 1));
            assertEquals(0, share.gpa(page) % Long.BYTES);
        }
    }

    @Test
    void valuesOfPagesAndWritesDiffer() {
        GuestShare share = new GuestShare(0, 2_000);
        Set<Long> values = new HashSet<>();
        Set<Integer> fetched = new HashSet<>();

        for (int page = 0; page < share.pages(); page++) {
            for (int writes = 0; writes < 20; writes++) {
                values.add(share.value(page, writes));
            }
            fetched.add(share.fetched(page, 0));
        }

        assertEquals(2_000 * 20, values.size());
        assertEquals(2_000, fetched.size());
        assertNotEquals(0, share.value(0, 0));
    }
}
