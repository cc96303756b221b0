package dev.tdpmmu;

import dev.tdpmmu.memory.HostMemory;
import dev.tdpmmu.memory.HostWords;
import dev.tdpmmu.memory.Interleave;
import dev.tdpmmu.sync.LockMode;
import org.agrona.collections.LongHashSet;

/**
 * Watches one operation of the calling thread: which table entries it touches between two looks for waiters, and,
 * where asked, how many more it touches once somebody waits for the lock.
 *
 * <p>The waiter is a count in the lock's own word: it comes after some entries, goes when the operation has given
 * way, and comes again. So each run is the same, and no second thread is needed.
 */
final class Onlooker implements Interleave.Hook, AutoCloseable {
    private final Thread thread = Thread.currentThread();
    private final Runnable now;
    private final boolean epochs;
    private final int entriesBeforeWaiter;
    private final LongHashSet entries = new LongHashSet();
    private final LongHashSet entriesWhileWaiting = new LongHashSet();
    private long lockWord;
    private int entriesOfGap;
    private boolean waits;
    private int worst;
    private int worstWait;
    private int turns;

    private Onlooker(Vm vm, boolean epochs, int entriesBeforeWaiter, Runnable now) {
        this.epochs = epochs;
        this.now = now;
        this.entriesBeforeWaiter = Integer.MAX_VALUE;
        Interleave.install(new LockWordFinder());
        vm.mmu().lock().isContended(LockMode.SHARED);
        Interleave.install(this);
    }

    private Onlooker(Vm vm, int entriesBeforeWaiter) {
        this.epochs = false;
        this.now = () -> {};
        this.entriesBeforeWaiter = entriesBeforeWaiter;
        Interleave.install(new LockWordFinder());
        vm.mmu().lock().isContended(LockMode.SHARED);
        Interleave.install(this);
    }

    /** Nobody waits; counts the entries from look to look. */
    static Onlooker alone(Vm vm) {
        return new Onlooker(vm, false, 0, () -> {});
    }

    /** Nobody waits; counts the entries of an epoch, and does something at each entry. */
    static Onlooker ofEpochs(Vm vm, Runnable atEachEntry) {
        return new Onlooker(vm, true, 0, atEachEntry);
    }

    /** Somebody comes whenever so many entries have been touched, and waits. */
    static Onlooker waiting(Vm vm, int entriesBeforeWaiter) {
        return new Onlooker(vm, entriesBeforeWaiter);
    }

    private final class LockWordFinder implements Interleave.Hook {
        @Override
        public void access(Interleave.Kind kind, long address) {
            if (Thread.currentThread() == thread) {
                lockWord = address;
            }
        }

        @Override
        public boolean blocked() {
            return false;
        }

        @Override
        public Object actor() {
            return Thread.currentThread();
        }
    }

    @Override
    public void access(Interleave.Kind kind, long address) {
        if (Thread.currentThread() != thread) {
            return;
        }
        if (HostMemory.isTable(address)) {
            touch(address);
        } else if (epochs ? kind == Interleave.Kind.WRITE : kind == Interleave.Kind.READ && address == lockWord) {
            worst = Math.max(worst, entries.size());
            entries.clear();
        }
    }

    private void touch(long address) {
        entries.add(address);
        if (waits) {
            entriesWhileWaiting.add(address);
        } else if (++entriesOfGap > entriesBeforeWaiter) {
            waits = true;
            HostWords.getAndAdd(lockWord, 1);
        }
        now.run();
    }

    @Override
    public boolean blocked() {
        if (Thread.currentThread() == thread && waits) {
            leave();
            turns++;
        }
        return false;
    }

    private void leave() {
        worstWait = Math.max(worstWait, entriesWhileWaiting.size());
        entriesWhileWaiting.clear();
        entriesOfGap = 0;
        waits = false;
        HostWords.getAndAdd(lockWord, -1);
    }

    @Override
    public Object actor() {
        return Thread.currentThread();
    }

    /** Most entries between two looks, or in one epoch. */
    int worst() {
        return Math.max(worst, entries.size());
    }

    /** Most entries that a waiter had to wait for. */
    int worstWait() {
        return Math.max(worstWait, entriesWhileWaiting.size());
    }

    /** How often somebody who waited was let in. */
    int turns() {
        return turns;
    }

    @Override
    public void close() {
        if (waits) {
            leave();
        }
        Interleave.install(null);
    }
}
