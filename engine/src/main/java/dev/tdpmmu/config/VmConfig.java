package dev.tdpmmu.config;

import java.time.Duration;
import java.util.Objects;

/**
 * Everything that is fixed when a VM is made.
 *
 * @param pagingMode format and depth of the tables
 * @param lockPolicy how faults share the MMU lock
 * @param accessedDirty whether hardware sets accessed and dirty bits; NPT needs {@link AccessedDirty#ON}
 * @param executeOnly whether EPT entries may allow fetches alone; ignored for NPT
 * @param physicalAddressBits width of guest and host physical addresses (MAXPHYADDR), 36 to 52
 * @param memoryCapInBytes most host memory that frames and table pages may take, above 0
 * @param maxVcpus most vCPUs at a time, 1 to 65536
 * @param maxRetiredPages table pages that may wait for a grace period before operations that retire more must wait,
 *     above 0
 * @param stallTimeout how long a grace period may take before a report names the reader that holds it, above 0
 * @param backgroundReclaim whether a thread of the VM returns retired table pages; else they return when the VM waits
 *     for them
 * @param fastFix whether faults on present leaves are first tried without the MMU lock
 * @param mmioCaching whether gfns without a slot get an entry, so that their next access skips the slow path
 * @param hugePages largest leaf that faults may install
 * @param slotZap what is zapped when a slot is removed or moved
 * @param unmapLock how the MMU lock is taken when the host takes frames away, or a range is zapped
 * @param dirtyLog how dirty pages are logged
 * @param nx whether huge leaves may be executed
 * @param hardware what the emulated processor can do
 * @param name for reports, not empty
 */
