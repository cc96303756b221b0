package dev.tdpmmu.slot;

import java.util.ArrayList;

/**
 * Who hears of the changes of one {@link HostPages}. Protected by its host lock, so that the set that heard a start is
 * the set that hears its end.
 */
final class HostListeners {
    /** One listener, once for each time that it was added. */
    private static final class Entry {
        final HostPagesListener listener;
        int times = 1;

        Entry(HostPagesListener listener) {
            this.listener = listener;
        }
    }

    private final HostPages pages;
    private final ArrayList<Entry> entries = new ArrayList<>();

    HostListeners(HostPages pages) {
        this.pages = pages;
    }

    void add(HostPagesListener listener) {
        int index = indexOf(listener);
        if (index < 0) {
            entries.add(new Entry(listener));
        } else {
            entries.get(index).times++;
        }
    }

    void remove(HostPagesListener listener) {
        int index = indexOf(listener);
        if (index < 0) {
            throw new IllegalArgumentException(
                    "listener was not added, or removed as often: listener=" + listener + ", pages=" + pages);
        }
        Entry entry = entries.get(index);
        entry.times--;
        if (entry.times == 0) {
            entries.remove(index);
        }
    }

    private int indexOf(HostPagesListener listener) {
        for (int i = 0; i < entries.size(); i++) {
            if (entries.get(i).listener == listener) {
                return i;
            }
        }
        return -1;
    }

    /** Begins on all listeners or, if one throws, on none. */
    void start(long firstPage, long endPage, boolean mayBlock) {
        int begun = 0;
        try {
            for (Entry entry : entries) {
                entry.listener.invalidateStart(pages, firstPage, endPage, mayBlock);
                begun++;
            }
        } finally {
            if (begun < entries.size()) {
                end(0, begun, firstPage, endPage);
            }
        }
    }

    void awaitReaders() {
        for (Entry entry : entries) {
            entry.listener.awaitReaders(pages);
        }
    }

    void end(long firstPage, long endPage) {
        end(0, entries.size(), firstPage, endPage);
    }

    /** Ends on each listener even if one throws: a VM that never hears its end never finishes a fault again. */
    private void end(int from, int to, long firstPage, long endPage) {
        if (from < to) {
            try {
                entries.get(from).listener.invalidateEnd(pages, firstPage, endPage);
            } finally {
                end(from + 1, to, firstPage, endPage);
            }
        }
    }
}
