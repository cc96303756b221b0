package dev.tdpmmu;

/** Says that a linear address cannot be translated at all: a general protection fault. No table was looked at. */
public final class NonCanonicalAddressException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    /** Where. */
    private final long gva;

    NonCanonicalAddressException(long gva, int linearAddressBits) {
        super("linear address is not canonical: gva=0x" + Long.toHexString(gva) + ", linearAddressBits="
                + linearAddressBits);
        this.gva = gva;
    }

    /**
     * Returns where.
     *
     * @return guest linear address of the access
     */
    public long gva() {
        return gva;
    }
}
