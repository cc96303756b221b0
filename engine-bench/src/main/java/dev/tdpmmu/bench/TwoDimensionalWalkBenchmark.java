package dev.tdpmmu.bench;

import dev.tdpmmu.GuestLinear;
import dev.tdpmmu.GuestTables;
import dev.tdpmmu.Vcpu;
import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.hardware.GuestPageEntry;
import dev.tdpmmu.hardware.GuestPageWalker;
import dev.tdpmmu.hardware.GuestPaging;
import dev.tdpmmu.hardware.HardwareWalker;
import dev.tdpmmu.hardware.LinearResult;
import dev.tdpmmu.hardware.LinearTlb;
import dev.tdpmmu.hardware.Tlb;
import dev.tdpmmu.slot.Backing;
import dev.tdpmmu.sync.ReaderSlot;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * How much longer does a walk through the guest's tables and the host's take than one through the host's alone?
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar TwoDimensionalWalkBenchmark -prof gc}. Walks go to neighbouring
 * pages of a guest of 64 MiB, so that no translation of the page itself is cached, but the tables near it are. The
 * cold ones begin with empty TLBs; {@link #emptyBothTlbs} is what emptying costs.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"})
public class TwoDimensionalWalkBenchmark {
    private static final int BATCH = 1024;
    private static final int LEVELS = 4;
    private static final long PAGES = 1L << 14;
    private static final long DATA = PAGES << Gfn.PAGE_SHIFT;
    private static final long BYTES = 2 * DATA;
    private static final long TABLES = 0;
    private static final long GVA = 0x7f00_0000_0000L;
    private static final int HIT_PAGES = 32;

    /** Makes the benchmark. */
    public TwoDimensionalWalkBenchmark() {}

    /** A guest whose tables and pages are all mapped, with every flag set. */
    @State(Scope.Benchmark)
    public static class Guest {
        /** Whose second level. */
        @Param({"EPT4", "NPT4"})
        public PagingMode mode;

        final Tlb tlb = new Tlb();
        final LinearTlb linearTlb = new LinearTlb();
        final LinearResult result = new LinearResult();
        BenchVm bench;
        Vcpu vcpu;
        GuestLinear linear;
        GuestPaging paging;
        ReaderSlot slot;
        HardwareWalker walker;
        GuestPageWalker guestWalker;
        long rootPointer;
        long next;

        /** Makes the state. */
        public Guest() {}

        /** Builds the guest's tables and touches every page. */
        @Setup(Level.Trial)
        public void create() {
            bench = BenchVm.of(
                    BenchVm.config(LockPolicy.PARALLEL).pagingMode(mode).build(),
                    BYTES >>> Gfn.PAGE_SHIFT,
                    Backing.anonymous(PageSize.SIZE_4K));
            GuestTables tables = new GuestTables(bench.vm().memory(), TABLES, LEVELS);
            long flags = GuestPageEntry.PRESENT | GuestPageEntry.WRITABLE | GuestPageEntry.USER;
            for (long page = 0; page < PAGES; page++) {
                long offset = Gfn.toGpa(page);
                tables.map(GVA + offset, DATA + offset, PageSize.SIZE_4K, flags);
            }
            paging = GuestPaging.of(tables.cr3(), LEVELS);
            vcpu = bench.vm().createVcpu();
            linear = vcpu.enablePaging(paging);
            for (long page = 0; page < PAGES; page++) {
                linear.putLong(GVA + Gfn.toGpa(page), page);
            }
            var part = bench.newVcpu();
            slot = part.slot();
            walker = bench.newWalker();
            guestWalker = new GuestPageWalker(walker, bench.vm().config());
            rootPointer = walker.makeRootPointer(part.root().hpa());
        }

        /** Returns all memory. */
        @TearDown(Level.Trial)
        public void close() {
            vcpu.close();
            bench.close();
        }

        long advance() {
            long start = next;
            next = start + BATCH & PAGES - 1;
            return start;
        }

        long walkOne(long page) {
            long gpa = DATA + Gfn.toGpa(page);
            slot.enter(ReaderSlot.WALKING);
            int outcome = walker.walk(tlb, rootPointer, gpa, Access.READ, result.walk);
            tlb.insert(gpa, result.walk);
            slot.leave(ReaderSlot.OUTSIDE);
            return outcome + result.walk.frame;
        }

        long walkTwo(long page) {
            slot.enter(ReaderSlot.WALKING);
            int outcome =
                    guestWalker.walk(tlb, linearTlb, rootPointer, paging, GVA + Gfn.toGpa(page), Access.READ, result);
            slot.leave(ReaderSlot.OUTSIDE);
            return outcome + result.hpa;
        }
    }

    /**
     * Walks the host's tables to neighbours.
     *
     * @param g guest
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long oneDimension(Guest g) {
        long start = g.advance();
        long sum = 0;
        for (long page = start; page < start + BATCH; page++) {
            sum += g.walkOne(page);
        }
        return sum;
    }

    /**
     * Walks both to neighbours.
     *
     * @param g guest
     * @return sum of what was found
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long twoDimensions(Guest g) {
        long start = g.advance();
        long sum = 0;
        for (long page = start; page < start + BATCH; page++) {
            sum += g.walkTwo(page);
        }
        return sum;
    }

    /**
     * Empties both TLBs.
     *
     * @param g guest
     */
    @Benchmark
    public void emptyBothTlbs(Guest g) {
        g.tlb.flushAll();
        g.linearTlb.flushAll();
    }

    /**
     * Walks the host's tables after emptying both TLBs.
     *
     * @param g guest
     * @return what was found
     */
    @Benchmark
    public long oneDimensionCold(Guest g) {
        emptyBothTlbs(g);
        return g.walkOne(g.advance());
    }

    /**
     * Walks both after emptying both TLBs.
     *
     * @param g guest
     * @return what was found
     */
    @Benchmark
    public long twoDimensionsCold(Guest g) {
        emptyBothTlbs(g);
        return g.walkTwo(g.advance());
    }

    /**
     * Loads at guest physical addresses that are cached.
     *
     * @param g guest
     * @return sum of what was loaded
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long physicalHit(Guest g) {
        long sum = 0;
        for (int i = 0; i < BATCH; i++) {
            sum += g.vcpu.getLong(DATA + Gfn.toGpa(i & HIT_PAGES - 1));
        }
        return sum;
    }

    /**
     * Loads at linear addresses that are cached.
     *
     * @param g guest
     * @return sum of what was loaded
     */
    @Benchmark
    @OperationsPerInvocation(BATCH)
    public long linearHit(Guest g) {
        long sum = 0;
        for (int i = 0; i < BATCH; i++) {
            sum += g.linear.getLong(GVA + Gfn.toGpa(i & HIT_PAGES - 1));
        }
        return sum;
    }
}
