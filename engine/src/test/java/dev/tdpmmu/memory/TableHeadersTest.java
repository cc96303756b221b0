package dev.tdpmmu.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class TableHeadersTest {
    private static final int VM = 0x7fff_fff0;

    private final TablePool pool = new TablePool(VM, new MemoryAccount(1L << 30));
    private final long table = pool.take();
    private final long neighbour = pool.take();

    @AfterEach
    void closePool() {
        pool.give(table);
        pool.give(neighbour);
        pool.close();
    }

    @Test
    void descriptionIsReadBackAndNeighboursStayAsTheyWere() {
        long gfn = (1L << 45) - 512;
        long parent = neighbour + 4088;
        long neighboursLink = TableHeaders.nextRetired(neighbour);

        TableHeaders.describe(table, gfn, 5, parent);

        assertEquals(gfn, TableHeaders.gfn(table));
        assertEquals(5, TableHeaders.level(table));
        assertEquals(parent, TableHeaders.parentSpteAddress(table));
        assertEquals(TableHeaders.LINKED, TableHeaders.state(table));
        assertEquals(VM, TableHeaders.owner(table));
        assertEquals(TableHeaders.CACHED, TableHeaders.state(neighbour));
        assertEquals(VM, TableHeaders.owner(neighbour));
        assertEquals(neighboursLink, TableHeaders.nextRetired(neighbour));
        assertEquals(0, TableHeaders.gfn(neighbour));
        assertEquals(0, TableHeaders.parentSpteAddress(neighbour));
    }

    @Test
    void laterDescriptionReplacesTheEarlierOne() {
        TableHeaders.describe(table, 512, 4, neighbour);

        TableHeaders.describe(table, 1024, 1, 0);

        assertEquals(1024, TableHeaders.gfn(table));
        assertEquals(1, TableHeaders.level(table));
        assertEquals(0, TableHeaders.parentSpteAddress(table));
        assertEquals(VM, TableHeaders.owner(table));
    }

    @Test
    void retiredTablesFormAChain() {
        TableHeaders.describe(table, 0, 3, 0);

        TableHeaders.retire(neighbour, 0);
        TableHeaders.retire(table, neighbour);

        assertEquals(TableHeaders.RETIRED, TableHeaders.state(table));
        assertEquals(TableHeaders.RETIRED, TableHeaders.state(neighbour));
        assertEquals(neighbour, TableHeaders.nextRetired(table));
        assertEquals(0, TableHeaders.nextRetired(neighbour));
        assertEquals(3, TableHeaders.level(table));
    }

    @Test
    void headerIsNoPartOfThePage() {
        SpteAccess.fillPlain(table, -1);

        assertEquals(TableHeaders.CACHED, TableHeaders.state(table));
        assertEquals(VM, TableHeaders.owner(table));
    }
}
