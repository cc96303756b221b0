package dev.tdpmmu.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;

final class VmConfigTest {
    @Test
    void standardValuesMakeAVm() {
        VmConfig config = VmConfig.builder().build();

        assertEquals(PagingMode.EPT4, config.pagingMode());
        assertEquals(LockPolicy.PARALLEL, config.lockPolicy());
        assertEquals(AccessedDirty.ON, config.accessedDirty());
        assertEquals(46, config.physicalAddressBits());
        assertEquals(Long.MAX_VALUE, config.memoryCapInBytes());
        assertEquals(PageSize.SIZE_1G, config.hugePages());
        assertEquals(65_536, config.maxVcpus());
    }

    @Test
    void builderPassesEveryValueOn() {
        VmConfig config = VmConfig.builder()
                .pagingMode(PagingMode.EPT5)
                .lockPolicy(LockPolicy.STAMPED)
                .accessedDirty(AccessedDirty.OFF)
                .executeOnly(false)
                .physicalAddressBits(48)
                .memoryCapInBytes(12_345)
                .maxVcpus(17)
                .maxRetiredPages(18)
                .stallTimeout(Duration.ofMillis(19))
                .backgroundReclaim(false)
                .fastFix(false)
                .mmioCaching(false)
                .hugePages(PageSize.SIZE_2M)
                .name("guest")
                .build();

        assertEquals(PagingMode.EPT5, config.pagingMode());
        assertEquals(LockPolicy.STAMPED, config.lockPolicy());
        assertEquals(AccessedDirty.OFF, config.accessedDirty());
        assertFalse(config.executeOnly());
        assertEquals(48, config.physicalAddressBits());
        assertEquals(12_345, config.memoryCapInBytes());
        assertEquals(17, config.maxVcpus());
        assertEquals(18, config.maxRetiredPages());
        assertEquals(Duration.ofMillis(19), config.stallTimeout());
        assertFalse(config.backgroundReclaim());
        assertFalse(config.fastFix());
        assertFalse(config.mmioCaching());
        assertEquals(PageSize.SIZE_2M, config.hugePages());
        assertEquals("guest", config.name());
    }

    @Test
    void limitsAreAcceptedAndWhatLiesBeyondIsRefused() {
        assertEquals(36, VmConfig.builder().physicalAddressBits(36).build().physicalAddressBits());
        assertEquals(52, VmConfig.builder().physicalAddressBits(52).build().physicalAddressBits());
        assertRefused(
                "physicalAddressBits is out of range: physicalAddressBits=35, min=36, max=52",
                () -> VmConfig.builder().physicalAddressBits(35).build());
        assertRefused(
                "physicalAddressBits is out of range: physicalAddressBits=53, min=36, max=52",
                () -> VmConfig.builder().physicalAddressBits(53).build());
        assertRefused(
                "physicalAddressBits is out of range: physicalAddressBits=0, min=36, max=52",
                () -> VmConfig.builder().physicalAddressBits(0).build());

        assertEquals(1, VmConfig.builder().memoryCapInBytes(1).build().memoryCapInBytes());
        assertRefused(
                "memoryCapInBytes is out of range: memoryCapInBytes=0, min=1, max=9223372036854775807",
                () -> VmConfig.builder().memoryCapInBytes(0).build());
        assertRefused(
                "memoryCapInBytes is out of range: memoryCapInBytes=-1, min=1",
                () -> VmConfig.builder().memoryCapInBytes(-1).build());

        assertEquals(1, VmConfig.builder().maxVcpus(1).build().maxVcpus());
        assertEquals(65_536, VmConfig.builder().maxVcpus(65_536).build().maxVcpus());
        assertRefused(
                "maxVcpus is out of range: maxVcpus=0, min=1, max=65536",
                () -> VmConfig.builder().maxVcpus(0).build());
        assertRefused(
                "maxVcpus is out of range: maxVcpus=65537, min=1, max=65536",
                () -> VmConfig.builder().maxVcpus(65_537).build());
        assertRefused("maxVcpus=-1", () -> VmConfig.builder().maxVcpus(-1).build());

        assertEquals(1, VmConfig.builder().maxRetiredPages(1).build().maxRetiredPages());
        assertRefused(
                "maxRetiredPages is out of range: maxRetiredPages=0, min=1, max=2147483647",
                () -> VmConfig.builder().maxRetiredPages(0).build());
        assertRefused(
                "maxRetiredPages=-5",
                () -> VmConfig.builder().maxRetiredPages(-5).build());

        assertRefused(
                "stall timeout is not positive: stallTimeout=PT0S",
                () -> VmConfig.builder().stallTimeout(Duration.ZERO).build());
        assertRefused(
                "stall timeout is not positive: stallTimeout=PT-1S",
                () -> VmConfig.builder().stallTimeout(Duration.ofSeconds(-1)).build());

        assertRefused(
                "name is blank: name=' '", () -> VmConfig.builder().name(" ").build());
    }