public record VmConfig(
        PagingMode pagingMode,
        LockPolicy lockPolicy,
        AccessedDirty accessedDirty,
        boolean executeOnly,
        int physicalAddressBits,
        long memoryCapInBytes,
        int maxVcpus,
        int maxRetiredPages,
        Duration stallTimeout,
        boolean backgroundReclaim,
        boolean fastFix,
        boolean mmioCaching,
        PageSize hugePages,
        SlotZap slotZap,
        OperationLock unmapLock,
        DirtyLogConfig dirtyLog,
        NxConfig nx,
        HardwareConfig hardware,
        String name) {
    private static final int MIN_ADDRESS_BITS = 36;
    private static final int MAX_ADDRESS_BITS = 52;
    private static final int MAX_VCPUS = 65_536;

    /**
     * Checks every value.
     *
     * @throws IllegalArgumentException naming the value and its limit
     */
    public VmConfig {
        Objects.requireNonNull(pagingMode, "pagingMode");
        Objects.requireNonNull(lockPolicy, "lockPolicy");
        Objects.requireNonNull(accessedDirty, "accessedDirty");
        Objects.requireNonNull(stallTimeout, "stallTimeout");
        Objects.requireNonNull(hugePages, "hugePages");
        Objects.requireNonNull(slotZap, "slotZap");
        Objects.requireNonNull(unmapLock, "unmapLock");
        Objects.requireNonNull(dirtyLog, "dirtyLog");
        Objects.requireNonNull(nx, "nx");
        Objects.requireNonNull(hardware, "hardware");
        Objects.requireNonNull(name, "name");
        if (!pagingMode.isEpt() && accessedDirty == AccessedDirty.OFF) {
            throw new IllegalArgumentException(
                    "NPT always sets accessed and dirty bits: pagingMode=" + pagingMode + ", accessedDirty=OFF");
        }
        if (dirtyLog.pml() && (!pagingMode.isEpt() || accessedDirty == AccessedDirty.OFF)) {
            throw new IllegalArgumentException("a page-modification log needs EPT with A/D bits: pagingMode="
                    + pagingMode + ", accessedDirty=" + accessedDirty);
        }
        checkHardware(pagingMode, hardware, hugePages, nx);
        checkRange("physicalAddressBits", physicalAddressBits, MIN_ADDRESS_BITS, MAX_ADDRESS_BITS);
        checkRange("memoryCapInBytes", memoryCapInBytes, 1, Long.MAX_VALUE);
        checkRange("maxVcpus", maxVcpus, 1, MAX_VCPUS);
        checkRange("maxRetiredPages", maxRetiredPages, 1, Integer.MAX_VALUE);
        if (stallTimeout.isNegative() || stallTimeout.isZero()) {
            throw new IllegalArgumentException("stall timeout is not positive: stallTimeout=" + stallTimeout);
        }
        if (name.isBlank()) {
            throw new IllegalArgumentException("name is blank: name='" + name + "'");
        }
    }

    private static void checkHardware(PagingMode mode, HardwareConfig hardware, PageSize hugePages, NxConfig nx) {
        if (hugePages.level() > hardware.largestPage().level()) {
            throw new IllegalArgumentException("the processor does not know leaves of this size: hugePages=" + hugePages
                    + ", largestPage=" + hardware.largestPage());
        }
        if (!mode.isEpt() && (hardware.modeBasedExecute() || hardware.advancedExitInfo())) {
            throw new IllegalArgumentException(
                    "mode-based execute control and advanced exit information need EPT: pagingMode=" + mode
                            + ", modeBasedExecute=" + hardware.modeBasedExecute() + ", advancedExitInfo="
                            + hardware.advancedExitInfo());
        }
        if (mode.isEpt() && (hardware.guestModeExecuteTrap() || !hardware.noExecute())) {
            throw new IllegalArgumentException(
                    "the execute trap, and tables without no-execute, need NPT: pagingMode=" + mode
                            + ", guestModeExecuteTrap=" + hardware.guestModeExecuteTrap() + ", noExecute="
                            + hardware.noExecute());
        }
        if (nx.mitigation() && !hardware.noExecute()) {
            throw new IllegalArgumentException(
                    "huge leaves cannot be made non-executable without no-execute: nx.mitigation=true, noExecute=false");
        }
    }

    private static void checkRange(String what, long value, long min, long max) {
        if (value < min || value > max) {
            throw new IllegalArgumentException(
                    what + " is out of range: " + what + "=" + value + ", min=" + min + ", max=" + max);
        }
    }

    /**
     * Returns the first guest physical address that does not exist: bounded by the address width and by what the tables
     * map.
     *
     * @return bytes
     */
    public long guestAddressLimit() {
        int mappedBits = 12 + 9 * pagingMode.levels();
        return 1L << Math.min(physicalAddressBits, mappedBits);
    }

    /**
     * Returns a builder with the usual values: EPT with four levels, parallel faults, A/D bits, 46 address bits, no
     * cap, dirty pages logged in a bitmap, by a page-modification log where there can be one.
     *
     * @return new builder
     */
    public static Builder builder() {
        return new Builder();
    }

    /** Collects the values of a {@link VmConfig}. Not safe for use by several threads. */
    public static final class Builder {
        private PagingMode pagingMode = PagingMode.EPT4;
        private LockPolicy lockPolicy = LockPolicy.PARALLEL;
        private AccessedDirty accessedDirty = AccessedDirty.ON;
        private boolean executeOnly = true;
        private int physicalAddressBits;
        private long memoryCapInBytes = Long.MAX_VALUE;
        private int maxVcpus = MAX_VCPUS;
        private int maxRetiredPages = 65_536;
        private Duration stallTimeout = Duration.ofSeconds(10);
        private boolean backgroundReclaim = true;
        private boolean fastFix = true;
        private boolean mmioCaching = true;
        private PageSize hugePages = PageSize.SIZE_1G;
        private SlotZap slotZap = SlotZap.ALL_ROOTS;
        private OperationLock unmapLock = OperationLock.SHARED;
        private DirtyTracking dirtyTracking = DirtyTracking.GET_AND_CLEAR;
        private boolean pml = true;
        private int dirtyRingEntries = 4096;
        private boolean eagerSplit = true;
        private OperationLock clearLock = OperationLock.SHARED;
        private boolean nxMitigation;
        private int nxRecoveryRatio = 60;
        private Duration nxRecoveryPeriod = Duration.ZERO;
        private HardwareConfig hardware = HardwareConfig.DEFAULT;
        private String name = "vm";

        private Builder() {}

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
         * Sets how faults share the MMU lock.
         *
         * @param value the policy
         * @return this
         */
        public Builder lockPolicy(LockPolicy value) {
            lockPolicy = value;
            return this;
        }

        /**
         * Sets whether hardware maintains accessed and dirty bits.
         *
         * @param value on, or off with EPT
         * @return this
         */
        public Builder accessedDirty(AccessedDirty value) {
            accessedDirty = value;
            return this;
        }

        /**
         * Sets whether EPT may allow fetches alone.
         *
         * @param value whether it may
         * @return this
         */
        public Builder executeOnly(boolean value) {
            executeOnly = value;
            return this;
        }

        /**
         * Sets the width of physical addresses; without it 46 for four levels and 51 for five.
         *
         * @param value 36 to 52
         * @return this
         */
        public Builder physicalAddressBits(int value) {
            checkRange("physicalAddressBits", value, MIN_ADDRESS_BITS, MAX_ADDRESS_BITS);
            physicalAddressBits = value;
            return this;
        }

        /**
         * Caps host memory for frames and table pages.
         *
         * @param value bytes, above 0
         * @return this
         */
        public Builder memoryCapInBytes(long value) {
            memoryCapInBytes = value;
            return this;
        }

        /**
         * Limits how many vCPUs there may be at a time.
         *
         * @param value 1 to 65536
         * @return this
         */
        public Builder maxVcpus(int value) {
            maxVcpus = value;
            return this;
        }

        /**
         * Bounds the table pages that wait for a grace period.
         *
         * @param value pages, above 0
         * @return this
         */
        public Builder maxRetiredPages(int value) {
            maxRetiredPages = value;
            return this;
        }

        /**
         * Sets when a grace period counts as stalled.
         *
         * @param value above 0
         * @return this
         */
        public Builder stallTimeout(Duration value) {
            stallTimeout = value;
            return this;
        }

        /**
         * Sets who returns retired table pages to the pool.
         *
         * @param value a thread of the VM, or whoever waits for a grace period
         * @return this
         */
        public Builder backgroundReclaim(boolean value) {
            backgroundReclaim = value;
            return this;
        }

        /**
         * Switches the lock-free fix of present leaves.
         *
         * @param value whether it is tried
         * @return this
         */
        public Builder fastFix(boolean value) {
            fastFix = value;
            return this;
        }

        /**
         * Switches entries for gfns without a slot.
         *
         * @param value whether they are installed
         * @return this
         */
        public Builder mmioCaching(boolean value) {
            mmioCaching = value;
            return this;
        }

        /**
         * Limits the size of leaves.
         *
         * @param value largest size
         * @return this
         */
        public Builder hugePages(PageSize value) {
            hugePages = value;
            return this;
        }

        /**
         * Sets what is zapped when a slot is removed or moved.
         *
         * @param value all roots, or the slot's range
         * @return this
         */
        public Builder slotZap(SlotZap value) {
            slotZap = value;
            return this;
        }

        /**
         * Sets how the MMU lock is taken when the host takes frames away.
         *
         * @param value shared or exclusive
         * @return this
         */
        public Builder unmapLock(OperationLock value) {
            unmapLock = value;
            return this;
        }

        /**
         * Sets how dirty pages are reported.
         *
         * @param value bitmap or ring
         * @return this
         */
        public Builder dirtyTracking(DirtyTracking value) {
            dirtyTracking = value;
            return this;
        }

        /**
         * Switches the page-modification log, for EPT with A/D bits; ignored elsewhere.
         *
         * @param value whether the hardware logs stores
         * @return this
         */
        public Builder pml(boolean value) {
            pml = value;
            return this;
        }

        /**
         * Sets the size of each vCPU's dirty ring.
         *
         * @param value entries, a power of two, 1024 to 65536
         * @return this
         */
        public Builder dirtyRingEntries(int value) {
            dirtyRingEntries = value;
            return this;
        }

        /**
         * Switches the split of huge leaves ahead of stores while a slot is logged.
         *
         * @param value whether they are split eagerly
         * @return this
         */
        public Builder eagerSplit(boolean value) {
            eagerSplit = value;
            return this;
        }

        /**
         * Sets how the MMU lock is taken to arm dirty pages again.
         *
         * @param value shared or exclusive
         * @return this
         */
        public Builder clearLock(OperationLock value) {
            clearLock = value;
            return this;
        }

        /**
         * Switches the mitigation that forbids the execution of huge leaves.
         *
         * @param value whether they lack X
         * @return this
         */
        public Builder nxHugePageMitigation(boolean value) {
            nxMitigation = value;
            return this;
        }

        /**
         * Sets which part of the tables that a fetch has split is zapped in a round of recovery.
         *
         * @param value one of so many, 0 to 3600; 0 for never
         * @return this
         */
        public Builder nxRecoveryRatio(int value) {
            nxRecoveryRatio = value;
            return this;
        }

        /**
         * Sets the time between two rounds of recovery.
         *
         * @param value not negative; zero for one hour divided by the ratio
         * @return this
         */
        public Builder nxRecoveryPeriod(Duration value) {
            nxRecoveryPeriod = value;
            return this;
        }

        /**
         * Sets what the emulated processor can do. A smaller largest leaf also limits {@link #hugePages}.
         *
         * @param value the capabilities
         * @return this
         */
        public Builder hardware(HardwareConfig value) {
            hardware = value;
            return this;
        }

        /**
         * Names the VM in reports.
         *
         * @param value not blank
         * @return this
         */
        public Builder name(String value) {
            name = value;
            return this;
        }

        /**
         * Makes the configuration.
         *
         * @return the record
         * @throws IllegalArgumentException naming a value that is out of range
         */
        public VmConfig build() {
            Objects.requireNonNull(pagingMode, "pagingMode");
            int bits = physicalAddressBits != 0 ? physicalAddressBits : pagingMode.levels() == 4 ? 46 : 51;
            boolean canLog = pagingMode.isEpt() && accessedDirty == AccessedDirty.ON;
            return new VmConfig(
                    pagingMode,
                    lockPolicy,
                    accessedDirty,
                    executeOnly,
                    bits,
                    memoryCapInBytes,
                    maxVcpus,
                    maxRetiredPages,
                    stallTimeout,
                    backgroundReclaim,
                    fastFix,
                    mmioCaching,
                    largestLeaf(),
                    slotZap,
                    unmapLock,
                    new DirtyLogConfig(dirtyTracking, pml && canLog, dirtyRingEntries, eagerSplit, clearLock),
                    new NxConfig(nxMitigation, nxRecoveryRatio, nxRecoveryPeriod),
                    hardware,
                    name);
        }

        private PageSize largestLeaf() {
            return hardware != null
                            && hugePages != null
                            && hardware.largestPage().level() < hugePages.level()
                    ? hardware.largestPage()
                    : hugePages;
        }
    }
}
