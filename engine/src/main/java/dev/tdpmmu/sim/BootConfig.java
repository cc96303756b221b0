package dev.tdpmmu.sim;

import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.PagingMode;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;

/**
 * What a boot shall do.
 *
 * @param vcpus how many, 1 to 65536
 * @param memoryBytes guest memory: a positive multiple of the page size, at least 4 KiB a vCPU, at most 4 TiB
 * @param touch whether all memory that no trace uses is touched as well
 * @param threads kind of thread that runs a vCPU
 * @param policies lock policies, one run each, in this order; at least one, none twice
 * @param pagingMode format and depth of the tables
 * @param pageSize size of the frames and of the largest leaf
 * @param traces what the vCPUs replay, given out round robin; at least one
 */
public record BootConfig(
        int vcpus,
        long memoryBytes,
        boolean touch,
        FleetThreads threads,
        List<LockPolicy> policies,
        PagingMode pagingMode,
        PageSize pageSize,
        List<Trace> traces) {
    /** Most vCPUs. */
    public static final int MAX_VCPUS = 65_536;

    /** Most guest memory in bytes. */
    public static final long MAX_MEMORY_BYTES = 1L << 42;

    /** How many vCPUs there are unless somebody says otherwise. */
    public static final int DEFAULT_VCPUS = 1_000;

    /** Guest memory in bytes unless somebody says otherwise: each of 1,000 vCPUs has room for programs of 2,000 pages. */
    public static final long DEFAULT_MEMORY_BYTES = 8L << 30;

    /**
     * Checks every value.
     *
     * @throws IllegalArgumentException naming the value and its limit
     */
    public BootConfig {
        Objects.requireNonNull(threads, "threads");
        Objects.requireNonNull(pagingMode, "pagingMode");
        Objects.requireNonNull(pageSize, "pageSize");
        policies = List.copyOf(policies);
        traces = List.copyOf(traces);
        if (vcpus < 1 || vcpus > MAX_VCPUS) {
            throw new IllegalArgumentException(
                    "number of vCPUs is out of range: vcpus=" + vcpus + ", min=1, max=" + MAX_VCPUS);
        }
        long min = Math.max(pageSize.bytes(), vcpus * Gfn.PAGE_SIZE);
        if (memoryBytes < min || memoryBytes > MAX_MEMORY_BYTES) {
            throw new IllegalArgumentException("guest memory is out of range: memoryBytes=" + memoryBytes + ", min="
                    + min + ", max=" + MAX_MEMORY_BYTES + ", vcpus=" + vcpus + ", pageSize=" + pageSize);
        }
        if ((memoryBytes & (pageSize.bytes() - 1)) != 0) {
            throw new IllegalArgumentException("guest memory is no multiple of the page size: memoryBytes="
                    + memoryBytes + ", pageSize=" + pageSize + ", pageBytes=" + pageSize.bytes());
        }
        if (policies.isEmpty() || new HashSet<>(policies).size() != policies.size()) {
            throw new IllegalArgumentException("policies are none, or one is there twice: policies=" + policies);
        }
        if (traces.isEmpty()) {
            throw new IllegalArgumentException("there is no trace: traces=[], min=1");
        }
    }

    /**
     * Returns a builder with the usual values: 1,000 vCPUs on virtual threads, 8 GiB, all of it touched, every policy,
     * EPT with four levels, 4 KiB pages.
     *
     * @param traces what the vCPUs replay, given out round robin; at least one
     * @return new builder
     */
    public static Builder builder(List<Trace> traces) {
        return new Builder(traces);
    }

    /** Collects the values of a {@link BootConfig}. Not safe for use by several threads. */
    public static final class Builder {
        private final List<Trace> traces;
        private int vcpus = DEFAULT_VCPUS;
        private long memoryBytes = DEFAULT_MEMORY_BYTES;
        private boolean touch = true;
        private FleetThreads threads = FleetThreads.VIRTUAL;
        private List<LockPolicy> policies = List.of(LockPolicy.values());
        private PagingMode pagingMode = PagingMode.EPT4;
        private PageSize pageSize = PageSize.SIZE_4K;

        private Builder(List<Trace> traces) {
            this.traces = traces;
        }

        /**
         * Sets how many vCPUs there are.
         *
         * @param value 1 to 65536
         * @return this
         */
        public Builder vcpus(int value) {
            vcpus = value;
            return this;
        }

        /**
         * Sets the guest memory.
         *
         * @param value bytes, a multiple of the page size
         * @return this
         */
        public Builder memoryBytes(long value) {
            memoryBytes = value;
            return this;
        }

        /**
         * Sets whether memory that no trace uses is touched.
         *
         * @param value whether it is
         * @return this
         */
        public Builder touch(boolean value) {
            touch = value;
            return this;
        }

        /**
         * Sets the kind of thread that runs a vCPU.
         *
         * @param value platform or virtual
         * @return this
         */
        public Builder threads(FleetThreads value) {
            threads = value;
            return this;
        }

        /**
         * Sets the lock policies.
         *
         * @param value one run each, in this order
         * @return this
         */
        public Builder policies(List<LockPolicy> value) {
            policies = value;
            return this;
        }

        /**
         * Sets format and depth of the tables.
         *
         * @param value the mode
         * @return this
         */
        public Builder pagingMode(PagingMode value) {
            pagingMode = value;
            return this;
        }

        /**
         * Sets the size of frames and of the largest leaf.
         *
         * @param value the size
         * @return this
         */
        public Builder pageSize(PageSize value) {
            pageSize = value;
            return this;
        }

        /**
         * Makes the configuration.
         *
         * @return the record
         * @throws IllegalArgumentException naming a value that is out of range
         */
        public BootConfig build() {
            return new BootConfig(vcpus, memoryBytes, touch, threads, policies, pagingMode, pageSize, traces);
        }
    }
}
