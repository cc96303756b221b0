package dev.tdpmmu;

/**
 * How an access would end.
 *
 * @param outcome what happens
 * @param level level of the leaf, or of the entry at which the walk ends; 0 without tables
 * @param hpa host physical address of the byte; -1 unless the access is allowed
 * @param cached whether the vCPU's TLB alone decides, without a walk
 * @param exit what the processor reports: bits of {@link dev.tdpmmu.hardware.ExitQualification} or of {@link
 *     dev.tdpmmu.hardware.NptErrorCode}; 0 if the access is allowed, and for an EPT misconfiguration
 * @param reason the exit, or what is malformed, in words; empty if the access is allowed
 */
public record WalkVerdict(Outcome outcome, int level, long hpa, boolean cached, long exit, String reason) {
    /** What happens to an access. */
    public enum Outcome {
        /** It is done. */
        ALLOWED("allowed"),
        /** An entry is not present or forbids it. */
        VIOLATION("violation"),
        /** An entry is malformed. */
        MISCONFIGURATION("misconfiguration"),
        /** There are no tables: a vCPU makes a root before its first access, and then the access is a violation. */
        NO_TABLES("no tables");

        private final String text;

        Outcome(String text) {
            this.text = text;
        }

        /**
         * Returns the outcome in words.
         *
         * @return for instance {@code violation}
         */
        public String text() {
            return text;
        }
    }

    static WalkVerdict allowed(int level, long hpa, boolean cached) {
        return new WalkVerdict(Outcome.ALLOWED, level, hpa, cached, 0, "");
    }

    static WalkVerdict noTables() {
        return new WalkVerdict(Outcome.NO_TABLES, 0, -1, false, 0, "");
    }
}
