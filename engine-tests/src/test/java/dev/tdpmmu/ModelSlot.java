package dev.tdpmmu;

import dev.tdpmmu.slot.HostPages;
import dev.tdpmmu.slot.MemSlot;
import java.util.BitSet;
import java.util.HashMap;
import java.util.Map;

/** What a model knows of one slot: its bytes, what its log must and may hand out, what the host has protected. */
final class ModelSlot {
    MemSlot handle;

    /** What was written, by offset; all other bytes are zero. */
    final Map<Long, Byte> bytes = new HashMap<>();

    /** Pages whose stores were not handed out yet. */
    final BitSet must = new BitSet();

    /** Pages that may be handed out as well: opened for a store that was not made, or logged and not armed again. */
    final BitSet may = new BitSet();

    /** Pages that were collected from a ring and are not armed yet: a store to them is covered by that. */
    final BitSet inFlight = new BitSet();

    /** Pages that were collected from a ring under an earlier log: the ring keeps them until it is reset. */
    final BitSet stale = new BitSet();

    /** Pages that the host has protected. */
    final BitSet isProtected = new BitSet();

    /** The host's pages behind the slot, or null. */
    final HostPages host;

    /** Whether the slot's log runs. */
    boolean logs;

    ModelSlot(MemSlot handle, HostPages host) {
        this.handle = handle;
        this.host = host;
    }

    boolean contains(long gpa) {
        return gpa >= handle.gpa() && gpa < handle.gpa() + handle.bytes();
    }

    int page(long gpa) {
        return (int) (gpa - handle.gpa() >>> 12);
    }

    byte byteAt(long gpa) {
        return bytes.getOrDefault(gpa - handle.gpa(), (byte) 0);
    }

    /**
     * An access for writing has begun, and may be in the log whatever comes of it; also in one that starts later, where
     * hardware or a ring keeps the page until then.
     */
    void opened(long gpa) {
        may.set(page(gpa));
    }

    /** A store was made. */
    void stored(long gpa) {
        if (logs && !inFlight.get(page(gpa))) {
            must.set(page(gpa));
        }
    }

    /** Forgets what was written to some pages. */
    void empty(long firstPage, long pages) {
        bytes.keySet().removeIf(offset -> offset >>> 12 >= firstPage && offset >>> 12 < firstPage + pages);
    }
}
