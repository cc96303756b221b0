package dev.tdpmmu.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tdpmmu.config.PageSize;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine.TypeConversionException;

/** Sizes as people write them. */
final class ConvertersTest {
    @ParameterizedTest
    @CsvSource({"4096, 4096", "0, 0", "64k, 65536", "64K, 65536", "12m, 12582912", "8g, 8589934592", "1T, 1099511627776"
    })
    void sizeIsReadWithItsSuffix(String text, long bytes) {
        assertEquals(bytes, new SizeConverter().convert(text));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "g", "8 g", "8gb", "-1g", "+1", "1.5g", "0x10", "8388608t", "99999999999999999999"})
    void badSizeIsRefused(String text) {
        assertThrows(TypeConversionException.class, () -> new SizeConverter().convert(text));
    }

    @Test
    void pageSizesAreThree() {
        PageSizeConverter converter = new PageSizeConverter();

        assertEquals(PageSize.SIZE_4K, converter.convert("4k"));
        assertEquals(PageSize.SIZE_2M, converter.convert("2M"));
        assertEquals(PageSize.SIZE_1G, converter.convert("1g"));
        assertThrows(TypeConversionException.class, () -> converter.convert("4096"));
    }

    @ParameterizedTest
    @CsvSource({"64, 8", "23, 8", "16, 8", "15, 7", "8, 4", "1, 1"})
    void defaultMemoryIsAtMostHalfOfTheMachine(long machineGiB, long guestGiB) {
        assertEquals(guestGiB << 30, DefaultMemory.bytes(machineGiB << 30));
    }

    @ParameterizedTest
    @CsvSource({"0, 0 B", "1023, 1023 B", "4096, 4 KiB", "4160, 4.06 KiB", "8589934592, 8 GiB", "2199023255552, 2 TiB"})
    void bytesAreWrittenInTheirLargestUnit(long bytes, String text) {
        assertEquals(text, BootTable.bytes(bytes));
    }
}
