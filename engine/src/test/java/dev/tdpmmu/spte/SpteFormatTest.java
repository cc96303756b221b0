package dev.tdpmmu.spte;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Debug;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.HardwareConfig;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.ProcessorConfigs;
import dev.tdpmmu.config.VmConfig;
import java.util.List;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

final class SpteFormatTest {
    private static final long HPA = 0x3_4000_0000L;
    private static final long TABLE = 0x12_3000L;

    static final List<VmConfig> CONFIGS = ProcessorConfigs.all();
    static final List<VmConfig> WITHOUT_ACCESSED_DIRTY = CONFIGS.stream()
            .filter(config -> config.accessedDirty() == AccessedDirty.OFF)
            .toList();

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void leafHasWhatWasAskedFor(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        forEachLeaf(
                (wanted, spte) -> {
                    boolean writable = wanted.writes() && wanted.hostWritable && !wanted.writeProtected;
                    boolean readable =
                            (wanted.access & ~Access.EXECUTE) != 0 || !config.executeOnly() || !isEpt(config);
                    assertTrue(format.isLegal(spte, wanted.level), wanted.text(format, spte));
                    assertTrue(format.isLeaf(spte, wanted.level), wanted.text(format, spte));
                    assertFalse(format.isTable(spte, wanted.level), wanted.text(format, spte));
                    assertFalse(format.isMmio(spte), wanted.text(format, spte));
                    assertTrue(format.isHardwarePresent(spte), wanted.text(format, spte));
                    assertEquals(HPA, format.address(spte), wanted.text(format, spte));
                    assertEquals(readable, format.isReadable(spte), wanted.text(format, spte));
                    assertEquals(writable, format.isWritable(spte), wanted.text(format, spte));
                    boolean executable = (wanted.access & Access.EXECUTE) != 0
                            || !config.hardware().noExecute();
                    assertEquals(executable, format.isExecutable(spte), wanted.text(format, spte));
                    assertEquals(wanted.hostWritable, format.isHostWritable(spte), wanted.text(format, spte));
                    assertEquals(
                            wanted.hostWritable && wanted.writes(),
                            format.isMmuWritable(spte),
                            wanted.text(format, spte));
                    assertEquals(0, spte & (format.accessedBit() | format.dirtyBit()), wanted.text(format, spte));
                    assertFalse(format.isAccessTracked(spte), wanted.text(format, spte));
                },
                format);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void allowsIsWhatThePermissionsSay(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        forEachLeaf(
                (wanted, spte) -> {
                    for (int access = 1; access <= Access.ALL; access++) {
                        boolean expected = ((access & Access.READ) == 0 || format.isReadable(spte))
                                && ((access & Access.WRITE) == 0 || format.isWritable(spte))
                                && ((access & Access.EXECUTE) == 0 || format.isExecutable(spte));
                        assertEquals(expected, format.allows(spte, access), wanted.text(format, spte));
                    }
                },
                format);
        for (long spte : new long[] {Spte.NON_PRESENT, Spte.FROZEN, format.makeMmio(5, Access.ALL, 1)}) {
            assertFalse(format.allows(spte, Access.READ));
            assertFalse(format.allows(spte, Access.WRITE));
            assertFalse(format.allows(spte, Access.EXECUTE));
        }
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void bothExecutePermissionsComeAndGoTogether(VmConfig config) {
        assumeTrue(config.hardware().modeBasedExecute());
        SpteFormat format = SpteFormat.of(config);
        long both = EptLayout.EXECUTE | EptLayout.USER_EXECUTE;

        forEachLeaf(
                (wanted, spte) -> {
                    long tracked = format.trackAccess(spte);
                    long allowed = format.makeExecutable(spte);
                    long forbidden = format.clearExecutable(allowed);
                    assertEquals((wanted.access & Access.EXECUTE) != 0 ? both : 0, spte & both);
                    assertEquals(both, allowed & both, wanted.text(format, allowed));
                    assertEquals(0, forbidden & both, wanted.text(format, forbidden));
                    if (format.isReadable(spte)) {
                        assertEquals(allowed, format.makeExecutable(forbidden));
                    }
                    assertEquals(spte & both, format.restoreAccess(tracked) & both, wanted.text(format, tracked));
                    if (format.isAccessTracked(tracked)) {
                        assertEquals(both, format.restoreAccess(format.makeExecutable(tracked)) & both);
                        assertEquals(0, format.restoreAccess(format.clearExecutable(tracked)) & both);
                        assertEquals(spte & both, format.addUse(tracked, format.use(spte)) & both);
                    }
                    boolean alone = (wanted.access & Access.EXECUTE) != 0;
                    assertFalse(alone && format.isLegal(spte ^ EptLayout.USER_EXECUTE, wanted.level));
                    assertFalse(alone && format.isLegal(spte ^ EptLayout.EXECUTE, wanted.level));
                },
                format);
        assertEquals(both, format.makeTable(TABLE) & both);
        assertTrue(format.isHardwarePresent(EptLayout.USER_EXECUTE));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void noEntryHasTheReservedNoExecuteBit(VmConfig config) {
        assumeTrue(!config.hardware().noExecute());
        SpteFormat format = SpteFormat.of(config);

        forEachLeaf(
                (wanted, spte) -> {
                    assertEquals(0, spte & NptLayout.NO_EXECUTE, wanted.text(format, spte));
                    assertEquals(spte, format.clearExecutable(spte), wanted.text(format, spte));
                    assertFalse(format.isLegal(spte | NptLayout.NO_EXECUTE, wanted.level));
                },
                format);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void tableIsATableAndForbidsNothing(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        long spte = format.makeTable(TABLE);

        for (int level = PagingLevel.L2M; level <= config.pagingMode().levels(); level++) {
            assertTrue(format.isTable(spte, level));
            assertFalse(format.isLeaf(spte, level));
            assertTrue(format.isLegal(spte, level));
            assertFalse(format.isVolatile(spte, level));
        }
        assertEquals(TABLE, format.address(spte));
        assertTrue(format.allows(spte, Access.ALL));
        assertFalse(format.isLegal(spte, PagingLevel.L4K));
        assertTrue(format.isLegal(spte & ~format.accessedBit(), PagingLevel.L2M));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void specialValuesAreNothingElse(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        for (long spte : new long[] {Spte.NON_PRESENT, Spte.FROZEN}) {
            for (int level = PagingLevel.L4K; level <= PagingLevel.L256T; level++) {
                assertFalse(format.isLeaf(spte, level));
                assertFalse(format.isTable(spte, level));
                assertFalse(format.isVolatile(spte, level));
                assertTrue(format.isLegal(spte, level));
            }
            assertFalse(format.isHardwarePresent(spte));
            assertFalse(format.isMmio(spte));
            assertFalse(format.isAccessTracked(spte));
            assertEquals(spte, format.restoreAccess(spte));
        }
        assertTrue(Spte.isFrozen(Spte.FROZEN));
        assertFalse(Spte.isFrozen(Spte.NON_PRESENT));
        assertFalse(Spte.isMmuPresent(Spte.FROZEN));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void mmioComesBackAsItWentIn(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        long lastGfn = (1L << config.physicalAddressBits() - 12) - 1;
        long max = SpteFormat.MMIO_GENERATION_MASK;
        assertTrue(format.mmioCaching());

        for (long gfn : new long[] {0, 1, 0x12345, lastGfn}) {
            for (long generation : new long[] {0, 1, 0x7f, 0x80, 0x3f80, max - 1, max}) {
                for (int access = Access.READ; access <= Access.ALL; access += 2) {
                    long spte = format.makeMmio(gfn, access, generation);
                    String text = SpteText.describe(format, spte, PagingLevel.L4K);

                    assertTrue(format.isMmio(spte), text);
                    assertEquals(gfn, format.mmioGfn(spte), text);
                    assertEquals(generation, MmioSpte.generation(spte), text);
                    assertEquals(access, MmioSpte.access(spte), text);
                    assertFalse(Spte.isMmuPresent(spte), text);
                    assertTrue(format.isHardwarePresent(spte), text);
                    assertTrue(format.isLegal(spte, PagingLevel.L4K), text);
                    assertFalse(format.isLegal(spte, PagingLevel.L2M), text);
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void mmioKeepsOnlyTheLowBitsOfTheGeneration(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        long spte = format.makeMmio(7, Access.READ, 0x7654_3219L << 18 | 42);

        assertEquals(format.makeMmio(7, Access.READ, 42), spte);
        assertEquals(0x3ffff, SpteFormat.MMIO_GENERATION_MASK);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void mmioRefusesAnImpossibleGfn(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        long firstImpossible = 1L << config.physicalAddressBits() - 12;

        assertThrows(IllegalArgumentException.class, () -> format.makeMmio(firstImpossible, Access.ALL, 0));
        assertThrows(IllegalArgumentException.class, () -> format.makeMmio(-1, Access.ALL, 0));
    }

    @Test
    void mmioIsImpossibleForNptWithAllAddressBits() {
        SpteFormat npt =
                SpteFormat.of(builder(PagingMode.NPT5).physicalAddressBits(52).build());
        SpteFormat ept =
                SpteFormat.of(builder(PagingMode.EPT5).physicalAddressBits(52).build());
        SpteFormat off =
                SpteFormat.of(builder(PagingMode.EPT5).mmioCaching(false).build());

        assertFalse(npt.mmioCaching());
        assertTrue(ept.mmioCaching());
        assertFalse(off.mmioCaching());
        assertThrows(IllegalStateException.class, () -> npt.makeMmio(1, Access.ALL, 1));
        assertFalse(npt.isMmio(NptLayout.PRESENT | NptLayout.MMIO_RESERVED));
        assertFalse(off.isMmio(ept.makeMmio(1, Access.ALL, 1)));
        long lastGfn = (1L << 40) - 1;
        assertEquals(lastGfn, ept.mmioGfn(ept.makeMmio(lastGfn, Access.ALL, SpteFormat.MMIO_GENERATION_MASK)));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void splitChildrenMapWhatTheHugeLeafMapped(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        for (int level = PagingLevel.L2M; level <= PagingLevel.MAX_HUGE; level++) {
            for (int access = 1; access <= Access.ALL; access++) {
                long huge = format.makeLeaf(HPA, level, access, true, false) | format.accessedBit() | format.dirtyBit();
                long first = format.splitFirst(huge, level);
                long step = PagingLevel.bytes(level - 1);
                for (int i : new int[] {0, 1, 255, 511}) {
                    long child = first + i * step;
                    long expected =
                            format.makeLeaf(HPA + i * PagingLevel.bytes(level - 1), level - 1, access, true, false);

                    assertEquals(expected | format.accessedBit() | format.dirtyBit(), child);
                    assertTrue(format.isLegal(child, level - 1));
                }
            }
        }
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void writeBitsMoveOnlyBetweenLegalCombinations(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        long writable = format.makeLeaf(HPA, PagingLevel.L4K, Access.ALL, true, false);

        long protectedByLog = format.clearWritable(writable);
        long forbidden = format.clearWritableAndMmuWritable(writable);

        assertFalse(format.isWritable(protectedByLog));
        assertTrue(format.isMmuWritable(protectedByLog));
        assertEquals(format.makeLeaf(HPA, PagingLevel.L4K, Access.ALL, true, true), protectedByLog);
        assertEquals(writable, format.makeWritable(protectedByLog));
        assertFalse(format.isWritable(forbidden));
        assertFalse(format.isMmuWritable(forbidden));
        assertTrue(format.isHostWritable(forbidden));
        for (long spte : new long[] {writable, protectedByLog, forbidden}) {
            assertTrue(format.isLegal(spte, PagingLevel.L4K));
        }
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void onlyFourOfEightWriteCombinationsAreLegal(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        long none = format.makeLeaf(HPA, PagingLevel.L4K, Access.READ, false, false);
        long host = format.makeLeaf(HPA, PagingLevel.L4K, Access.READ, true, false) ^ none;
        long mmu = format.makeLeaf(HPA, PagingLevel.L4K, Access.READ | Access.WRITE, true, true) ^ none ^ host;
        long write = format.makeLeaf(HPA, PagingLevel.L4K, Access.READ | Access.WRITE, true, false) ^ none ^ host ^ mmu;

        for (int bits = 0; bits < 8; bits++) {
            long spte =
                    none | ((bits & 4) != 0 ? host : 0) | ((bits & 2) != 0 ? mmu : 0) | ((bits & 1) != 0 ? write : 0);

            boolean legal = bits == 0b000 || bits == 0b100 || bits == 0b110 || bits == 0b111;
            assertEquals(
                    legal, format.isLegal(spte, PagingLevel.L4K), SpteText.describe(format, spte, PagingLevel.L4K));
        }
        assertEquals(3, Long.bitCount(host) + Long.bitCount(mmu) + Long.bitCount(write));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void malformedLeavesAreIllegal(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        long small = format.makeLeaf(HPA, PagingLevel.L4K, Access.ALL, true, false);
        long huge = format.makeLeaf(HPA, PagingLevel.L2M, Access.ALL, true, false);
        long beyond = 1L << config.physicalAddressBits();
        long type = 1L << 52;

        assertFalse(format.isLegal(small | Spte.PAGE_SIZE, PagingLevel.L4K));
        assertFalse(format.isLegal(small | beyond, PagingLevel.L4K));
        assertFalse(format.isLegal(small ^ type, PagingLevel.L4K));
        assertFalse(format.isLegal(small | 1L << 62, PagingLevel.L4K));
        assertFalse(format.isLegal(small & ~Spte.MMU_PRESENT, PagingLevel.L4K));
        assertFalse(format.isLegal(huge | 1L << 12, PagingLevel.L2M));
        assertFalse(format.isLegal(huge | 1L << 20, PagingLevel.L2M));
        assertFalse(format.isLegal(huge | 1L << 21, PagingLevel.L1G));
        assertFalse(format.isLegal(huge | 1L << 29, PagingLevel.L1G));
        assertFalse(format.isLegal(huge, PagingLevel.L512G));
        assertFalse(format.isLegal(1L << 52, PagingLevel.L4K));
        assertTrue(format.isLegal(huge | 1L << 21, PagingLevel.L2M));
    }

    @Test
    void executeOnlyIsLegalOnlyWhereTheProcessorKnowsIt() {
        SpteFormat with =
                SpteFormat.of(builder(PagingMode.EPT4).executeOnly(true).build());
        SpteFormat without =
                SpteFormat.of(builder(PagingMode.EPT4).executeOnly(false).build());

        long spte = with.makeLeaf(HPA, PagingLevel.L4K, Access.EXECUTE, false, false);

        assertFalse(with.isReadable(spte));
        assertTrue(with.isLegal(spte, PagingLevel.L4K));
        assertFalse(without.isLegal(spte, PagingLevel.L4K));
        assertTrue(without.isReadable(without.makeLeaf(HPA, PagingLevel.L4K, Access.EXECUTE, false, false)));
    }

    @ParameterizedTest
    @FieldSource("WITHOUT_ACCESSED_DIRTY")
    void trackedLeafAllowsNothingAndComesBackWithoutWrite(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);

        forEachLeaf(
                (wanted, spte) -> {
                    long tracked = format.trackAccess(spte);
                    assertTrue(format.isAccessTracked(tracked), wanted.text(format, tracked));
                    assertFalse(format.isAccessed(tracked), wanted.text(format, tracked));
                    assertFalse(format.isHardwarePresent(tracked), wanted.text(format, tracked));
                    assertTrue(format.isLeaf(tracked, wanted.level), wanted.text(format, tracked));
                    assertTrue(format.isLegal(tracked, wanted.level), wanted.text(format, tracked));
                    assertTrue(format.isVolatile(tracked, wanted.level), wanted.text(format, tracked));
                    assertFalse(format.allows(tracked, Access.READ), wanted.text(format, tracked));
                    assertFalse(format.allows(tracked, Access.EXECUTE), wanted.text(format, tracked));
                    assertEquals(tracked, format.trackAccess(tracked));
                    assertEquals(
                            format.clearWritable(spte), format.restoreAccess(tracked), wanted.text(format, tracked));
                    assertEquals(spte, format.restoreAccess(spte), wanted.text(format, spte));
                    assertTrue(format.isAccessed(spte), wanted.text(format, spte));
                },
                format);
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void tracksAccessesByTheBitWhereThereIsOne(VmConfig config) {
        assumeTrue(config.accessedDirty() == AccessedDirty.ON);
        SpteFormat format = SpteFormat.of(config);
        long old = format.makeLeaf(HPA, PagingLevel.L4K, Access.ALL, true, false);
        long young = old | format.accessedBit();

        assertTrue(format.isAccessed(young));
        assertFalse(format.isAccessed(old));
        assertEquals(old, format.trackAccess(young));
        assertEquals(old, format.restoreAccess(old));
        assertFalse(format.isAccessTracked(old));
        assertTrue(format.isDirty(old | format.dirtyBit()));
        assertFalse(format.isDirty(young));
    }

    @ParameterizedTest
    @FieldSource("CONFIGS")
    void volatileIsWhatOthersMayChange(VmConfig config) {
        SpteFormat format = SpteFormat.of(config);
        boolean off = config.accessedDirty() == AccessedDirty.OFF;
        long clean = format.makeLeaf(HPA, PagingLevel.L2M, Access.ALL, true, false);
        long dirty = clean | format.dirtyBit();
        long readOnly = format.makeLeaf(HPA, PagingLevel.L2M, Access.READ, true, false);
        int level = PagingLevel.L2M;

        assertTrue(format.isVolatile(clean, level));
        assertEquals(off, format.isVolatile(dirty, level));
        assertTrue(format.isVolatile(format.clearWritable(dirty), level));
        assertEquals(off, format.isVolatile(format.clearWritableAndMmuWritable(clean), level));
        assertEquals(off, format.isVolatile(readOnly, level));
        assertFalse(format.isVolatile(clean & ~Spte.PAGE_SIZE, level));
        assertFalse(format.isVolatile(clean & ~Spte.MMU_PRESENT, level));
    }

    @Test
    void everyOverlapIsRefused() {
        List<BiConsumer<SpteMasks, Long>> setters = List.of(
                (m, bit) -> m.write |= bit,
                (m, bit) -> m.noExecute |= bit,
                (m, bit) -> m.accessed |= bit,
                (m, bit) -> m.dirty |= bit,
                (m, bit) -> m.memoryType |= bit,
                (m, bit) -> m.hostWritable |= bit,
                (m, bit) -> m.mmuWritable |= bit,
                (m, bit) -> m.read |= bit);
        List<Long> bitsOfOthers = List.of(
                1L << 2, 1L << 1, 1L << 3, 1L << 7, 1L << 8, 1L << 9, 1L << 11, 1L << 12, 1L << 51, 1L << 52, 1L << 53,
                1L << 57, 1L << 58);

        for (BiConsumer<SpteMasks, Long> setter : setters) {
            int refused = 0;
            for (long bit : bitsOfOthers) {
                SpteMasks masks = EptLayout.masks(builder(PagingMode.EPT4).build());
                setter.accept(masks, bit);
                refused += isRefused(masks) ? 1 : 0;
            }
            // A field overlaps everything but itself; R and X may overlap each other, as in NPT.
            assertTrue(refused >= bitsOfOthers.size() - 1, "refused=" + refused);
        }
    }

    @Test
    void savedPermissionsMustNotMeetTheWriteBits() {
        SpteMasks masks = EptLayout.masks(
                builder(PagingMode.EPT4).accessedDirty(AccessedDirty.OFF).build());
        masks.hostWritable = 1L << 54;

        var thrown = assertThrows(IllegalArgumentException.class, () -> new SpteFormat(masks));

        assertTrue(thrown.getMessage().contains("saved=0x140000000000000"), thrown.getMessage());
        assertTrue(thrown.getMessage().contains("hostWritable=0x40000000000000"), thrown.getMessage());
    }

    @Test
    void specialValuesMustBeInvisible() {
        SpteMasks frozenIsPresent = EptLayout.masks(builder(PagingMode.EPT4).build());
        frozenIsPresent.execute |= 1L << 8;
        frozenIsPresent.accessed = 0;
        frozenIsPresent.hardwarePresent |= 1L << 8;
        SpteMasks bareLeafIsPresent = EptLayout.masks(builder(PagingMode.EPT4).build());
        bareLeafIsPresent.hardwarePresent |= 1L << 10;
        SpteMasks mmioIsInvisible = EptLayout.masks(builder(PagingMode.EPT4).build());
        mmioIsInvisible.mmioValue = 0;
        SpteMasks mmioTakesPresentEntries =
                NptLayout.masks(builder(PagingMode.NPT4).build());
        mmioTakesPresentEntries.mmioMask &= ~Spte.MMU_PRESENT;
        SpteMasks mmioMeetsGfn = NptLayout.masks(builder(PagingMode.NPT5).build());
        mmioMeetsGfn.physicalAddressBits = 52;

        // The kernel's marker has bit 10: with mode-based execute control that is an entry for hardware.
        SpteMasks kernelsMarker = EptLayout.masks(builder(PagingMode.EPT4)
                .hardware(HardwareConfig.DEFAULT.withModeBasedExecute(true))
                .build());
        assertEquals(0, Spte.FROZEN & kernelsMarker.hardwarePresent);
        assertTrue((0x5a0L & kernelsMarker.hardwarePresent) != 0);
        for (SpteMasks masks :
                List.of(frozenIsPresent, bareLeafIsPresent, mmioIsInvisible, mmioTakesPresentEntries, mmioMeetsGfn)) {
            assertTrue(isRefused(masks));
        }
    }

    @Test
    void wrongArgumentsAreRefusedAtDebugLevelCheck() {
        assumeTrue(Debug.CHECK);
        SpteFormat format = SpteFormat.of(builder(PagingMode.EPT4).build());
        long table = format.makeTable(TABLE);
        long forbidden = format.makeLeaf(HPA, 1, Access.READ, true, false);

        assertThrows(IllegalArgumentException.class, () -> format.makeLeaf(HPA + 8, 1, Access.ALL, true, false));
        assertThrows(IllegalArgumentException.class, () -> format.makeLeaf(HPA + 4096, 2, Access.ALL, true, false));
        assertThrows(IllegalArgumentException.class, () -> format.makeLeaf(1L << 46, 1, Access.ALL, true, false));
        assertThrows(IllegalArgumentException.class, () -> format.makeLeaf(HPA, 4, Access.ALL, true, false));
        assertThrows(IllegalArgumentException.class, () -> format.makeLeaf(HPA, 1, 0, true, false));
        assertThrows(IllegalArgumentException.class, () -> format.makeTable(TABLE + 8));
        assertThrows(IllegalArgumentException.class, () -> format.splitFirst(table, 2));
        assertThrows(IllegalArgumentException.class, () -> format.makeWritable(forbidden));
    }

    @Test
    void namesTellTheVariant() {
        assertEquals("EPT4 a/d", SpteFormat.of(builder(PagingMode.EPT4).build()).name());
        assertEquals(
                "EPT5 no a/d no x-only",
                SpteFormat.of(builder(PagingMode.EPT5)
                                .accessedDirty(AccessedDirty.OFF)
                                .executeOnly(false)
                                .build())
                        .name());
        assertEquals("NPT5 a/d", SpteFormat.of(builder(PagingMode.NPT5).build()).name());
        assertEquals(
                "EPT4 a/d xu",
                SpteFormat.of(builder(PagingMode.EPT4)
                                .hardware(HardwareConfig.DEFAULT.withModeBasedExecute(true))
                                .build())
                        .name());
        assertEquals(
                "NPT4 a/d no nx",
                SpteFormat.of(builder(PagingMode.NPT4)
                                .hardware(HardwareConfig.DEFAULT.withNoExecute(false))
                                .build())
                        .name());
    }

    private static boolean isRefused(SpteMasks masks) {
        try {
            new SpteFormat(masks);
            return false;
        } catch (IllegalArgumentException refused) {
            return true;
        }
    }

    private static boolean isEpt(VmConfig config) {
        return config.pagingMode().isEpt();
    }

    private static VmConfig.Builder builder(PagingMode mode) {
        return VmConfig.builder().pagingMode(mode);
    }

    private record Wanted(int level, int access, boolean hostWritable, boolean writeProtected) {
        boolean writes() {
            return (access & Access.WRITE) != 0;
        }

        String text(SpteFormat format, long spte) {
            return this + ": " + SpteText.describe(format, spte, level);
        }
    }

    private interface LeafCheck {
        void check(Wanted wanted, long spte);
    }

    private static void forEachLeaf(LeafCheck check, SpteFormat format) {
        for (int level = PagingLevel.L4K; level <= PagingLevel.MAX_HUGE; level++) {
            for (int access = 1; access <= Access.ALL; access++) {
                for (int flags = 0; flags < 4; flags++) {
                    var wanted = new Wanted(level, access, (flags & 1) != 0, (flags & 2) != 0);
                    check.check(
                            wanted, format.makeLeaf(HPA, level, access, wanted.hostWritable, wanted.writeProtected));
                }
            }
        }
    }
}
