package dev.tdpmmu.bench.perf;

import dev.tdpmmu.config.PageSize;
import java.util.Locale;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Reads a page size such as 2m. */
final class PageSizeConverter implements ITypeConverter<PageSize> {
    @Override
    public PageSize convert(String text) {
        return switch (text.toLowerCase(Locale.ROOT)) {
            case "4k" -> PageSize.SIZE_4K;
            case "2m" -> PageSize.SIZE_2M;
            case "1g" -> PageSize.SIZE_1G;
            default -> throw new TypeConversionException("'" + text + "' is no page size: expected one of 4k, 2m, 1g");
        };
    }
}
