package dev.tdpmmu.hardware;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.SpteAccess;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Cases of guest paging that no matrix of single accesses has: two addresses of one page, registers that change
 * between accesses, bits one by one, the ends of the address space. The first six are those of kvm-unit-tests' access
 * test.
 */
final class GuestPagingCasesTest {
    private static final long P = 1;
    private static final long W = 1L << 1;
    private static final long U = 1L << 2;
    private static final long A = 1L << 5;
    private static final long D = 1L << 6;
    private static final long PS = 1L << 7;
    private static final long G = 1L << 8;
    private static final long NX = 1L << 63;

    private static final int READ = Access.READ;
    private static final int WRITE = Access.WRITE;
    private static final int FETCH = Access.EXECUTE;
    private static final int USER = LinearAccess.USER;

    /** No fault. */
    private static final int DONE = -1;

    private static final long FIRST = 0xffff_9234_0640_1000L;

    /** Differs from {@link #FIRST} in all indices. */
    private static final long SECOND = 0xffff_e666_0a80_6000L;

    private static final long SPAN_1G = 1L << 30;

    private final Tlb tlb = new Tlb();
    private final LinearTlb linearTlb = new LinearTlb();
    private final LinearResult result = new LinearResult();
    private HandMadeGuest guest = guest(PagingMode.EPT4, AccessedDirty.ON, 4);
    private GuestPaging paging = paging();

    private static HandMadeGuest guest(PagingMode mode, AccessedDirty accessedDirty, int levels) {
        VmConfig config =
                VmConfig.builder().pagingMode(mode).accessedDirty(accessedDirty).build();
        return new HandMadeGuest(config, levels, FIRST);
    }

    /** No register set, addresses of 36 bits. */
    private GuestPaging paging() {
        return new GuestPaging(guest.cr3(), guest.levels, false, false, false, false, false, 0, 36, true);
    }

    private void useGuest(HandMadeGuest other) {
        guest.close();
        guest = other;
        paging = paging();
    }

    @AfterEach
    void close() {
        guest.close();
    }

    /** Makes tables of all permissions, used before, down to the level above the leaf. */
    private void mapTables(long gva, int leafLevel) {
        for (int level = guest.levels; level > leafLevel; level--) {
            guest.set(level, gva, guest.address(level, false) | P | W | U | A);
        }
    }

    private void map(long gva, int leafLevel, long bits) {
        mapTables(gva, leafLevel);
        setLeaf(gva, leafLevel, bits);
    }

    private void setLeaf(long gva, int leafLevel, long bits) {
        guest.set(leafLevel, gva, guest.address(leafLevel, true) | bits | (leafLevel > 1 ? PS : 0));
    }

    private boolean leafHas(long gva, int level, long bits) {
        return (guest.get(level, gva) & bits) == bits;
    }

    /** What a vCPU does: asks the TLB, then walks. Returns the error code of the page fault, or {@link #DONE}. */
    private int access(long gva, int access) {
        linearTlb.enterRoot(guest.rootPointer);
        linearTlb.load(paging);
        long hpa = linearTlb.translate(gva, access);
        if (hpa != LinearTlb.MISS) {
            result.hpa = hpa;
            return DONE;
        }
        return walk(gva, access);
    }

    private int walk(long gva, int access) {
        int outcome = guest.walker.walk(tlb, linearTlb, guest.rootPointer, paging, gva, access, result);
        if (outcome == GuestPageWalker.OK) {
            return DONE;
        }
        assertEquals(GuestPageWalker.PAGE_FAULT, outcome, () -> "gpa=0x" + Long.toHexString(result.secondLevelGpa));
        return (int) result.errorCode;
    }

    private void invlpg(long gva) {
        linearTlb.flushPage(linearTlb.vpid(), gva);
    }

