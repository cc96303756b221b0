package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.memory.MemoryAccount;
import dev.tdpmmu.memory.SpteAccess;
import dev.tdpmmu.memory.TablePool;

/** One path of tables from the root to level 1 for one guest physical address, whose entries a test sets bit by bit. */
final class HandMadeTables implements AutoCloseable {
    private final TablePool pool = new TablePool(1, new MemoryAccount(Long.MAX_VALUE));
    private final long[] tables = new long[6];
    private final int levels;
    private final long gpa;
    private final long tableBits;

    /** Links each table to the next one with the given bits; the entry of level 1 is 0. */
    HandMadeTables(int levels, long gpa, long tableBits) {
        this.levels = levels;
        this.gpa = gpa;
        this.tableBits = tableBits;
        for (int level = 1; level <= levels; level++) {
            tables[level] = pool.take();
            if (level > 1) {
                relink(level);
            }
        }
    }

    long root() {
        return tables[levels];
    }

    long table(int level) {
        return tables[level];
    }

    /** Makes the entry of a level point to the table below, as it did at the start. */
    void relink(int level) {
        set(level, tables[level - 1] | tableBits);
    }

    void set(int level, long spte) {
        SpteAccess.setPlain(addressOf(level), spte);
    }

    long get(int level) {
        return SpteAccess.readPlain(addressOf(level));
    }

    long addressOf(int level) {
        return SpteAccess.addressOf(tables[level], Gfn.of(gpa), level);
    }

    @Override
    public void close() {
        for (int level = 1; level <= levels; level++) {
            pool.give(tables[level]);
        }
        pool.close();
    }
}
