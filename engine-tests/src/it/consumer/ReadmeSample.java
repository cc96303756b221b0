import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Takes the first Java sample and the output promised right after it out of the README, and holds the one against the
 * other. The compiler runs in between, as in any project that embeds the engine.
 */
final class ReadmeSample {
    private static final Pattern FIRST_SAMPLE = Pattern.compile(
            "^```java\\n(?<source>.*?)^```\\n\\s*^```text\\n(?<output>.*?)^```", Pattern.MULTILINE | Pattern.DOTALL);
    private static final Pattern MAIN_CLASS = Pattern.compile("^public (?:final )?class (\\w+)", Pattern.MULTILINE);

    private ReadmeSample() {}

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "extract" -> extract(Path.of(args[1]), Path.of(args[2]));
            case "run" -> run(Path.of(args[1]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void extract(Path readme, Path sample) throws IOException {
        String text = Files.readString(readme).replace("\r\n", "\n");
        Matcher block = FIRST_SAMPLE.matcher(text);
        if (!block.find() || block.start() != text.indexOf("```java\n")) {
            throw new IllegalStateException(
                    "README: the first ```java block must be followed by its output, a ```text block");
        }
        String source = block.group("source");
        Matcher mainClass = MAIN_CLASS.matcher(source);
        if (!mainClass.find()) {
            throw new IllegalStateException("README: the first ```java block declares no public class");
        }
        Path java = Files.createDirectories(sample.resolve("java"));
        Files.writeString(java.resolve(mainClass.group(1) + ".java"), source);
        Files.writeString(sample.resolve("main-class"), mainClass.group(1));
        Files.writeString(sample.resolve("output"), block.group("output"));
    }

    private static void run(Path sample) throws Exception {
        String mainClass = Files.readString(sample.resolve("main-class"));
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream console = System.out;
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try {
            Class.forName(mainClass).getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } finally {
            System.setOut(console);
        }
        String expected = Files.readString(sample.resolve("output")).strip();
        String actual = printed.toString(StandardCharsets.UTF_8)
                .replace(System.lineSeparator(), "\n")
                .strip();
        if (!actual.equals(expected)) {
            throw new AssertionError(
                    "%s printed%n%s%nbut the README promises%n%s".formatted(mainClass, actual, expected));
        }
        System.out.println("README: " + mainClass + " printed what the README promises: " + actual);
    }
}
