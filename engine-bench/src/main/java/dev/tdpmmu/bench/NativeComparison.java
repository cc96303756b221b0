package dev.tdpmmu.bench;

import dev.tdpmmu.bench.Repetitions.Figures;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.hardware.WalkResult;
import dev.tdpmmu.mmu.FaultHandler;
import dev.tdpmmu.mmu.FaultResult;
import dev.tdpmmu.mmu.TdpRoot;
import dev.tdpmmu.mmu.TdpWalk;
import dev.tdpmmu.mmu.VcpuMmu;
import dev.tdpmmu.slot.MemSlot;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Does what the native reference {@code tdp_ref} does, by its method, with the real engine: the same operations on the
 * same pages in the same order, table pages touched before, a new VM for each repetition of a fault, preempted
 * repetitions thrown away. It prints lines of the same form:
 *
 * <pre>
 * Java,&lt;operation&gt;,&lt;mode&gt;,&lt;threads&gt;,&lt;log2 pages&gt;,&lt;median ns&gt;,&lt;min&gt;,&lt;max&gt;,&lt;table bytes&gt;,&lt;clean repetitions&gt;
 * </pre>
 *
 * <p>A time is that of one operation of a thread. Table bytes contain the headers. Use one operation for each process:
 * the compiler's view of a loop depends on what ran before. {@code scripts/compare.sh} alternates both in rounds and
 * prints a table.
 */
