package dev.tdpmmu.testkit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.HashSet;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Seeds repeat, and differ from part to part. */
final class SeedsTest {
    @Test
    void subSeedsRepeatAndDiffer() {
        Set<Long> seen = new HashSet<>();

        for (long seed = 0; seed < 10; seed++) {
            for (long part = 0; part < 1_000; part++) {
                seen.add(Seeds.of(seed).derive(part));
            }
            seen.add(Seeds.of(seed).derive("writer"));
            seen.add(Seeds.of(seed).derive("reader"));
        }

        assertEquals(10 * 1_002, seen.size());
        assertEquals(Seeds.of(7).derive("writer"), Seeds.of(7).derive("writer"));
        assertEquals(Seeds.of(7).random(3).nextLong(), Seeds.of(7).random(3).nextLong());
    }

    @Test
    void propertySetsTheSeed() {
        String before = System.getProperty(Seeds.PROPERTY);
        try {
            System.setProperty(Seeds.PROPERTY, "-42");
            assertEquals(-42, Seeds.announce("propertySetsTheSeed").seed());

            System.setProperty(Seeds.PROPERTY, "abc");
            assertThrows(IllegalArgumentException.class, () -> Seeds.announce("propertySetsTheSeed"));
        } finally {
            if (before == null) {
                System.clearProperty(Seeds.PROPERTY);
            } else {
                System.setProperty(Seeds.PROPERTY, before);
            }
        }
    }
}
