package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a TLB of linear addresses keeps, and what each way of flushing takes. */
class LinearTlbTest {
    private static final long KIB_4 = 1L << 12;
    private static final long MIB_2 = 1L << 21;
    private static final long PAGE = 0x7f00_0020_0000L;
    private static final long GLOBAL_PAGE = 0xffff_8000_0000_9000L;
    private static final long OTHER_PAGE = 0x1234_5000L;
    private static final long HUGE = 0x7f00_4000_0000L;
    private static final long GPA = 0x1_0000_0000L;
    private static final int ALL_RIGHTS = LinearResult.WRITABLE | LinearResult.USER;
    private static final GuestPaging PAGING = GuestPaging.of(0x1000, 4);

    private final LinearTlb tlb = new LinearTlb();
    private final LinearResult found = new LinearResult();

    @BeforeEach
    void load() {
        tlb.load(PAGING);
    }

    private void insert(long gva, long gpa, int attributes, int guestLevel, int level, int second) {
        found.gpa = gpa;
        found.hpa = gpa + (1L << 40);
        found.attributes = attributes;
        found.level = guestLevel;
        tlb.insert(gva, found, level, second, true);
    }

    private void insert(long gva, long gpa, int attributes) {
        insert(gva, gpa, attributes, 1, 1, Access.ALL);
    }

    /**
     * Two VPIDs hold the same: an ordinary page, two pieces of a guest's page of 2 MiB, a page of 2 MiB, a global
     * page; and a table of each level.
     */
    private void fill() {
        for (int vpid = 2; vpid >= 1; vpid--) {
            tlb.useVpid(vpid);
            insert(OTHER_PAGE, GPA + vpid * MIB_2 * 16, ALL_RIGHTS);
            insert(PAGE, GPA + MIB_2, ALL_RIGHTS, 2, 1, Access.ALL);
            insert(PAGE + KIB_4, GPA + MIB_2 + KIB_4, ALL_RIGHTS, 2, 1, Access.ALL);
            insert(HUGE + 5 * KIB_4, GPA + 2 * MIB_2 + 5 * KIB_4, ALL_RIGHTS, 2, 2, Access.ALL);
            insert(GLOBAL_PAGE, GPA + 3 * MIB_2, ALL_RIGHTS | LinearResult.GLOBAL);
            for (int level = 1; level <= 3; level++) {
                tlb.insertTable(PAGE, level, GPA | ALL_RIGHTS);
            }
        }
    }

    /** O, P, Q, H, G and T, in this order, for what is there, of VPID 1 and then of VPID 2. */
    private String held() {
        var text = new StringBuilder();
        for (int vpid = 1; vpid <= 2; vpid++) {
            tlb.useVpid(vpid);
            text.append(vpid == 2 ? "|" : "");
            text.append(is("O", OTHER_PAGE)).append(is("P", PAGE)).append(is("Q", PAGE + KIB_4));
            text.append(is("H", HUGE + 37 * KIB_4)).append(is("G", GLOBAL_PAGE));
            for (int level = 1; level <= 3; level++) {
                text.append(tlb.table(PAGE, level) != LinearTlb.MISS ? "T" : "");
            }
        }
        tlb.useVpid(1);
        return text.toString();
    }

    private String is(String name, long gva) {
        return tlb.translate(gva, Access.READ) != LinearTlb.MISS ? name : "";
    }

