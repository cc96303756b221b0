package dev.tdpmmu;

/** What INVVPID forgets, in the order of the instruction's types. */
public enum InvvpidType {
    /** One page of a VPID, global or not. */
    INDIVIDUAL_ADDRESS,
    /** All of a VPID. */
    SINGLE_CONTEXT,
    /** All of all VPIDs. */
    ALL_CONTEXTS,
    /** All of a VPID except global pages. */
    SINGLE_CONTEXT_RETAINING_GLOBALS
}
