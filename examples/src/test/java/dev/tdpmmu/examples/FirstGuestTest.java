package dev.tdpmmu.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** The first example prints what the README promises. */
final class FirstGuestTest {
    @Test
    void printsOneLineThatIsAlwaysTheSame() {
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream console = System.out;
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));

        try {
            FirstGuest.main(new String[0]);
        } finally {
            System.setOut(console);
        }

        assertEquals(
                "answer=42, faults=1, pages4k=1, tablePages=4" + System.lineSeparator(),
                printed.toString(StandardCharsets.UTF_8));
    }
}
