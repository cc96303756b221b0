package dev.tdpmmu.hardware;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.List;

/**
 * Tells what the processor makes of one entry, for people who ask why an access was refused. Immutable; reads no
 * memory and changes none.
 *
 * <p>The judge is the walker itself: this class asks the predicates that the walk asks, and adds only words. Which
 * part of an entry is malformed is found by experiment: a well-formed entry gets that part alone, and the walker
 * judges it.
 */
public final class EntryDecoder {
    private static final String[] EPT_MEMORY_TYPES = {"UC", "WC", "type2", "type3", "WT", "WP", "WB", "type7"};

    private static final int EPT_TYPE_SHIFT = 3;
    private static final long EPT_TYPE = 7L << EPT_TYPE_SHIFT;
    private static final long EPT_IGNORE_PAT = 1L << 6;
    private static final long EPT_WRITE_BACK = 6L << EPT_TYPE_SHIFT;
    private static final long EPT_USER_EXECUTE = 1L << 10;

    private static final long NPT_PRESENT_WRITABLE_USER = 7;
    private static final long NPT_CACHE_CONTROL = 3L << 3;
    private static final int NPT_CACHE_CONTROL_SHIFT = 3;
    private static final long NPT_SMALL_PAT = 1L << 7;
    private static final long NPT_HUGE_PAT = 1L << 12;
    private static final int NPT_PAT_INDEX = 4;

    private final HardwareWalker walker;
    private final boolean ept;
    private final int physicalAddressBits;
    private final boolean userMatters;

    private EntryDecoder(VmConfig config) {
        walker = HardwareWalker.of(config);
        ept = config.pagingMode().isEpt();
        physicalAddressBits = config.physicalAddressBits();
        userMatters = config.hardware().modeBasedExecute() || config.hardware().guestModeExecuteTrap();
    }

    /**
     * Returns the decoder of a VM's entries.
     *
     * @param config of the VM
     * @return decoder that agrees with {@link HardwareWalker#of}
     */
    public static EntryDecoder of(VmConfig config) {
        return new EntryDecoder(config);
    }

    /**
     * Tells whether the processor looks at more than the bits that say that an entry is there.
     *
     * @param entry any value
     * @return whether it is present
     */
    public boolean isPresent(long entry) {
        return walker.isPresent(entry);
    }

    /**
     * Tells whether a present entry is malformed.
     *
     * @param entry any value
     * @param level level of the table that holds it, 1 to 5
     * @return whether a walk that meets it ends with a misconfiguration
     */
    public boolean isMisconfigured(long entry, int level) {
        return walker.isPresent(entry) && walker.isMisconfigured(entry, level);
    }

    /**
     * Tells whether a present entry ends the walk.
     *
     * @param entry present entry
     * @param level level of the table that holds it, 1 to 5
     * @return true for a leaf, false for an entry that points to a table
     */
    public boolean isLeaf(long entry, int level) {
        return walker.isLeaf(entry, level);
    }

    /**
     * Returns what an entry allows by itself.
     *
     * @param entry any value
     * @return bits of {@link Access} and {@link WalkResult#USER}; none if it is not present
     */
    public int permissions(long entry) {
        return walker.isPresent(entry) ? walker.permissionsOf(entry) : 0;
    }

    /**
     * Returns what a path without any entry allows, to begin with.
     *
     * @return every permission
     */
    public int allPermissions() {
        return HardwareWalker.ALL_PERMISSIONS;
    }

    /**
     * Tells whether an access may go through entries that allow something.
     *
     * @param permissions what all entries allow
     * @param access bits of {@link Access}
     * @return whether all of it is allowed
     */
    public boolean allows(int permissions, int access) {
        return walker.allows(permissions, access);
    }

    /**
     * Writes permissions.
     *
     * @param permissions of one entry or of several
     * @return for instance {@code rw-}; with a fourth letter where user-mode has a permission of its own
     */
    public String text(int permissions) {
        String text = Access.text(permissions & Access.ALL);
        return userMatters ? text + ((permissions & WalkResult.USER) != 0 ? "u" : "-") : text;
    }

    /**
     * Tells whether a cached page makes an access fault without a walk.
     *
     * @param tlb of a vCPU at rest
     * @param gpa guest physical address in bytes
     * @param level level of the smallest page that the TLB has for the address
     * @param access bits of {@link Access}
     * @return whether the processor is unhelpful, and the page forbids the access
     */
    public boolean refuses(Tlb tlb, long gpa, int level, int access) {
        return tlb.isUnhelpful() && !walker.allows(tlb.allowed(gpa, level), access);
    }

    /**
     * Returns what the processor reports when a cached page makes an access fault.
     *
     * @param tlb of a vCPU at rest, which {@link #refuses} the access
     * @param gpa guest physical address in bytes
     * @param level level of the page
     * @param access bits of {@link Access}
     * @return bits of {@link ExitQualification} or of {@link NptErrorCode}
     */
    public long refusal(Tlb tlb, long gpa, int level, int access) {
        return violation(access, tlb.allowed(gpa, level), true);
    }

    /**
     * Tells whether the processor has noted that it used an entry.
     *
     * @param entry present entry
     * @return its A bit; false if the processor maintains none
     */
    public boolean isAccessed(long entry) {
        return (entry & walker.accessed) != 0;
    }

    /**
     * Tells whether the processor has noted a store through a leaf.
     *
     * @param entry present entry
     * @return its D bit; false if the processor maintains none
     */
    public boolean isDirty(long entry) {
        return (entry & walker.dirty) != 0;
    }