    /** A page that is writable at one address and read-only at another: what one may do the other may not. */
    @Test
    void readOnlyAliasOfHugePageStaysReadOnly() {
        paging = paging.withWriteProtect(true);
        map(FIRST, 2, P | W);
        map(SECOND, 2, P);

        int[] outcomes = {
            access(SECOND, READ), access(FIRST, READ), access(FIRST, WRITE), access(SECOND, WRITE), access(SECOND, READ)
        };

        assertEquals(DONE, outcomes[0]);
        assertEquals(DONE, outcomes[1]);
        assertEquals(DONE, outcomes[2]);
        assertEquals(0x3, outcomes[3]);
        assertEquals(DONE, outcomes[4]);
        assertTrue(leafHas(FIRST, 2, A | D));
        assertTrue(leafHas(SECOND, 2, A) && !leafHas(SECOND, 2, D));
    }

    /** The fault of a page is its own, whatever was learnt when its neighbour was walked. */
    @Test
    void neighbourOfAWalkedPageHasItsOwnErrorCode() {
        long neighbour = FIRST + 0x2000;
        map(FIRST, 1, P);
        setLeaf(neighbour, 1, P | NX);

        int first = access(FIRST, READ);
        int second = access(neighbour, READ);

        assertEquals(DONE, first);
        assertEquals(0x9, second);
    }

    /** Without CR0.WP a supervisor stores to read-only pages; each address of a page has its own dirty flag. */
    @Test
    void eachAliasOfHugePageGetsItsOwnDirtyFlagWithoutWriteProtect() {
        map(FIRST, 2, P);
        map(SECOND, 2, P);

        int read = access(SECOND, READ);
        int firstWrite = access(FIRST, WRITE);
        boolean dirtyBefore = leafHas(SECOND, 2, D);
        int secondWrite = access(SECOND, WRITE);

        assertEquals(DONE, read);
        assertEquals(DONE, firstWrite);
        assertFalse(dirtyBefore);
        assertEquals(DONE, secondWrite);
        assertTrue(leafHas(FIRST, 2, A | D) && leafHas(SECOND, 2, A | D));
    }

    /** A store that only CR0.WP=0 permits makes the page no supervisor page: SMEP still keeps fetches away. */
    @Test
    void smepObeysTheUserBitOfAPageWrittenWithoutWriteProtect() {
        paging = paging.withSmep(true);
        map(FIRST, 1, P | U | A);

        int write = access(FIRST, WRITE);
        int fetch = access(FIRST, FETCH);

        assertEquals(DONE, write);
        assertEquals(0x11, fetch);
        assertTrue(leafHas(FIRST, 1, D));
    }

    @Test
    void permissionsOfSharedTableDependOnThePathToIt() {
        // Two tables of level 3 entries lead to the same table of level 2, which leads to the same table of level 1.
        long writableRead = 0xffff_9234_8000_0000L;
        long writableBoth = writableRead + (1L << 21);
        long readOnlyRead = writableRead + SPAN_1G;
        long readOnlyBoth = readOnlyRead + (1L << 21);
        long table = P | U | A;
        paging = paging.withWriteProtect(true);
        map(writableRead, 1, P | U | A | W);
        guest.set(3, readOnlyRead, guest.address(3, false) | table);
        guest.set(2, writableRead, guest.address(2, false) | table);
        guest.set(2, writableBoth, guest.address(2, false) | table | W);

        int[] outcomes = {
            access(writableRead, READ | USER),
            access(writableBoth, WRITE | USER),
            access(readOnlyRead, READ | USER),
            access(readOnlyBoth, WRITE | USER),
            access(writableRead, WRITE | USER),
            access(readOnlyBoth, READ | USER),
            access(readOnlyBoth, WRITE)
        };

        assertEquals(DONE, outcomes[0]);
        assertEquals(DONE, outcomes[1]);
        assertEquals(DONE, outcomes[2]);
        assertEquals(0x7, outcomes[3]);
        assertEquals(0x7, outcomes[4]);
        assertEquals(DONE, outcomes[5]);
        assertEquals(0x3, outcomes[6]);
    }

