package dev.tdpmmu.base;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

final class AccessTest {
    @Test
    void textShowsWhatIsThereAndWhatIsMissing() {
        assertEquals("---", Access.text(0));
        assertEquals("r-x", Access.text(Access.READ | Access.EXECUTE));
        assertEquals("-w-", Access.text(Access.WRITE));
        assertEquals("rwx", Access.text(Access.ALL));
    }
}