    @ParameterizedTest
    @CsvSource({
        "none,                                   OPQHGTTT|OPQHGTTT",
        "INVLPG of a page,                       PQHG|OPQHGTTT",
        "INVLPG of a piece,                      OHG|OPQHGTTT",
        "INVLPG inside a huge page,              OPQG|OPQHGTTT",
        "INVLPG of a global page,                OPQH|OPQHGTTT",
        "INVLPG of nothing,                      OPQHG|OPQHGTTT",
        "INVVPID individual address of VPID 2,   OPQHGTTT|OPQH",
        "INVVPID single context,                 |OPQHGTTT",
        "INVVPID single context of VPID 2,       OPQHGTTT|",
        "INVVPID all contexts,                   |",
        "INVVPID retaining globals,              G|OPQHGTTT",
        "INVEPT,                                 |",
        "MOV to CR3,                             G|OPQHGTTT",
        "SMEP on,                                |OPQHGTTT",
        "SMAP on,                                OPQHGTTT|OPQHGTTT",
        "WP off,                                 OPQHGTTT|OPQHGTTT",
        "PKE and PKRU,                           OPQHGTTT|OPQHGTTT",
        "NXE off,                                |",
        "LA57,                                   |",
        "MAXPHYADDR,                             |",
        "1 GiB leaves off,                       |",
        "same registers,                         OPQHGTTT|OPQHGTTT",
        "another root,                           |",
        "same root,                              OPQHGTTT|OPQHGTTT",
        "page fault,                             OHG|OPQHGTTT",
        "flush of the page's frame,              PQHG|OPQHG",
        "flush of a piece's frame,               OPHG|OPHG",
        "flush of a frame inside the huge page,  OPQG|OPQG",
        "flush of everything,                    |",
        "flush of other frames,                  OPQHG|OPQHG",
    })
    void eachFlushTakesWhatItMustAndNoMore(String flush, String expected) {
        tlb.enterRoot(0x5000);
        fill();

        flush(flush);

        assertEquals(expected == null ? "|" : expected, held());
    }

    private void flush(String name) {
        switch (name) {
            case "none" -> {}
            case "INVLPG of a page" -> tlb.flushPage(1, OTHER_PAGE + 5);
            case "INVLPG of a piece" -> tlb.flushPage(1, PAGE + 9 * KIB_4);
            case "INVLPG inside a huge page" -> tlb.flushPage(1, HUGE + MIB_2 - 1);
            case "INVLPG of a global page" -> tlb.flushPage(1, GLOBAL_PAGE);
            case "INVLPG of nothing" -> tlb.flushPage(1, 0);
            case "INVVPID individual address of VPID 2" -> tlb.flushPage(2, GLOBAL_PAGE);
            case "INVVPID single context" -> tlb.flushVpid(1);
            case "INVVPID single context of VPID 2" -> tlb.flushVpid(2);
            case "INVVPID all contexts", "INVEPT" -> tlb.flushAll();
            case "INVVPID retaining globals" -> tlb.flushNonGlobal(1);
            case "MOV to CR3" -> tlb.load(PAGING.withCr3(0x2000));
            case "SMEP on" -> tlb.load(PAGING.withSmep(true));
            case "SMAP on" -> tlb.load(PAGING.withSmap(true).withPkru(0));
            case "WP off" -> tlb.load(PAGING.withWriteProtect(false));
            case "PKE and PKRU" -> tlb.load(PAGING.withProtectionKeys(true).withPkru(0xc));
            case "NXE off" -> tlb.load(PAGING.withNoExecute(false));
            case "LA57" -> tlb.load(new GuestPaging(0x1000, 5, true, true, false, false, false, 0, 46, true));
            case "MAXPHYADDR" -> tlb.load(PAGING.withPhysicalAddressBits(40));
            case "1 GiB leaves off" -> tlb.load(PAGING.withGigabytePages(false));
            case "same registers" -> tlb.load(GuestPaging.of(0x1000, 4));
            case "another root" -> tlb.enterRoot(0x6000);
            case "same root" -> tlb.enterRoot(0x5000);
            case "page fault" -> tlb.forget(PAGE);
            case "flush of the page's frame" -> flushGpa(GPA + MIB_2 * 16, KIB_4);
            case "flush of a piece's frame" -> flushGpa(GPA + MIB_2 + KIB_4, KIB_4);
            case "flush of a frame inside the huge page" -> flushGpa(GPA + 2 * MIB_2 + 7 * KIB_4, KIB_4);
            case "flush of everything" -> tlb.flushRange(0, Long.MAX_VALUE);
            case "flush of other frames" -> flushGpa(GPA, MIB_2);
            default -> throw new IllegalArgumentException("no such flush: name=" + name);
        }
        if (name.equals("SMAP on")) {
            // The pages are user pages: what is held is seen with AC only.
            tlb.load(PAGING);
        }
    }

    private void flushGpa(long gpa, long bytes) {
        tlb.flushRange(gpa >>> 12, gpa + bytes >>> 12);
    }