    /** A change of these registers needs no INVLPG: the TLB holds what the tables said, not what was allowed. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void registersCountFromTheNextAccessOn(int level) {
        map(FIRST, level, P | U);
        assertToggle(WRITE, 0x3, p -> p.withWriteProtect(true), p -> p.withWriteProtect(false));
        assertToggle(FETCH, 0x11, p -> p.withSmep(true), p -> p.withSmep(false));
        assertToggle(READ, 0x1, p -> p.withSmap(true), p -> p.withSmap(false));
        assertToggle(READ | USER, 0x25, p -> p.withProtectionKeys(true).withPkru(1), p -> p.withProtectionKeys(false));
        paging = paging.withProtectionKeys(true).withPkru(0);
        assertToggle(READ | USER, 0x25, p -> p.withPkru(1), p -> p.withPkru(0));
        setLeaf(FIRST, level, P | U | W | A | D);
        invlpg(FIRST);
        assertToggle(WRITE | USER, 0x27, p -> p.withPkru(2), p -> p.withPkru(0));
        setLeaf(FIRST, level, P | U | NX);
        invlpg(FIRST);
        assertToggle(READ, 0x9, p -> p.withNoExecute(false), p -> p.withNoExecute(true));
        if (level == 3) {
            setLeaf(FIRST, level, P);
            invlpg(FIRST);
            assertToggle(READ, 0x9, p -> p.withGigabytePages(false), p -> p.withGigabytePages(true));
        }
    }

    private void assertToggle(
            int access, int errorCode, UnaryOperator<GuestPaging> forbid, UnaryOperator<GuestPaging> permit) {
        for (int round = 0; round < 3; round++) {
            paging = permit.apply(paging);
            assertEquals(DONE, access(FIRST, access), "round=" + round);
            assertEquals(DONE, access(FIRST, access), "round=" + round);
            paging = forbid.apply(paging);
            assertEquals(errorCode, access(FIRST, access), "round=" + round);
            assertEquals(errorCode, access(FIRST, access), "round=" + round);
        }
        paging = permit.apply(paging);
    }

    /** EFLAGS.AC, CPL and whose access it is change with every instruction. */
    @Test
    void modeOfTheAccessCountsAtEveryAccess() {
        paging = paging.withSmap(true).withWriteProtect(true);
        map(FIRST, 1, P | W | U);
        int implicit = LinearAccess.IMPLICIT;
        int ac = LinearAccess.AC;
        int[][] cases = {
            {READ | ac, DONE},
            {READ, 0x1},
            {READ | USER, DONE},
            {READ | implicit, 0x1},
            {WRITE | ac, DONE},
            {READ | implicit | ac, 0x1},
            {WRITE | implicit | USER, 0x3},
            {WRITE | USER, DONE},
            {WRITE | implicit | USER | ac, 0x3},
            {WRITE, 0x3},
            {FETCH, DONE}
        };

        for (int round = 0; round < 2; round++) {
            for (int[] one : cases) {
                assertEquals(one[1], access(FIRST, one[0]), "round=" + round + ", access=" + one[0]);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"4, 32", "4, 36", "4, 39", "4, 46", "5, 40", "5, 48", "5, 51", "5, 52"})
    void eachBitOfAnEntryIsReservedOrNot(int levels, int addressBits) {
        useGuest(guest(PagingMode.EPT5, AccessedDirty.ON, levels));
        paging = new GuestPaging(guest.cr3(), levels, true, true, false, false, false, 0, addressBits, true);
        for (int leafLevel = 1; leafLevel <= 3; leafLevel++) {
            for (int level = leafLevel; level <= levels; level++) {
                for (int bit = 1; bit < 64; bit++) {
                    boolean isLeaf = level == leafLevel;
                    if (bit == 7 && !isLeaf && level <= 3 || bit == 7 && isLeaf && level > 1) {
                        continue;
                    }
                    map(FIRST, leafLevel, P | W);
                    guest.set(level, guest.get(level) ^ 1L << bit);
                    // What lies behind another address may be anything, but it is not this entry that is malformed.
                    linearTlb.flushAll();

                    int outcome = guest.walker.walk(tlb, linearTlb, guest.rootPointer, paging, FIRST, READ, result);

                    boolean low = isLeaf && bit >= 13 && bit < 12 + 9 * (level - 1);
                    boolean inAddress = (guest.address(level, isLeaf) & 1L << bit) != 0;
                    boolean expected = !inAddress && (bit >= addressBits && bit < 52 || low) || bit == 7 && level > 3;
                    boolean reserved =
                            outcome == GuestPageWalker.PAGE_FAULT && (result.errorCode & GuestPageFault.RESERVED) != 0;
                    assertEquals(expected, reserved, "level=" + level + ", leafLevel=" + leafLevel + ", bit=" + bit);
                }
            }
        }
    }

    /** The page size is reserved at the top by itself, not because of address bits that no page there could have. */
    @Test
    void noPageIsLargerThanOneGigabyte() {
        useGuest(guest(PagingMode.EPT5, AccessedDirty.ON, 5));
        paging = paging();
        for (int level = 4; level <= 5; level++) {
            map(FIRST, 1, P | W | U);
            guest.set(level, P | W | U | PS);
            invlpg(FIRST);

            int outcome = access(FIRST, READ);

            assertEquals(0x9, outcome, "level=" + level);
        }
    }

    /** The key is the leaf's, all four bits of it, whatever the tables above have there. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void everyKeyHasItsOwnRights(int level) {
        paging = paging.withProtectionKeys(true);
        for (long key = 0; key < 16; key++) {
            map(FIRST, level, P | W | U | key << 59);
            for (int above = level + 1; above <= guest.levels; above++) {
                guest.set(above, guest.get(above) | (~key & 15) << 59);
            }
            invlpg(FIRST);
            int twoBits = 2 * (int) key;

            paging = paging.withPkru(~(3 << twoBits));
            assertEquals(DONE, access(FIRST, READ | USER));
            assertEquals(DONE, access(FIRST, WRITE | USER));
            paging = paging.withPkru(1 << twoBits);
            assertEquals(0x25, access(FIRST, READ | USER));
            assertEquals(0x21, access(FIRST, READ));
            assertEquals(0x23, access(FIRST, WRITE));
            assertEquals(DONE, access(FIRST, FETCH | USER));
            paging = paging.withPkru(2 << twoBits);
            assertEquals(DONE, access(FIRST, READ | USER));
            assertEquals(0x27, access(FIRST, WRITE | USER));
            assertEquals(DONE, access(FIRST, WRITE));
            paging = paging.withWriteProtect(true);
            assertEquals(0x23, access(FIRST, WRITE));
            paging = paging.withWriteProtect(false);
        }
    }

    @ParameterizedTest
    @CsvSource({
        "4, 0x0000000000000000, 0x00007fffffffffff, 0x0000800000000000, 0xffff7fffffffffff, 0xffff800000000000",
        "5, 0x0000000000000000, 0x00ffffffffffffff, 0x0100000000000000, 0xfeffffffffffffff, 0xff00000000000000"
    })
    void endsOfTheAddressSpaceAreTranslated(
            int levels, String low, String lowEnd, String hole, String holeEnd, String high) {
        useGuest(guest(PagingMode.EPT4, AccessedDirty.ON, levels));
        paging = paging();
        for (String text : new String[] {low, lowEnd, high, "0xffffffffffffffff"}) {
            long gva = Long.parseUnsignedLong(text.substring(2), 16);
            // An index of the wrong bits finds an entry that is not present.
            map(gva, 1, P | W);

            assertTrue(paging.isCanonical(gva), text);
            assertEquals(DONE, access(gva, WRITE), text);
            assertEquals(HandMadeGuest.DATA_GPA + (gva & 0xfff) + HandMadeGuest.DATA_OFFSET, result.hpa, text);
            for (int level = 1; level <= levels; level++) {
                guest.set(level, gva, 0);
            }
        }
        for (String text : new String[] {hole, holeEnd}) {
            long gva = Long.parseUnsignedLong(text.substring(2), 16);
            assertFalse(paging.isCanonical(gva), text);
            assertThrows(IllegalArgumentException.class, () -> walk(gva, READ), text);
        }
    }

    /** Bit 48 to 56 lead through the fifth table, and there alone two addresses differ. */
    @Test
    void fifthTableTellsAddressesApart() {
        useGuest(guest(PagingMode.EPT4, AccessedDirty.ON, 5));
        paging = paging();
        long other = FIRST ^ 1L << 48;
        map(FIRST, 1, P | W);

        int first = access(FIRST, READ);
        int second = access(other, READ);
        guest.set(5, other, guest.address(5, false) | P | U);
        int third = access(other, READ);

        assertEquals(DONE, first);
        assertEquals(0x0, second);
        assertEquals(DONE, third);
        assertTrue(leafHas(other, 5, A));
    }

    /** What was cached may be used until INVLPG, but not after it. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void invlpgMakesEveryChangeCount(int level) {
        paging = paging.withWriteProtect(true).withNoExecute(true);
        long[] forbidding = {P | U, P | W | U | NX, 0, P | W, P | W | U | 1L << 40};
        int[] accesses = {WRITE | USER, FETCH | USER, READ, READ | USER, READ};
        int[] errorCodes = {0x7, 0x15, 0x0, 0x5, 0x9};
        for (int i = 0; i < forbidding.length; i++) {
            map(FIRST, level, P | W | U);
            invlpg(FIRST);
            int before = access(FIRST, accesses[i]);

            setLeaf(FIRST, level, forbidding[i]);
            invlpg(FIRST);
            int after = access(FIRST, accesses[i]);

            assertEquals(DONE, before, "i=" + i);
            assertEquals(errorCodes[i], after, "i=" + i);
        }
    }

    /** Entries far above the leaf may be cached as well, and INVLPG of one page forgets those too. */
    @Test
    void invlpgForgetsTheTablesAbove() {
        for (int level = 2; level <= 4; level++) {
            map(FIRST, 1, P | W);
            invlpg(FIRST);
            int before = access(FIRST, READ);

            guest.set(level, 0);
            invlpg(FIRST);
            int after = access(FIRST, READ);

            assertEquals(DONE, before);
            assertEquals(0x0, after, "level=" + level);
        }
    }

    /** INVLPG of any address of a huge page forgets all of it. */
    @ParameterizedTest
    @ValueSource(ints = {2, 3})
    void invlpgInsideAHugePageForgetsAllOfIt(int level) {
        long base = FIRST & -PagingLevel.bytes(level);
        long last = base + PagingLevel.bytes(level) - 1;
        map(base, level, P | W);
        int before = access(base, READ) + access(last, READ) + access(base + 0x5000, READ);

        setLeaf(base, level, 0);
        invlpg(base + 0x3000);

        assertEquals(3 * DONE, before);
        assertEquals(0x0, access(base, READ));
        assertEquals(0x0, access(last, READ));
        assertEquals(0x0, access(base + 0x5000, READ));
    }

    /** More permission needs no INVLPG: at worst one fault comes too many, and that one forgets the old entry. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void additionalPermissionIsSeenAfterOneFaultAtTheLatest(int level) {
        paging = paging.withWriteProtect(true);
        map(FIRST, level, P);
        int forbidden = access(FIRST, WRITE);
        int read = access(FIRST, READ);

        setLeaf(FIRST, level, P | W);
        int first = access(FIRST, WRITE);
        int second = access(FIRST, WRITE);

        assertEquals(0x3, forbidden);
        assertEquals(DONE, read);
        assertTrue(first == DONE || first == 0x3, "first=" + first);
        assertEquals(DONE, second);
    }

    /** The same of an entry above the leaf, whose table may be cached with what was allowed above it. */
    @ParameterizedTest
    @ValueSource(ints = {2, 3, 4})
    void additionalPermissionOfTableIsSeenAfterOneFaultAtTheLatest(int level) {
        paging = paging.withWriteProtect(true).withNoExecute(true);
        map(FIRST, 1, P | W | U | A | D);
        guest.set(level, guest.address(level, false) | P | A | NX);
        int read = access(FIRST, READ);
        int forbidden = access(FIRST, WRITE);
        int readAgain = access(FIRST, READ);

        guest.set(level, guest.address(level, false) | P | W | U | A);
        int[] first = {access(FIRST, WRITE | USER), access(FIRST, FETCH | USER)};
        int[] second = {access(FIRST, WRITE | USER), access(FIRST, FETCH | USER)};

        assertEquals(DONE, read);
        assertEquals(0x3, forbidden);
        assertEquals(DONE, readAgain);
        assertTrue(first[0] == DONE || first[0] == 0x7, "first=" + first[0]);
        assertTrue(first[1] == DONE || first[1] == 0x15, "first=" + first[1]);
        assertEquals(DONE, second[0]);
        assertEquals(DONE, second[1]);
    }

    /** Dirty flags that software clears without INVLPG may stay clear, those that it clears with one may not. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void clearedFlagsComeBackAfterInvlpg(int level) {
        map(FIRST, level, P | W);
        access(FIRST, WRITE);
        boolean dirtyAtFirst = leafHas(FIRST, level, A | D);

        setLeaf(FIRST, level, P | W);
        invlpg(FIRST);
        access(FIRST, READ);
        boolean dirtyAfterRead = leafHas(FIRST, level, D);
        boolean accessedAfterRead = leafHas(FIRST, level, A);
        access(FIRST, WRITE);

        assertTrue(dirtyAtFirst);
        assertFalse(dirtyAfterRead);
        assertTrue(accessedAfterRead);
        assertTrue(leafHas(FIRST, level, A | D));
    }

    /** A processor that switches tables keeps global pages, and only those. */
    @Test
    void switchOfTablesForgetsWhatIsNotGlobal() {
        map(FIRST, 1, P | W | G);
        map(SECOND, 1, P | W);
        access(FIRST, READ);
        access(SECOND, READ);
        guest.set(1, FIRST, 0);
        guest.set(1, SECOND, 0);

        // Nothing was ever written to this frame, so as a table it is empty.
        paging = paging.withCr3(guest.tableGpa(6));
        int ofGlobal = access(FIRST, READ);
        int ofOther = access(SECOND, READ);
        invlpg(FIRST);
        int afterInvlpg = access(FIRST, READ);

        assertEquals(DONE, ofGlobal);
        assertEquals(0x0, ofOther);
        assertEquals(0x0, afterInvlpg);
    }

    /** To the second level each use of a guest's table is a store if it has A and D, and the access is what it is. */
    @ParameterizedTest
    @EnumSource(PagingMode.class)
    void secondLevelSeesStoresToTheTables(PagingMode mode) {
        useGuest(guest(mode, AccessedDirty.ON, 4));
        paging = paging();
        map(FIRST, 1, P | W | A | D);
        long accessed = mode.isEpt() ? 1L << 8 : 1L << 5;
        long dirty = mode.isEpt() ? 1L << 9 : 1L << 6;
        long ofTables = guest.outerLeafAddress(HandMadeGuest.TABLES_GPA);
        long ofData = guest.outerLeafAddress(HandMadeGuest.DATA_GPA);

        // A load of the tables' frames that is no use of them has left a translation that permits loads alone.
        assertEquals(
                HardwareWalker.OK,
                guest.secondLevel.walk(tlb, guest.rootPointer, guest.entryGpa(1, FIRST), READ, result.walk));
        tlb.insert(guest.entryGpa(1, FIRST), result.walk);
        access(FIRST, READ);
        long dataAfterRead = SpteAccess.readPlain(ofData) & (accessed | dirty);
        access(FIRST, WRITE);

        assertEquals(accessed | dirty, SpteAccess.readPlain(ofTables) & (accessed | dirty));
        assertEquals(accessed, dataAfterRead);
        assertEquals(accessed | dirty, SpteAccess.readPlain(ofData) & (accessed | dirty));
    }

    /** A page fault of the guest comes before any violation of the page, and leaves the tables as they were. */
    @Test
    void guestFaultComesBeforeTheViolation() {
        paging = paging.withWriteProtect(true);
        map(FIRST, 1, P);
        SpteAccess.setPlain(guest.outerLeafAddress(HandMadeGuest.DATA_GPA), 0);

        int write = access(FIRST, WRITE);
        boolean accessed = leafHas(FIRST, 1, A);
        int read = guest.walker.walk(tlb, linearTlb, guest.rootPointer, paging, FIRST, READ, result);

        assertEquals(0x3, write);
        assertFalse(accessed);
        assertEquals(GuestPageWalker.SECOND_LEVEL, read);
        assertEquals(HardwareWalker.VIOLATION, result.secondLevel);
        assertEquals(HandMadeGuest.DATA_GPA, result.secondLevelGpa);
    }
}
