package dev.tdpmmu.slot;

import java.util.ArrayList;
import java.util.List;

/** A listener that writes down what it hears, with the words as it finds them, and does then what a test asks for. */
final class HostRecorder implements HostPagesListener {
    private static final Runnable NOTHING = () -> {};

    final List<String> heard = new ArrayList<>();
    final List<Long> wordsAtStart = new ArrayList<>();
    final List<Long> wordsAtWait = new ArrayList<>();
    final List<Long> wordsAtEnd = new ArrayList<>();

    /** What the guests still do before their mappings are gone. */
    Runnable atStart = NOTHING;

    /** What the devices still do before they end. */
    Runnable atWait = NOTHING;

    Runnable atEnd = NOTHING;

    private long watched;

    @Override
    public void invalidateStart(HostPages pages, long firstPage, long endPage, boolean mayBlock) {
        atStart.run();
        watched = firstPage;
        heard.add("start " + firstPage + " " + endPage + (mayBlock ? "" : " now"));
        wordsAtStart.add(pages.word(firstPage));
    }

    @Override
    public void awaitReaders(HostPages pages) {
        atWait.run();
        heard.add("wait");
        wordsAtWait.add(pages.word(watched));
    }

    @Override
    public void invalidateEnd(HostPages pages, long firstPage, long endPage) {
        heard.add("end " + firstPage + " " + endPage);
        wordsAtEnd.add(pages.word(firstPage));
        atEnd.run();
    }

    /** Forgets what it heard, not what it does. */
    void forget() {
        heard.clear();
        wordsAtStart.clear();
        wordsAtWait.clear();
        wordsAtEnd.clear();
    }
}