    private static void assertRefused(String text, Supplier<VmConfig> making) {
        IllegalArgumentException refusal = assertThrows(IllegalArgumentException.class, making::get);
        assertTrue(
                refusal.getMessage().startsWith(text) || refusal.getMessage().contains(" " + text),
                refusal::getMessage);
    }

    @Test
    void nptWithoutAccessedAndDirtyBitsIsRefused() {
        for (PagingMode mode : PagingMode.values()) {
            VmConfig.Builder builder = VmConfig.builder().pagingMode(mode).accessedDirty(AccessedDirty.OFF);

            if (mode.isEpt()) {
                assertEquals(AccessedDirty.OFF, builder.build().accessedDirty());
            } else {
                assertRefused("pagingMode=" + mode + ", accessedDirty=OFF", builder::build);
            }
        }
    }

    @Test
    void nullIsRefusedByName() {
        assertNullNamed("pagingMode", () -> VmConfig.builder().pagingMode(null).build());
        assertNullNamed("lockPolicy", () -> VmConfig.builder().lockPolicy(null).build());
        assertNullNamed(
                "accessedDirty", () -> VmConfig.builder().accessedDirty(null).build());
        assertNullNamed(
                "stallTimeout", () -> VmConfig.builder().stallTimeout(null).build());
        assertNullNamed("hugePages", () -> VmConfig.builder().hugePages(null).build());
        assertNullNamed("name", () -> VmConfig.builder().name(null).build());
    }

    private static void assertNullNamed(String name, Supplier<VmConfig> making) {
        NullPointerException refusal = assertThrows(NullPointerException.class, making::get);
        assertEquals(name, refusal.getMessage());
    }

    @Test
    void guestAddressesEndWhereWidthOrTablesEnd() {
        assertEquals(1L << 46, limit(PagingMode.EPT4, 46));
        assertEquals(1L << 48, limit(PagingMode.EPT4, 48));
        assertEquals(1L << 48, limit(PagingMode.NPT4, 52));
        assertEquals(1L << 36, limit(PagingMode.EPT5, 36));
        assertEquals(1L << 52, limit(PagingMode.NPT5, 52));
    }

    private static long limit(PagingMode mode, int bits) {
        return VmConfig.builder()
                .pagingMode(mode)
                .physicalAddressBits(bits)
                .build()
                .guestAddressLimit();
    }

    @Test
    void standardWidthFollowsTheLevels() {
        assertEquals(46, VmConfig.builder().pagingMode(PagingMode.NPT4).build().physicalAddressBits());
        assertEquals(51, VmConfig.builder().pagingMode(PagingMode.NPT5).build().physicalAddressBits());
    }

    @Test
    void pageSizesAgreeWithTheirLevels() {
        for (PageSize size : PageSize.values()) {
            assertEquals(4096L << 9 * (size.level() - 1), size.bytes());
        }
    }
}
