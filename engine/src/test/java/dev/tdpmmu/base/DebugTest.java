package dev.tdpmmu.base;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

final class DebugTest {
    /** Prints the level of its process. */
    static final class PrintLevel {
        public static void main(String[] arguments) {
            System.out.print(Debug.LEVEL + " " + Debug.CHECK + " " + Debug.PROVE);
        }
    }

    @Test
    void everyLevelIncludesTheWeakerOnes() throws Exception {
        ForkedJava.Result standard = ForkedJava.run(List.of(), PrintLevel.class);
        ForkedJava.Result check = ForkedJava.run(List.of("-Dtdpmmu.debug=check"), PrintLevel.class);
        ForkedJava.Result prove = ForkedJava.run(List.of("-Dtdpmmu.debug=Prove"), PrintLevel.class);

        assertEquals("OFF false false", standard.out());
        assertEquals("CHECK true false", check.out());
        assertEquals("PROVE true true", prove.out());
    }

    @Test
    void unknownLevelIsRefusedWithTheKnownOnes() throws Exception {
        ForkedJava.Result result = ForkedJava.run(List.of("-Dtdpmmu.debug=all"), PrintLevel.class);

        assertNotEquals(0, result.exitCode());
        assertTrue(
                result.err().contains("unknown debug level: tdpmmu.debug=all, expected=off|check|prove"), result::err);
    }
}