@Command(
        name = "NativeComparison",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Times the engine by the method of the native reference; prints CSV.")
public final class NativeComparison implements Callable<Integer> {
    private static final long LEAVES_OF_TABLE = 512;

    /** An operation, in the reference's words. */
    enum Operation {
        /** Faults on neighbours, each thread in a part of its own. */
        FAULT_SEQ(true),
        /** Faults on random pages; threads share tables. */
        FAULT_RAND(true),
        /** Faults in turn with the other threads; threads share cache lines. */
        FAULT_INTERLEAVED(true),
        /** Faults that each link a table. */
        FAULT_SPARSE(true),
        /** Translations of neighbours. */
        XLATE_SEQ(false),
        /** Translations of random pages. */
        XLATE_RAND(false);

        final boolean isFault;

        Operation(boolean isFault) {
            this.isFault = isFault;
        }

        String text() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** What surrounds an operation, in the reference's words. */
    enum Mode {
        /** Nothing; translations only, since a fault without lock and epoch does not exist here. */
        NONE("none", LockPolicy.PARALLEL),
        /** The emulated hardware walks, not the MMU; translations only. */
        HARDWARE("hardware", LockPolicy.PARALLEL),
        /** One reader slot is lock and epoch. */
        MERGED("merged_lock_rcu", LockPolicy.PARALLEL),
        /** A lock taken shared, and an epoch. */
        STAMPED("pthread_rwlock+rcu", LockPolicy.STAMPED),
        /** A lock taken exclusively. */
        EXCLUSIVE("mutex", LockPolicy.EXCLUSIVE);

        final String text;
        final LockPolicy policy;

        Mode(String text, LockPolicy policy) {
            this.text = text;
            this.policy = policy;
        }
    }

    @Option(
            names = "--operations",
            split = ",",
            defaultValue = "FAULT_SEQ",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Operation> operations;

    @Option(
            names = "--modes",
            split = ",",
            defaultValue = "MERGED",
            description = "of ${COMPLETION-CANDIDATES}; default ${DEFAULT-VALUE}")
    private List<Mode> modes;

    @Option(names = "--bits", defaultValue = "18", description = "log2 of the 4 KiB pages; default ${DEFAULT-VALUE}")
    private int bits;

    @Option(names = "--threads", defaultValue = "1", description = "1 or 2; default ${DEFAULT-VALUE}")
    private int threads;

    @Option(names = "--repetitions", defaultValue = "25", description = "that count; default ${DEFAULT-VALUE}")
    private int repetitions;

    @Option(names = "--warm-millis", defaultValue = "1000", description = "before them; default ${DEFAULT-VALUE}")
    private long warmMillis;

    private NativeComparison() {}

    /**
     * Runs the program.
     *
     * @param args see {@code --help}
     */
    public static void main(String[] args) {
        System.exit(new CommandLine(new NativeComparison())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args));
    }

    @Override
    public Integer call() {
        BenchGuard.check();
        for (Operation operation : operations) {
            for (Mode mode : modes) {
                if (!operation.isFault || mode != Mode.NONE && mode != Mode.HARDWARE) {
                    measure(operation, mode);
                }
            }
        }
        return 0;
    }

    private void measure(Operation operation, Mode mode) {
        try (Run run = new Run(operation, mode)) {
            double pages = operation == Operation.FAULT_SPARSE ? run.pages / (double) LEAVES_OF_TABLE : run.pages;
            Figures figures =
                    new Repetitions(threads).measure(run, operation.isFault, pages / threads, repetitions, warmMillis);
            System.out.printf(
                    Locale.ROOT,
                    "Java,%s,%s,%d,%d,%.2f,%.2f,%.2f,%d,%d%n",
                    operation.text(),
                    mode.text,
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
                    mode.text,
                    threads,
                    figures.bytes());
        }
    }

    /** One operation in one mode, on a VM that is emptied by each preparation. */
    private final class Run implements Repetitions.Trial, AutoCloseable {
        private final Operation operation;
        private final Mode mode;
        private final long pages = 1L << bits;
        private final VcpuMmu[] vcpus = new VcpuMmu[threads];
        private BenchVm bench;

        Run(Operation operation, Mode mode) {
            this.operation = operation;
            this.mode = mode;
        }

        @Override
        public void prepare() {
            if (bench == null) {
                bench = BenchVm.synthetic(mode.policy, pages);
            } else {
                bench.empty();
            }
            for (int i = 0; i < threads; i++) {
                vcpus[i] = bench.newVcpu();
            }
            if (!operation.isFault) {
                bench.populate(1);
            }
        }

        @Override
        public long run(int thread) {
            long start = pages / threads * thread;
            long end = pages / threads * (thread + 1);
            return operation.isFault ? fault(thread, start, end) : translate(thread, start, end);
        }

        private long fault(int thread, long start, long end) {
            FaultHandler faults = bench.vm().mmu().faults();
            VcpuMmu vcpu = vcpus[thread];
            MemSlot slot = bench.slot();
            long installed = switch (operation) {
                case FAULT_RAND -> Work.faultRandom(faults, vcpu, slot, start, end, bits);
                case FAULT_INTERLEAVED -> Work.faultStrided(faults, vcpu, slot, thread, pages, threads);
                case FAULT_SPARSE -> Work.faultStrided(faults, vcpu, slot, start, end, LEAVES_OF_TABLE);
                default -> Work.faultStrided(faults, vcpu, slot, start, end, 1);
            };
            long expected = operation == Operation.FAULT_SPARSE ? (end - start) / LEAVES_OF_TABLE : end - start;
            if (installed != expected) {
                throw new IllegalStateException("not every fault was " + FaultResult.FIXED + ": installed=" + installed
                        + ", expected=" + expected);
            }
            return installed;
        }

        /** Leaves have A after the first repetition, so that no later one changes an entry. */
        private long walk(int thread, long start, long end) {
            HardwareWalker walker = HardwareWalker.of(bench.vm().config());
            long rootPointer = walker.makeRootPointer(vcpus[thread].root().hpa());
            Tlb tlb = new Tlb();
            WalkResult result = new WalkResult();
            return operation == Operation.XLATE_SEQ
                    ? Work.walkSequential(walker, tlb, rootPointer, result, start, end)
                    : Work.walkRandom(walker, tlb, rootPointer, result, start, end, bits);
        }

        private long translate(int thread, long start, long end) {
            if (mode == Mode.HARDWARE) {
                return walk(thread, start, end);
            }
            TdpWalk walk = bench.vm().mmu().walk();
            TdpRoot root = vcpus[thread].root();
            ReaderSlot slot = vcpus[thread].slot();
            if (operation == Operation.XLATE_SEQ) {
                return mode == Mode.NONE
                        ? Work.translateSequential(walk, root, start, end)
                        : Work.translateSequentialInSections(walk, root, slot, start, end);
            }
            return mode == Mode.NONE
                    ? Work.translateRandom(walk, root, start, end, bits)
                    : Work.translateRandomInSections(walk, root, slot, start, end, bits);
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