    /**
     * Returns where a present entry that points to a table points to.
     *
     * @param entry present entry
     * @return host physical address of the table page
     */
    public long table(long entry) {
        return entry & HardwareWalker.ADDRESS;
    }

    /**
     * Returns the frame that a leaf gives to an address.
     *
     * @param leaf present leaf
     * @param gpa guest physical address in bytes
     * @param level level of the table that holds the leaf, 1 to 3
     * @return host physical address of the 4 KiB frame, also inside a huge page
     */
    public long frame(long leaf, long gpa, int level) {
        return HardwareWalker.frameOf(leaf, gpa, level);
    }

    /**
     * Returns the memory type of a leaf.
     *
     * @param leaf present leaf
     * @param level level of the table that holds it, 1 to 5
     * @return for EPT the type and whether it overrides the guest's, for instance {@code WB}; for NPT the index into
     *     the page attribute table, for instance {@code PAT0}
     */
    public String memoryType(long leaf, int level) {
        if (ept) {
            String type = EPT_MEMORY_TYPES[(int) ((leaf & EPT_TYPE) >>> EPT_TYPE_SHIFT)];
            return (leaf & EPT_IGNORE_PAT) != 0 ? type + "!" : type;
        }
        long pat = leaf & (level == PagingLevel.L4K ? NPT_SMALL_PAT : NPT_HUGE_PAT);
        return "PAT"
                + ((int) ((leaf & NPT_CACHE_CONTROL) >>> NPT_CACHE_CONTROL_SHIFT) + (pat != 0 ? NPT_PAT_INDEX : 0));
    }

    /**
     * Says what is wrong with an entry.
     *
     * @param entry any value
     * @param level level of the table that holds it, 1 to 5
     * @return each reason in words, joined by commas; empty if the entry is not {@link #isMisconfigured
     *     misconfigured}
     */
    public String misconfiguration(long entry, int level) {
        if (!isMisconfigured(entry, level)) {
            return "";
        }
        boolean leaf = walker.isLeaf(entry, level);
        long sound = soundEntry(leaf, level);
        if (walker.isMisconfigured(sound, level)) {
            return "leaves of " + PagingLevel.name(level) + " are not supported";
        }
        List<String> reasons = new ArrayList<>();
        for (Field field : fields(entry, leaf, level)) {
            if (walker.isMisconfigured(sound & ~field.mask() | entry & field.mask(), level)) {
                reasons.add(field.words());
            }
        }
        return reasons.isEmpty() ? "several parts together" : String.join(", ", reasons);
    }

    /** A part of an entry that may be malformed by itself, and how that is called. */
    private record Field(long mask, String words) {}

    /**
     * A present entry of the same kind in which nothing can be wrong but that its kind may not exist at the level.
     */
    private long soundEntry(boolean leaf, int level) {
        long size = leaf && level > PagingLevel.L4K ? HardwareWalker.LARGE : 0;
        if (ept) {
            return size | Access.ALL | (leaf ? EPT_WRITE_BACK : 0);
        }
        return size | NPT_PRESENT_WRITABLE_USER;
    }

    private List<Field> fields(long entry, boolean leaf, int level) {
        List<Field> fields = new ArrayList<>();
        if (ept) {
            fields.add(
                    new Field(Access.ALL | EPT_USER_EXECUTE, "permissions " + Access.text((int) entry & Access.ALL)));
            fields.add(
                    leaf
                            ? new Field(EPT_TYPE, "memory type " + ((entry & EPT_TYPE) >>> EPT_TYPE_SHIFT))
                            : new Field(EPT_TYPE | EPT_IGNORE_PAT, "reserved bits 6:3"));
        } else {
            fields.add(new Field(1L << 8, "reserved bit 8"));
            fields.add(new Field(1L << 63, "reserved bit 63"));
        }
        if (!leaf) {
            fields.add(new Field(HardwareWalker.LARGE, "reserved bit 7"));
        } else if (level > PagingLevel.L4K) {
            fields.add(new Field(
                    HardwareWalker.lowAddressBits(level), "address not aligned to " + PagingLevel.name(level)));
        }
        fields.add(new Field(walker.reservedAddress, "address above " + physicalAddressBits + " bits"));
        return fields;
    }

    /**
     * Returns what the processor reports when an access is not allowed.
     *
     * @param access bits of {@link Access}
     * @param permissions bits that all entries of the walk allow
     * @param present whether every entry was present
     * @return bits of {@link ExitQualification} or of {@link NptErrorCode}
     */
    public long violation(int access, int permissions, boolean present) {
        return walker.violationExit(walker.requestOf(access), present ? permissions : 0, present);
    }

    /**
     * Returns what the processor reports when an entry is malformed.
     *
     * @param access bits of {@link Access}
     * @return bits of {@link NptErrorCode}; 0 for EPT
     */
    public long misconfiguration(int access) {
        return walker.misconfigurationExit(walker.requestOf(access));
    }

    /**
     * Describes what the processor reported, in one line.
     *
     * @param exit as {@link #violation} or {@link #misconfiguration(int)} returned it
     * @return for instance {@code access=-w- allowed=r-x linear final}; empty for an EPT misconfiguration
     */
    public String describe(long exit) {
        if (ept) {
            return exit == 0 ? "" : ExitQualification.describe(exit);
        }
        return NptErrorCode.describe(exit);
    }
}
