package dev.tdpmmu.bench.perf;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Reads a number of bytes such as 64m. */
final class SizeConverter implements ITypeConverter<Long> {
    private static final Pattern SIZE = Pattern.compile("(\\d{1,18})([kmgtKMGT]?)");
    private static final String SUFFIXES = "kmgt";

    @Override
    public Long convert(String text) {
        Matcher size = SIZE.matcher(text);
        if (!size.matches()) {
            throw new TypeConversionException("'" + text + "' is no size: a number, then nothing or k, m, g or t");
        }
        long number = Long.parseLong(size.group(1));
        String suffix = size.group(2).toLowerCase(Locale.ROOT);
        int shift = suffix.isEmpty() ? 0 : 10 * (SUFFIXES.indexOf(suffix) + 1);
        if (number > Long.MAX_VALUE >> shift) {
            throw new TypeConversionException("'" + text + "' is too large: max=" + Long.MAX_VALUE + " bytes");
        }
        return number << shift;
    }
}