    @Test
    void mappingsAreJudgedByTheRegistersOfTheMoment() {
        insert(PAGE, GPA, LinearResult.USER | 3 << 4);

        assertHits(Access.READ, true);
        assertHits(Access.WRITE, false);
        assertHits(Access.READ | LinearAccess.USER, true);
        assertHits(Access.EXECUTE, true);
        tlb.load(PAGING.withWriteProtect(false));
        assertHits(Access.WRITE, true);
        assertHits(Access.WRITE | LinearAccess.USER, false);
        tlb.load(PAGING.withSmap(true));
        assertHits(Access.READ, false);
        assertHits(Access.READ | LinearAccess.AC, true);
        assertHits(Access.READ | LinearAccess.AC | LinearAccess.IMPLICIT, false);
        assertHits(Access.READ | LinearAccess.USER | LinearAccess.IMPLICIT, false);
        assertHits(Access.READ | LinearAccess.USER, true);
        tlb.load(PAGING.withProtectionKeys(true).withPkru(1 << 6));
        assertHits(Access.READ, false);
        assertHits(Access.EXECUTE, true);
        tlb.load(PAGING.withProtectionKeys(true).withPkru(~(3 << 6)));
        assertHits(Access.READ, true);
        tlb.load(PAGING.withProtectionKeys(true).withPkru(2 << 6).withWriteProtect(false));
        assertHits(Access.WRITE, true);
        assertHits(Access.READ | LinearAccess.USER, true);
    }

    private void assertHits(int access, boolean expected) {
        assertEquals(expected, tlb.translate(PAGE, access) != LinearTlb.MISS, "access=" + access);
    }

    @Test
    void storesNeedDirtyOfBothLevels() {
        found.gpa = GPA;
        found.hpa = GPA;
        found.attributes = ALL_RIGHTS;
        found.level = 1;
        tlb.insert(PAGE, found, 1, Access.READ | Access.WRITE, false);
        assertHits(Access.WRITE, false);
        tlb.insert(PAGE, found, 1, Access.READ, true);
        assertHits(Access.WRITE, false);
        tlb.insert(PAGE, found, 1, Access.READ | Access.WRITE, true);
        assertHits(Access.WRITE, true);
        assertHits(Access.EXECUTE, false);
    }

    @Test
    void piecesOfHugePagesLeadToTheirFrames() {
        long gva = HUGE + 3 * KIB_4;
        insert(gva, GPA + 3 * KIB_4, ALL_RIGHTS, 2, PagingLevel.L2M, Access.ALL);
        insert(0x4000_0000L + 9 * KIB_4, 9 * KIB_4, ALL_RIGHTS, 3, PagingLevel.L1G, Access.ALL);

        long[] offsets = {0, 17 * KIB_4 + 5, MIB_2 - 1};
        for (long offset : offsets) {
            assertEquals(GPA + (1L << 40) + offset, tlb.translate(HUGE + offset, Access.READ));
        }
        assertEquals((1L << 40) + 3 * MIB_2 + 1, tlb.translate(0x4000_0000L + 3 * MIB_2 + 1, Access.WRITE));
        assertEquals(LinearTlb.MISS, tlb.translate(HUGE + MIB_2, Access.READ));
        assertEquals(LinearTlb.MISS, tlb.translate(0x8000_0000L, Access.READ));
        tlb.flushPage(1, 0x4000_0000L + 100 * MIB_2);
        assertEquals(LinearTlb.MISS, tlb.translate(0x4000_0000L + 3 * MIB_2 + 1, Access.WRITE));
        assertEquals(LinearTlb.MISS, tlb.translate(0x4000_0000L + 9 * KIB_4, Access.WRITE));
    }

    @Test
    void vpidsAreChecked() {
        Consumer<Integer> use = tlb::useVpid;

        assertThrows(IllegalArgumentException.class, () -> use.accept(0));
        assertThrows(IllegalArgumentException.class, () -> use.accept(1 << 16));
        assertThrows(IllegalArgumentException.class, () -> tlb.flushPage(0, 0));
        assertThrows(IllegalArgumentException.class, () -> tlb.flushVpid(-1));
        use.accept(0xffff);
        insert(GLOBAL_PAGE, GPA, ALL_RIGHTS);
        assertEquals(0xffff, tlb.vpid());
        assertEquals(1, tlb.validMappings());
        tlb.flushVpid(0xffff);
        assertEquals(0, tlb.validMappings() + tlb.validTables());
    }
}
