package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.Gfn;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.hardware.TlbView;

/**
 * What a vCPU's caches hold for an address.
 *
 * @param table whether it is a table from which a walk begins, not a page
 * @param level level of the table, or of the page, 1 to 4
 * @param gpa first guest physical address that it serves
 * @param bytes how many it serves
 * @param hpa host physical address of the page's first byte, or of the table page
 * @param permissions bits of {@link Access}: of a page those that are cached, a store only once the leaf has D; of a
 *     table those that the entries above it allow
 */
public record CachedTranslation(boolean table, int level, long gpa, long bytes, long hpa, int permissions) {
    static CachedTranslation of(TlbView view) {
        return new CachedTranslation(
                view.table, view.level, Gfn.toGpa(view.gfn), Gfn.toGpa(view.pages), view.hpa, view.permissions);
    }

    @Override
    public String toString() {
        return (table ? "table of " : "page of ") + PagingLevel.name(level) + " at 0x" + Long.toHexString(hpa) + " "
                + Access.text(permissions) + " for 0x" + Long.toHexString(gpa) + "-0x"
                + Long.toHexString(gpa + bytes);
    }
}
