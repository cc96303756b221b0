package dev.tdpmmu.bench;

import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.bench.Repetitions.Figures;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.OperationLock;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.mmu.RangeKernels;
import dev.tdpmmu.mmu.RangeOperations;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.spte.SpteFormat;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Does the range operations of the native reference {@code tdp_ref} by its method, as {@link NativeComparison} does the
 * others, each in two forms:
 *
 * <ul>
 *   <li>{@code kernel}: the loop over the tables inside one hold of the lock, which is what the reference times;
 *   <li>{@code api}: the operation as a user calls it, with the lock, the roots, the yield points and the flush; for
 *       {@code zap} the removal of the slot, with its grace period.
 * </ul>
 *
 * <p>Lines have the form of {@link NativeComparison}, the form in the place of the mode. {@code zap_leaves} keeps the
 * tables and stands against the reference's {@code zap}, which frees them as {@code zap} does.
 */
@Command(
        name = "RangeComparison",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Times range operations by the method of the native reference; prints CSV.")
public final class RangeComparison implements Callable<Integer> {
    /** An operation, in the reference's words. */
    enum Operation {
        /** Takes W from every leaf. */
        WRPROT,
        /** Takes D from every leaf. */
        CLEAR_DIRTY,
        /** Takes D from one leaf in a hundred, at random; looks at all. */
        CLEAR_DIRTY_1PCT,
        /** Zaps every leaf and frees the tables. */
        ZAP,
        /** Zaps every leaf and keeps the tables. */
        ZAP_LEAVES,
        /** Splits every leaf of 2 MiB. */
        SPLIT;

        String text() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** How much of the engine is in the time. */
    enum Form {
        /** The loop over the tables. */
        KERNEL,
        /** The operation as a user calls it. */
        API;

        String text() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    @Option(
            names = "--operations",
            split = ",",
            defaultValue = "WRPROT",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Operation> operations;

    @Option(
            names = "--forms",
            split = ",",
            defaultValue = "KERNEL,API",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Form> forms;

    @Option(names = "--policy", defaultValue = "PARALLEL", description = "lock policy; default ${DEFAULT-VALUE}")
    private LockPolicy policy;

    @Option(names = "--bits", defaultValue = "18", description = "log2 of the 4 KiB pages; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(
            names = "--threads",
            defaultValue = "1",
            description = "1 or 2, each with a part of its own; default ${DEFAULT-VALUE}")
    private int threads;

    @Option(names = "--repetitions", defaultValue = "25", description = "that count; default ${DEFAULT-VALUE}")
    private int repetitions;

    @Option(names = "--warm-millis", defaultValue = "1000", description = "before them; default ${DEFAULT-VALUE}")
    private long warmMillis;

    private RangeComparison() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new RangeComparison())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        for (Operation operation : operations) {
            for (Form form : forms) {
                if (threads > 1 && operation == Operation.ZAP && form == Form.API) {
                    System.err.println("# zap api: one thread only, a slot is removed as a whole");
                } else {
                    measure(operation, form);
                }
            }
        }
        return 0;
    }

    private void measure(Operation operation, Form form) {
        try (Run run = new Run(operation, form)) {
            double count =
                    operation == Operation.SPLIT ? (double) run.pages / PagingLevel.pages(PagingLevel.L2M) : run.pages;
            Figures figures = new Repetitions(threads).measure(run, true, count / threads, repetitions, warmMillis);
            System.out.printf(
                    Locale.ROOT,
                    "Java,%s,%s,%d,%d,%.2f,%.2f,%.2f,%d,%d%n",
                    operation.text(),
                    form.text(),
                    threads,
                    bits,
                    figures.median(),
                    figures.min(),
                    figures.max(),
                    run.tableBytes(),
                    figures.clean());
            System.err.printf(
                    Locale.ROOT,
                    "# %s %s, %d threads: %.4f bytes of heap an operation%n",
                    operation.text(),
                    form.text(),
                    threads,
                    figures.bytes());
        }
    }

    /** One operation in one form, on a VM whose entries each preparation makes what the operation expects. */
    private final class Run implements Repetitions.Trial, AutoCloseable {
        private static final long PERCENT = 100;

        private final Operation operation;
        private final Form form;
        private final long pages = 1L << bits;
        private final RangeKernels[] kernels = new RangeKernels[threads];

        /** Leaves with D in the part of each thread, where only some have it. */
        private final long[] dirty = new long[threads];

        private BenchVm bench;

        /** Leaf of frame 0 as a guest leaves it that has stored to it. */
        private long firstSpte;

        Run(Operation operation, Form form) {
            this.operation = operation;
            this.form = form;
        }

        @Override
        public void prepare() {
            if (bench == null) {
                bench = open();
                populate();
            } else if (operation == Operation.SPLIT || operation == Operation.ZAP) {
                if (form == Form.API && operation == Operation.ZAP) {
                    bench.addSlot();
                }
                bench.empty();
                populate();
            }
            if (operation == Operation.SPLIT) {
                return;
            }
            SpteFormat format = bench.vm().mmu().format();
            if (firstSpte == 0) {
                firstSpte = kernels[0].leaf(0) | format.accessedBit() | format.dirtyBit();
            }
            boolean absent =
                    operation == Operation.ZAP_LEAVES && bench.vm().stats().pages4k() == 0;
            kernels[0].fill(firstSpte, 0, pages, absent);
            if (operation == Operation.CLEAR_DIRTY_1PCT) {
                for (int i = 0; i < threads; i++) {
                    dirty[i] = cleanMost(pages / threads * i, pages / threads * (i + 1), format.dirtyBit());
                }
            }
        }

        private long cleanMost(long start, long end, long dirtyBit) {
            long left = 0;
            for (long gfn = start; gfn < end; gfn++) {
                if (Work.mix(gfn, bits) % PERCENT != 0) {
                    kernels[0].clearBits(gfn, dirtyBit);
                } else {
                    left++;
                }
            }
            return left;
        }

        private BenchVm open() {
            return operation == Operation.SPLIT
                    ? BenchVm.of(
                            BenchVm.config(policy).hugePages(PageSize.SIZE_2M).build(),
                            pages,
                            Backing.synthetic(PageSize.SIZE_2M))
                    : BenchVm.synthetic(policy, pages);
        }

        private void populate() {
            for (int i = 0; i < threads; i++) {
                VcpuMmu vcpu = bench.newVcpu();
                kernels[i] = new RangeKernels(bench.vm().mmu(), vcpu);
            }
            bench.populate(operation == Operation.SPLIT ? PagingLevel.pages(PagingLevel.L2M) : 1);
        }

        @Override
        public long run(int thread) {
            long start = pages / threads * thread;
            long end = pages / threads * (thread + 1);
            long done = form == Form.KERNEL ? kernel(kernels[thread], start, end) : api(start, end);
            long expected = expected(thread, end - start);
            if (done != expected) {
                throw new IllegalStateException("not everything was done: operation=" + operation + ", form=" + form
                        + ", done=" + done + ", expected=" + expected);
            }
            return done;
        }

        private long kernel(RangeKernels loops, long start, long end) {
            return switch (operation) {
                case WRPROT -> loops.writeProtect(start, end);
                case CLEAR_DIRTY, CLEAR_DIRTY_1PCT -> loops.clearDirty(start, end);
                case ZAP -> loops.zapTables(start, end);
                case ZAP_LEAVES -> loops.zapLeaves(start, end);
                case SPLIT -> loops.split(start, end);
            };
        }

        private long api(long start, long end) {
            RangeOperations ranges = bench.vm().mmu().ranges();
            return switch (operation) {
                case WRPROT -> ranges.writeProtect(start, end) ? 1 : 0;
                case CLEAR_DIRTY, CLEAR_DIRTY_1PCT -> ranges.clearDirty(start, end);
                case ZAP -> {
                    bench.removeSlot();
                    yield end - start;
                }
                case ZAP_LEAVES -> ranges.unmap(start, end, OperationLock.EXCLUSIVE, true);
                case SPLIT -> ranges.split(start, end, PagingLevel.L4K);
            };
        }

        private long expected(int thread, long part) {
            return switch (operation) {
                case WRPROT -> form == Form.API ? 1 : part / PagingLevel.pages(PagingLevel.L2M);
                case CLEAR_DIRTY, ZAP, ZAP_LEAVES -> part;
                case CLEAR_DIRTY_1PCT -> dirty[thread];
                case SPLIT -> part / PagingLevel.pages(PagingLevel.L2M);
            };
        }

        long tableBytes() {
            return bench.vm().stats().tableBytes();
        }

        @Override
        public void close() {
            if (bench != null) {
                bench.close();
            }
        }
    }
}
