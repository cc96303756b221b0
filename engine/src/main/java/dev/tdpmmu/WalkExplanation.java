package dev.tdpmmu;

import dev.tdpmmu.base.Access;
import dev.tdpmmu.base.PagingLevel;
import dev.tdpmmu.mmu.FaultAnswer;
import dev.tdpmmu.mmu.FaultForecast;
import dev.tdpmmu.slot.MemSlot;
import java.util.List;

/**
 * Why an access to a guest physical address is allowed or refused: every entry on the way, the verdict, and what the
 * MMU would do. A value of the moment: what was read then; tables may have changed since, and between two entries.
 *
 * <p>The verdict is what the processor would find in these very entries. {@link #toString} prints it for people, a
 * line a level.
 *
 * @param gpa guest physical address
 * @param access bits of {@link Access}
 * @param vcpu whose caches were looked at; empty if the tables alone were
 * @param rootHpa host physical address of the root table; -1 if there are no tables
 * @param cached what the vCPU's caches hold for the address: pages, then tables, the smallest first; empty without
 *     vCPU
 * @param flushPending whether the vCPU has to apply a flush before its next access, so that what it has cached may be
 *     gone by then and was not used for the verdict
 * @param steps entries on the way, from the root down; the vCPU skips those above a table that it has cached
 * @param verdict how the access would end
 * @param slot slot of the address; {@link MemSlot#NONE} if there is none
 * @param device whether a device is behind the address, for accesses that no slot serves
 * @param forecast what the MMU would do with the fault
 */
public record WalkExplanation(
        long gpa,
        int access,
        String vcpu,
        long rootHpa,
        List<CachedTranslation> cached,
        boolean flushPending,
        List<WalkStep> steps,
        WalkVerdict verdict,
        MemSlot slot,
        boolean device,
        FaultForecast forecast) {
    /** Copies the lists. */
    public WalkExplanation {
        cached = List.copyOf(cached);
        steps = List.copyOf(steps);
    }

    @Override
    public String toString() {
        var text = new StringBuilder();
        text.append(Access.text(access)).append(" at gpa 0x").append(Long.toHexString(gpa));
        text.append(vcpu.isEmpty() ? ", by the tables alone" : ", as " + vcpu + " would do it")
                .append('\n');
        if (!vcpu.isEmpty()) {
            appendCaches(text);
        }
        for (WalkStep step : steps) {
            text.append("  ").append(step).append('\n');
        }
        text.append("verdict: ").append(verdictText()).append('\n');
        text.append("slot:    ").append(slotText()).append('\n');
        text.append("MMU:     ").append(forecastText()).append('\n');
        return text.toString();
    }

    private void appendCaches(StringBuilder text) {
        for (CachedTranslation entry : cached) {
            text.append("  cached ").append(entry).append('\n');
        }
        if (cached.isEmpty()) {
            text.append("  nothing cached\n");
        }
        if (flushPending) {
            text.append("  a flush is pending: what is cached does not count\n");
        }
    }

    private String verdictText() {
        String by = verdict.cached() ? " by the TLB" : "";
        return switch (verdict.outcome()) {
            case ALLOWED ->
                "allowed" + by + ", " + PagingLevel.name(verdict.level()) + " page, hpa 0x"
                        + Long.toHexString(verdict.hpa());
            case VIOLATION, MISCONFIGURATION ->
                verdict.outcome().text() + by + " at level " + PagingLevel.name(verdict.level()) + ": "
                        + verdict.reason();
            case NO_TABLES -> "no tables yet: a vCPU makes a root first";
        };
    }

    private String slotText() {
        return slot
                + (slot.exists() && slot.isReadOnly() ? ", stores forbidden" : "")
                + (slot.exists() && slot.logsDirty() ? ", stores logged" : "")
                + (forecast.watched() ? ", page watched" : "")
                + (device ? ", a device answers" : "");
    }

    private String forecastText() {
        FaultAnswer answer = forecast.answer();
        String level = forecast.level() == 0 ? "" : " (" + PagingLevel.name(forecast.level()) + ")";
        boolean needsDevice = answer == FaultAnswer.EMULATE_NO_SLOT || answer == FaultAnswer.EMULATE_READ_ONLY;
        return answer.text() + level + (needsDevice && !device ? "; no device is there, so it is refused" : "");
    }
}
