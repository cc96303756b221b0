package dev.tdpmmu.hardware;

import static dev.tdpmmu.hardware.GuestPagingModel.ENTRY_FLAGS;
import static dev.tdpmmu.hardware.GuestPagingModel.NO_GIGABYTE_PAGES;
import static dev.tdpmmu.hardware.GuestPagingModel.NXE;
import static dev.tdpmmu.hardware.GuestPagingModel.PAGE_SIZE;
import static dev.tdpmmu.hardware.GuestPagingModel.PRESENT;
import static dev.tdpmmu.hardware.GuestPagingModel.SITUATION_FLAGS;
import static dev.tdpmmu.hardware.GuestPagingModel.USER;
import static dev.tdpmmu.hardware.GuestPagingModel.WRITABLE;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;

/**
 * All combinations of the flags of three entries, of an access and of the processor that the {@link GuestPagingRule}s
 * admit for one {@link GuestPagingShape}.
 *
 * <p>A combination is two words: the entries, packed by {@link #pack}, and the situation. Which entries are legal
 * depends on the situation by two of its flags alone, so the matrix is four products.
 */
final class GuestPagingMatrix {
    /** Flags of an entry that forbids nothing. */
    static final int PLAIN = PRESENT | WRITABLE | USER;

    /** Situations, and the entries that are legal in each of them. */
    record Part(int[] entries, int[] situations) {
        long count() {
            return (long) entries.length * situations.length;
        }
    }

    private static final GuestPagingMatrix[] MATRICES = new GuestPagingMatrix[GuestPagingShape.values().length];

    private final GuestPagingShape shape;
    private final List<Part> parts = new ArrayList<>();

    /** The matrix of a shape. It takes a while to make, so there is one for all. */
    static synchronized GuestPagingMatrix of(GuestPagingShape shape) {
        if (MATRICES[shape.ordinal()] == null) {
            MATRICES[shape.ordinal()] = new GuestPagingMatrix(shape);
        }
        return MATRICES[shape.ordinal()];
    }

    private GuestPagingMatrix(GuestPagingShape shape) {
        this.shape = shape;
        int plainLeaf = plainLeaf(shape);
        int[] leaves = entriesThat(leaf -> isLegal(shape, leaf, PLAIN, PLAIN, NXE));
        int[] tables = entriesThat(table -> isLegal(shape, plainLeaf, table, PLAIN, NXE));
        int[] uppers = entriesThat(upper -> isLegal(shape, plainLeaf, PLAIN, upper, NXE));
        for (int kind : new int[] {0, NXE, NO_GIGABYTE_PAGES, NXE | NO_GIGABYTE_PAGES}) {
            int[] situations = IntStream.range(0, 1 << SITUATION_FLAGS)
                    .filter(situation -> (situation & (NXE | NO_GIGABYTE_PAGES)) == kind)
                    .filter(situation -> isLegal(shape, plainLeaf, PLAIN, PLAIN, situation))
                    .toArray();
            if (situations.length > 0) {
                parts.add(new Part(legalEntries(leaves, tables, uppers, kind), situations));
            }
        }
    }

    /** Each combination is legal if its entries are so with a plain rest, which makes the product small. */
    private int[] legalEntries(int[] leaves, int[] tables, int[] uppers, int situation) {
        var legal = IntStream.builder();
        for (int upper : uppers) {
            for (int table : tables) {
                for (int leaf : leaves) {
                    if (isLegal(shape, leaf, table, upper, situation)) {
                        legal.add(pack(leaf, table, upper));
                    }
                }
            }
        }
        return legal.build().toArray();
    }

    private static int[] entriesThat(IntPredicate isLegal) {
        return IntStream.range(0, 1 << ENTRY_FLAGS).filter(isLegal).toArray();
    }

    static int plainLeaf(GuestPagingShape shape) {
        return shape.leafLevel > 1 ? PLAIN | PAGE_SIZE : PLAIN;
    }

    static boolean isLegal(GuestPagingShape shape, int leaf, int table, int upper, int situation) {
        for (GuestPagingRule rule : GuestPagingRule.values()) {
            if (!rule.allows(shape, leaf, table, upper, situation)) {
                return false;
            }
        }
        return true;
    }

    /** One word of the flags of three entries; those of the upper one are its first six. */
    static int pack(int leaf, int table, int upper) {
        return leaf | table << ENTRY_FLAGS | upper << 2 * ENTRY_FLAGS;
    }

    static int leafOf(int entries) {
        return entries & (1 << ENTRY_FLAGS) - 1;
    }

    static int tableOf(int entries) {
        return entries >>> ENTRY_FLAGS & (1 << ENTRY_FLAGS) - 1;
    }

    static int upperOf(int entries) {
        return entries >>> 2 * ENTRY_FLAGS;
    }

    List<Part> parts() {
        return parts;
    }

    long count() {
        return parts.stream().mapToLong(Part::count).sum();
    }
}
