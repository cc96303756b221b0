package dev.tdpmmu.base;

/** What a guest wants to do with a page, as bits that can be combined. Neutral: neither EPT's words nor NPT's. */
public final class Access {
    /** Load. */
    public static final int READ = 1;

    /** Store. */
    public static final int WRITE = 2;

    /** Instruction fetch. */
    public static final int EXECUTE = 4;

    /** Everything. */
    public static final int ALL = READ | WRITE | EXECUTE;

    private Access() {}

    /**
     * Writes access bits as {@code rwx}, with a dash for what is missing.
     *
     * @param access bits of this class
     * @return three characters
     */
    public static String text(int access) {
        return ((access & READ) != 0 ? "r" : "-")
                + ((access & WRITE) != 0 ? "w" : "-")
                + ((access & EXECUTE) != 0 ? "x" : "-");
    }
}
